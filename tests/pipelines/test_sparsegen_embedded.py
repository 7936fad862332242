"""The embedded weights turn the shipped pictures into objects of the same shape and color."""

import json

import pytest
import torch

from sightline.models.sparsegen import load_sparsegen
from sightline.models.sparsegen.weights import EMBEDDED_PATH, TINY
from sightline.pipelines.sparsegen import (
    clean_cameras,
    prepare_images,
    render_splats,
    sample_sparsegen,
    virtual_cameras,
)
from sightline.scene.images import read_rgba
from sightline.scene.views import composite

MAX_BYTES = 8_000_000


@pytest.fixture(scope="module")
def model():
    return load_sparsegen()[0]


def shipped(repository):
    """The shipped pictures [1,4,H,W] with their angles."""
    folder = repository / "workflows" / "inputs"
    for entry in json.loads((folder / "sparsegen_inputs.json").read_text()):
        yield entry, read_rgba(folder / entry["file"])[None]


def test_size_and_name():
    assert EMBEDDED_PATH.stat().st_size < MAX_BYTES
    _, info = load_sparsegen(TINY.name)
    assert info.path == TINY.path and info.iteration > 0


@pytest.mark.parametrize("steps, virtual", [(1, 0), (1, 3), (4, 1), (4, 3)])
def test_shipped_pictures(model, repository, steps, virtual):
    seen = 0
    for entry, picture in shipped(repository):
        size = model.config.input_size
        image = prepare_images(composite(picture), size)
        camera = clean_cameras([entry["azimuth"]], model.config.fov, size, elevation=entry["elevation"])
        splats = sample_sparsegen(model, image, camera, virtual_cameras(camera, virtual), steps=steps).check_finite()
        render = render_splats(splats, camera)
        drawn = render.color.permute(0, 3, 1, 2)
        error = (drawn - image).square().mean()
        inside = render.alpha[0] > 0.5
        assert 0.02 < inside.float().mean() < 0.9, entry["file"]
        # clearly better than its own mean color, let alone an empty picture
        flat = image.mean(dim=(2, 3), keepdim=True)
        assert error < 0.6 * (flat - image).square().mean(), entry["file"]
        opaque = torch.nn.functional.interpolate(picture[:, 3:], (size, size), mode="area")[0, 0] > 0.9
        color, wanted = drawn[0][:, opaque].mean(dim=1), image[0][:, opaque].mean(dim=1)
        assert (color - wanted).abs().max() < 0.2, (entry["file"], color, wanted)
        seen += 1
    assert seen >= 5


def test_the_turn_of_the_world_does_not_matter(model, repository):
    """The object stands in the frame of the given cameras, wherever the first of them is."""
    _, picture = next(iter(shipped(repository)))
    image = prepare_images(composite(picture), model.config.input_size)
    for azimuth in (0.0, 110.0):
        camera = clean_cameras([azimuth], model.config.fov, model.config.input_size)
        drawn = render_splats(sample_sparsegen(model, image, camera), camera).color
        if azimuth == 0:
            first = drawn
    torch.testing.assert_close(drawn, first, rtol=0, atol=5e-3)
