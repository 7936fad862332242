"""Reading weights of every layout, and refusing everything else in one sentence, with nothing executed."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sparsegen_tiny import tiny

from sightline.models.sparsegen import SparseGen, SparseGenConfig, convert, initialize, load_sparsegen, save_sparsegen
from sightline.models.sparsegen.checkpoint import METADATA_KEY, PREFIX
from sightline.scene.errors import InputError

CONFIG = tiny(vit_heads=6, patch_size=14, image_size=224)
HYDRA = {
    "data": {"input_size": [16, 16], "normalize_pose": True},
    "model": {
        "type": "query",
        "embed_dims": 16,
        "depth_num": 4,
        "num_query": 6,
        "num_gs_per_query": 2,
        "num_encoder_layers": 1,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "return_intermediate": True,
        "max_scale": 0.1,
        "querty_init": "trunc_normal",
        "position_range": [-0.6, -0.6, -0.6, 0.6, 0.6, 0.6],
    },
    "render": {"fov": 51.98948897809546, "znear": 0.8, "zfar": 1.8},
}


@pytest.fixture(scope="module")
def model():
    return initialize(SparseGen(CONFIG), "short_run", seed=0).eval()


def published(folder: Path, state: dict, **more) -> Path:
    """Write a folder as the official trainer does."""
    buffers = {
        "position_range": torch.tensor(CONFIG.position_range),
        "renderer.background_color": torch.ones(3),
        "renderer.position_range": torch.tensor(CONFIG.position_range),
    }
    content = {
        "diffuser": {PREFIX + key: value for key, value in (buffers | state).items()},
        "iteration": 12,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.99), "lr": 1e-3}]},
    } | more
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(HYDRA))
    torch.save(content, folder / "model.pth")
    return folder / "model.pth"


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_published_layout(model, tmp_path):
    path = published(tmp_path / "run", model.state_dict())
    for source in (path, str(path), path.parent):
        loaded, info = load_sparsegen(source)
        assert same(loaded, model) and loaded.config == CONFIG and not loaded.training
        assert (info.path, info.format, info.iteration) == (path, "model.pth", 12)
        assert info.parameters == sum(p.numel() for p in model.parameters())


def test_bare_state_dict_without_configuration(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    loaded, _ = load_sparsegen(tmp_path / "bare.pth", config=CONFIG)
    assert same(loaded, model)


def test_safetensors_carry_their_configuration(model, tmp_path):
    path = save_sparsegen(model, tmp_path / "m.safetensors", metadata={"iteration": "7", "note": "x"})
    loaded, info = load_sparsegen(path)
    assert same(loaded, model) and info.config == CONFIG and info.iteration == 7 and info.metadata["note"] == "x"
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_half_storage_is_float32_in_memory(model, tmp_path):
    path = save_sparsegen(model, tmp_path / "half.safetensors", dtype=torch.float16)
    assert {t.dtype for t in load_file(path).values()} == {torch.float16}
    loaded, _ = load_sparsegen(path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.input_proj.weight, model.input_proj.weight, rtol=1e-3, atol=1e-4)
    brain, _ = load_sparsegen(path, dtype=torch.bfloat16)
    assert brain.dtype == torch.bfloat16 and brain.gs_decoder[0]["xyz"][0].weight.dtype == torch.float32


def test_convert(model, tmp_path):
    path = published(tmp_path / "run", model.state_dict())
    target = convert(path, tmp_path / "out.safetensors")
    loaded, info = load_sparsegen(target)
    assert same(loaded, model) and info.config == CONFIG and info.iteration == 12
    with pytest.raises(InputError, match="exists"):
        convert(path, target)
    convert(path, target, overwrite=True)


def test_safetensors_with_the_published_names_and_a_yaml_beside(model, tmp_path):
    path = published(tmp_path / "run", model.state_dict())
    save_file({PREFIX + key: value.clone() for key, value in model.state_dict().items()}, path.parent / "w.safetensors")
    loaded, info = load_sparsegen(path.parent / "w.safetensors")
    assert same(loaded, model) and info.format == "safetensors" and info.config == CONFIG


def test_box_of_the_checkpoint_wins(model, tmp_path):
    state = model.state_dict() | {"position_range": torch.tensor([-1.0, -1, -1, 1, 1, 0.7])}
    loaded, _ = load_sparsegen(published(tmp_path / "run", state))
    assert loaded.config.position_range == (-1, -1, -1, 1, 1, 0.7)


def refused(path, *words, **options):
    with pytest.raises(InputError) as caught:
        load_sparsegen(path, **options)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 900
    for word in words:
        assert word in message, message
    return message


def test_missing_foreign_and_misshapen_keys_are_all_named(model, tmp_path):
    state = model.state_dict()
    del state["input_proj.bias"], state["gs_decoder.1.color.4.weight"]
    state |= {
        "lora.up": torch.zeros(1),
        "query_embedding.0.bias": torch.zeros(3),
        "adapt_pos3d.0.bias": torch.zeros(64, dtype=torch.int64),
    }
    refused(
        published(tmp_path / "run", state),
        "model.pth",
        "2 missing: input_proj.bias, gs_decoder.1.color.4.weight",
        "1 foreign: lora.up",
        "query_embedding.0.bias is (3,) instead of (16,)",
        "adapt_pos3d.0.bias holds int64",
    )


def test_long_lists_are_capped_with_a_count(model, tmp_path):
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("transformer.")}
    message = refused(published(tmp_path / "run", state), "missing", "more")
    count = len(model.state_dict()) - len(state)
    assert f"{count} missing" in message and f"and {count - 5} more" in message


def test_wrong_architecture(tmp_path):
    save_file(
        {"model.diffusion_model.input_blocks.0.weight": torch.zeros(4, 4), "vae.x": torch.zeros(2)},
        tmp_path / "sd.safetensors",
    )
    refused(tmp_path / "sd.safetensors", "sd.safetensors", "missing", "2 foreign", "does not fit SparseGen")


def test_layer_numbers_from_outside_are_bounded(model, tmp_path):
    save_file(model.state_dict() | {"transformer.decoder_layers.9999.x": torch.zeros(1)}, tmp_path / "many.safetensors")
    refused(tmp_path / "many.safetensors", "num_decoder_layers", "10000")


class Foreign:
    def __reduce__(self):
        return os.mkdir, (os.environ["SIGHTLINE_TEST_EVIL"],)


def test_pickle_with_foreign_globals_is_not_run(model, tmp_path, monkeypatch):
    evil = tmp_path / "evil"
    monkeypatch.setenv("SIGHTLINE_TEST_EVIL", str(evil))
    path = published(tmp_path / "run", model.state_dict(), extra=Foreign())
    assert "mkdir" in refused(path, "model.pth asks for", "nothing in it was run")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(Foreign(), protocol=4))
    refused(tmp_path / "old.pth", "old-style pickle")
    assert not evil.exists()


@pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["model.pth", "m.safetensors"])
def test_cut_short(model, tmp_path, kind, keep):
    path = (
        published(tmp_path / "run", model.state_dict())
        if kind == "model.pth"
        else save_sparsegen(model, tmp_path / kind)
    )
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    refused(path, kind, "cut short")


def test_damaged_archive(model, tmp_path):
    path = published(tmp_path / "run", model.state_dict())
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 4000] = bytes(4000)
    data[-400:-200] = bytes(200)
    path.write_bytes(bytes(data))
    refused(path, "model.pth")


def test_zip_that_is_no_checkpoint(tmp_path):
    with zipfile.ZipFile(tmp_path / "docs.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "docs.pth", "docs.pth")


@pytest.mark.parametrize("content", [{"diffuser": {}}, {"diffuser": [1]}, {"epoch": 3}, [1, 2], torch.zeros(3), {}])
def test_tensors_of_another_layout(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    refused(tmp_path / "other.pth", "other.pth", "not a SparseGen checkpoint")


@pytest.mark.parametrize(
    "text, word",
    [
        ("model: [", "YAML"),
        ("!!python/object/apply:os.mkdir [x]", "YAML"),
        ("model: 3", "model"),
        ("\x00\xff", "YAML"),
        ("a: &a [x]\nmodel: {embed_dims: *a}", "embed_dims"),
    ],
)
def test_bad_configuration_beside(model, tmp_path, text, word):
    path = published(tmp_path / "run", model.state_dict())
    (path.parent / ".hydra" / "config.yaml").write_text(text, encoding="latin-1")
    refused(path, word)
    assert not (Path.cwd() / "x").exists()


@pytest.mark.parametrize("config", ["{", "[1]", '{"wings": 2}', '{"embed_dims": 17}', '{"vit_depth": 100000}'])
def test_bad_metadata(model, tmp_path, config):
    save_file(model.state_dict(), tmp_path / "m.safetensors", metadata={METADATA_KEY: config})
    refused(tmp_path / "m.safetensors", "onfiguration" if "embed" not in config else "embed_dims")


def test_absent_file(tmp_path):
    refused(tmp_path / "nowhere.pth", "does not exist")
    refused(tmp_path, "does not exist")
    refused("sparsegen-srn-cars", "fetched first", "github.com/Pixtella/SparseGen")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    refused(tmp_path / "text.safetensors", "neither")


def test_changing_loaded_weights_leaves_the_file_alone(model, tmp_path):
    """Weights are mapped from the file; training on them must not write through."""
    for path in (published(tmp_path / "run", model.state_dict()), save_sparsegen(model, tmp_path / "m.safetensors")):
        before = path.read_bytes()
        loaded, _ = load_sparsegen(path)
        with torch.no_grad():
            loaded.input_proj.weight.zero_()
        assert path.read_bytes() == before


def test_inference_mode(model, tmp_path):
    """Hosts load and run inside inference mode, and may run again outside of it."""
    path = save_sparsegen(model, tmp_path / "m.safetensors")
    with torch.inference_mode():
        loaded, _ = load_sparsegen(path)
        inside = loaded.embed_queries()
    with torch.no_grad():
        assert torch.equal(loaded.embed_queries(), inside)


def test_failed_save_leaves_nothing(model, tmp_path, monkeypatch):
    import safetensors.torch

    def fail(state, name, metadata=None):
        Path(name).write_bytes(b"half")
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises((RuntimeError, InputError), match="(?i)space"):
        save_sparsegen(model, tmp_path / "m.safetensors")
    assert os.listdir(tmp_path) == []


def test_metadata_is_json(model, tmp_path):
    from safetensors import safe_open

    with safe_open(save_sparsegen(model, tmp_path / "m.safetensors"), framework="pt") as file:
        assert SparseGenConfig.from_dict(json.loads(file.metadata()[METADATA_KEY])) == CONFIG
