"""Saved latents: the same after reading, refused when they are something else."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.models.trellis2.latents import Latents, load_latents, save_latents
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor


def latents(low=True):
    coords = torch.tensor([[0, 0, 1, 2], [0, 3, 0, 0]], dtype=torch.int32)
    voxels = SparseTensor(torch.randn(2, 3), coords)
    return Latents(coords, voxels if low else None, voxels, voxels.replace(torch.randn(2, 3)), 64)


@pytest.mark.parametrize("low", [True, False])
def test_round_trip(tmp_path, low):
    given = latents(low)
    save_latents(given, tmp_path / "a.safetensors")
    found = load_latents(tmp_path / "a.safetensors")
    assert found.resolution == 64 and (found.low is not None) == low
    assert torch.equal(found.structure, given.structure)
    for a, b in ((found.shape, given.shape), (found.texture, given.texture)):
        assert torch.equal(a.coords, b.coords) and torch.equal(a.feats, b.feats)
    with pytest.raises(InputError):
        save_latents(given, tmp_path / "a.safetensors")
    save_latents(given, tmp_path / "a.safetensors", overwrite=True)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="holds no saved latents"):
        load_latents(path)
    save_latents(latents(), path, overwrite=True)
    tensors = load_file(path)
    tensors["shape.coords"][0, 1] = -1
    save_file(tensors, path, {"format": "sightline-trellis2-latents", "resolution": "64"})
    with pytest.raises(InputError, match="spans -1"):
        load_latents(path)
    del tensors["texture.feats"]
    save_file(tensors, path, {"format": "sightline-trellis2-latents", "resolution": "64"})
    with pytest.raises(InputError, match="holds no saved latents"):
        load_latents(path)
