"""SAM 3D's files: told by their keys, sized by their shapes, never executed."""

import json
import os
from pathlib import Path

import pytest
import torch
from sam3d_tiny import ARGS, STEPS, random_part, write_family

from sightline.models.sam3d.checkpoint import build_part, load_part, parts_of, published_names
from sightline.models.sam3d.family import DECODERS, FLOWS, Sam3d, load_sam3d
from sightline.models.sam3d.sizes import gaussian_reach, parts_in, sizes
from sightline.models.sam3d.weights import SAM3D
from sightline.pipelines.published import find
from sightline.scene.errors import InputError

PARTS = [*FLOWS, *DECODERS.values()]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("sam3d") / "checkpoints" / "hf")


def keys(part):
    """Names and shapes of a part as published, on the meta device."""
    return {name: tuple(value.shape) for name, value in published_names(part, build_part(part)).items()}


@pytest.mark.parametrize("part", PARTS)
def test_published_keys_tell_the_part_and_its_size(part):
    shapes = keys(part)
    assert part in parts_in(shapes, shapes)
    prefix = os.path.commonprefix(list(shapes)) if "_base" in next(iter(shapes)) else ""
    prefix = next((p for p in ("_base_models.generator.reverse_fn.backbone.", "_base_models.condition_embedder.")
                   if prefix.startswith(p)), "")  # fmt: skip
    plain = {name.removeprefix(prefix): shape for name, shape in shapes.items()}
    again = build_part(part, sizes(part, plain))
    assert {name: tuple(v.shape) for name, v in again.state_dict().items()} == plain


def test_one_file_may_hold_several_parts():
    both = keys("ss_generator") | keys("ss_condition_embedder")
    assert parts_in(both, both) == ["ss_generator", "ss_condition_embedder"]
    assert parts_in({"layer.weight": 1}, {"layer.weight": (2, 2)}) == []


def test_the_table_of_offsets_knows_its_reach():
    for reach in (0.5, 1.5):
        rep = {"num_gaussians": 8, "voxel_size": reach}
        decoder = build_part("slat_decoder_gs", {"representation_config": rep})
        table = decoder.computed_buffers()["offset_perturbation"].clamp(-6, 6)
        if reach > 1:
            assert gaussian_reach(table) == reach
    assert gaussian_reach(torch.randn(8, 3)) is None and gaussian_reach(torch.zeros(4, 3)) is None


@pytest.mark.parametrize("path", ["", "checkpoints", "checkpoints/hf/pipeline.yaml"])
def test_a_published_folder(published, path):
    root = published.parents[1]
    family = load_sam3d(root / path, formats=list(DECODERS))
    assert all(part in family for part in PARTS)
    assert family.structure_sampler.steps == family.latent_sampler.steps == STEPS
    assert family.structure_sampler.strength == 7 and family.latent_sampler.strength == 1
    assert not any(isinstance(network, torch.nn.Module) for network in family.networks.values()), "read too early"
    for number, part in enumerate(ARGS):
        expected = random_part(part, number).state_dict()
        found = family.get(part).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert family.get("slat_decoder_gs").config.resolution == ARGS["slat_decoder_gs"]["resolution"]


def test_files_without_names_or_configuration(tmp_path):
    folder = write_family(tmp_path / "plain", ".safetensors", config=False)
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(folder / f"file{number}.safetensors")
    family = load_sam3d(folder, formats=list(DECODERS), dtype="float32")
    assert {part for part in PARTS if part in family} == set(PARTS)
    assert family.get("slat_decoder_gs_4").count == 4 and family.get("slat_decoder_gs").count == 32
    assert family.get("ss_generator").config.resolution == 4


@pytest.mark.parametrize(("low_vram", "expected"), [(True, ["meta", "cpu"]), (False, ["meta"])])
def test_low_vram_brings_networks_home(low_vram, expected):
    class Watched(torch.nn.Module):
        def to(self, device):
            places.append(device)
            return self

    places = []
    family = Sam3d({"ss_decoder": Watched}, device="meta", low_vram=low_vram)
    with family.on_device("ss_decoder") as network:
        assert isinstance(network, Watched) and places == ["meta"]
    assert places == expected
    with pytest.raises(InputError, match="no slat_decoder_mesh"), family.on_device("slat_decoder_mesh"):
        pass


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_bad_folders_get_one_sentence(tmp_path, published):
    class Runs:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "evil").mkdir()
    torch.save({"state_dict": Runs()}, tmp_path / "evil" / "ss_generator.ckpt")
    (tmp_path / "empty").mkdir()
    cases = {
        tmp_path / "gone": "no folder",
        tmp_path / "empty": "ss_generator.ckpt",
        tmp_path / "evil": "ss_decoder.ckpt",
        write(tmp_path / "outside", "pipeline.yaml", "ss_generator_ckpt_path: ../x.ckpt"): "does not lie in",
        write(tmp_path / "torn", "pipeline.yaml", "a: [1"): "not a configuration",
        write(tmp_path / "objects", "pipeline.yaml", "a: !!python/object/apply:os.getcwd []"): "not a configuration",
    }
    for folder, complaint in cases.items():
        with pytest.raises(InputError, match=complaint) as error:
            load_sam3d(folder)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no file of plain tensors"):
        load_part("ss_generator", tmp_path / "evil" / "ss_generator.ckpt")
    assert not (tmp_path / "executed").exists()
    with pytest.raises(InputError, match="format 'obj'"):
        load_sam3d(published, formats=["obj"])


def test_wrong_and_cut_files_get_one_sentence(tmp_path, published):
    with pytest.raises(InputError, match="not those of SAM 3D's slat_generator"):
        load_part("slat_generator", published / "ss_decoder.ckpt")
    data = (published / "ss_decoder.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="no file of plain tensors"):
        load_part("ss_decoder", tmp_path / "cut.ckpt")
    state = torch.load(published / "ss_decoder.ckpt", weights_only=True)
    state["out_layer.2.bias"] = torch.tensor([float("nan")])
    torch.save(state, tmp_path / "nan.ckpt")
    with pytest.raises(InputError, match="not finite"):
        load_part("ss_decoder", tmp_path / "nan.ckpt")
    del state["out_layer.2.bias"]
    torch.save(state, tmp_path / "short.ckpt")
    assert parts_of(tmp_path / "short.ckpt") == ["ss_decoder"]
    with pytest.raises(InputError, match="missing: out_layer.2.bias"):
        load_part("ss_decoder", tmp_path / "short.ckpt")


def test_the_published_set_is_described():
    assert "SAM License" in SAM3D.licence and len(SAM3D.files) == 13
    assert json.dumps([file.name for file in SAM3D.files]).count("ss_generator") == 2


def test_the_download_command_says_whose_login_it_needs():
    with pytest.raises(InputError, match="behind a login.*facebook/sam-3d-objects"):
        find("sam3d-objects")
