"""A family of TRELLIS (v1) from files: lazily, as downloaded, with the makers' own DINOv2 file, and what is refused."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trellis1_family import write_trellis1

from sightline.models.trellis1.family import DECODERS, STEMS, load_dinov2, load_trellis1
from sightline.models.trellis1.weights import ALL, DINOV2, DINOV2_FILE, DINOV2_REPO, TRELLIS1, TRELLIS_REPO
from sightline.pipelines import published
from sightline.scene.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """As `download` puts them: owner/repository/file below one folder."""
    root = tmp_path_factory.mktemp("weights")
    folder = write_trellis1(root / TRELLIS_REPO)
    place = root / DINOV2_REPO
    place.mkdir(parents=True)
    torch.save(load_file(folder / "dinov2_vitl14_reg.safetensors"), place / DINOV2_FILE)
    (folder / "dinov2_vitl14_reg.json").rename((place / DINOV2_FILE).with_suffix(".json"))
    (folder / "dinov2_vitl14_reg.safetensors").unlink()
    return root


def test_networks_are_read_when_they_are_first_used(root):
    family = load_trellis1(root / TRELLIS_REPO)
    assert not any(isinstance(one, nn.Module) for one in family.networks.values())
    network = family.get("slat_flow_model")
    assert isinstance(network, nn.Module) and family.get("slat_flow_model") is network
    assert family.structure_sampler.guidance_strength == 6.0 and family.structure_sampler.steps == 3


def test_all_decoders_that_are_there(root):
    family = load_trellis1(root / TRELLIS_REPO / "pipeline.json", formats=None)
    assert "slat_decoder_gs" in family.networks and "slat_decoder_rf" not in family.networks
    with pytest.raises(InputError, match="slat_decoder_rf"):
        family.get(DECODERS["radiance_field"])
    with pytest.raises(InputError, match="rf_swin8"):
        load_trellis1(root / TRELLIS_REPO, formats=["radiance_field"])


class Runs:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_picture_encoder_that_cannot_be_used(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="download dinov2-vitl14-reg"):
        load_dinov2([tmp_path])
    evil = tmp_path / DINOV2_FILE
    torch.save({"cls_token": Runs()}, evil)
    with pytest.raises(InputError, match="read safely"):
        load_dinov2([], evil)
    assert not (tmp_path / "executed").exists()


def test_a_folder_that_is_no_family(root, tmp_path):
    with pytest.raises(InputError, match="no pipeline.json"):
        load_trellis1(tmp_path)
    shutil.copytree(root / TRELLIS_REPO, tmp_path / "family")
    (tmp_path / "family" / "pipeline.json").write_text("[]")
    with pytest.raises(InputError, match="not a configuration"):
        load_trellis1(tmp_path / "family")
    outside = {"args": {"models": {"slat_flow_model": "../../slat_flow_model"}}}
    (tmp_path / "family" / "pipeline.json").write_text(json.dumps(outside))
    with pytest.raises(InputError, match="ss_flow|not found|does not stay"):
        load_trellis1(tmp_path / "family")


def test_the_registry_knows_every_file():
    names = {file.name for file in TRELLIS1.files}
    assert names == {
        "pipeline.json",
        *(f"ckpts/{stem}.{end}" for stem in STEMS.values() for end in ("json", "safetensors")),
    }
    assert TRELLIS1.licence == "MIT" and DINOV2.licence == "Apache-2.0"
    assert published.needs(TRELLIS1) == ([DINOV2], []) and all(published.find(one.name) is one for one in ALL)
