"""Published checkpoints: dtypes, what is inferred, and every way a file can be wrong, in one sentence."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from trellis2_tiny import FLOW, network

from sightline.models.trellis2.checkpoint import assign_weights, build_model, infer_args, load_model
from sightline.models.trellis2.safetensors_file import SafetensorsFile
from sightline.scene.errors import InputError

ARGS = dict(FLOW, resolution=4, in_channels=2, out_channels=2, dtype="bfloat16")
NAME = "SparseStructureFlowModel"


def weights(**changes):
    return network(NAME, **{**ARGS, "dtype": "float32", **changes}).state_dict()


def write(folder, state, args=ARGS, name=NAME):
    (folder / "model.json").write_text(json.dumps({"name": name, "args": args}))
    save_file({k: v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    return folder / "model"


def test_float32_file_becomes_a_bfloat16_torso(tmp_path):
    state = weights()
    model = load_model(write(tmp_path, state))
    for name, value in model.state_dict().items():
        torso = name.startswith("blocks.") and any(part in name for part in (".to_", ".mlp."))
        if name != "rope_phases":
            assert value.dtype == (torch.bfloat16 if torso else torch.float32), name
            assert torch.equal(value, state[name].to(value.dtype)), name
    assert not any(p.requires_grad for p in model.parameters())
    assert load_model(tmp_path / "model.json", dtype="float32").torso_dtype == torch.float32


def test_the_phases_of_a_file_are_not_read(tmp_path):
    state = weights()
    state["rope_phases"] = torch.full_like(state["rope_phases"], 7 + 7j)
    given = load_model(write(tmp_path, state), dtype="float32")
    del state["rope_phases"]
    without = load_model(write(tmp_path, state), dtype="float32")
    assert torch.equal(given.rope_phases, without.rope_phases)
    assert torch.allclose(given.rope_phases.abs(), torch.ones(()))


@pytest.mark.parametrize("mode, extra", [("proj", 0), ("gated_proj", 16)])
def test_projection_is_inferred_from_the_weights(tmp_path, mode, extra):
    state = weights(image_attn_mode=mode, proj_in_channels=11)
    args = dict(ARGS) if mode == "proj" else dict(ARGS, image_attn_mode=mode)
    model = load_model(write(tmp_path, state, args))
    assert model.config.image_attn_mode == mode
    assert model.config.projected_channels == 11 + extra
    assert infer_args(args, state)["proj_in_channels"] == 11


def test_every_key_that_does_not_fit_is_named(tmp_path):
    state = weights()
    del state["input_layer.bias"], state["blocks.0.modulation"]
    state["blocks.0.extra"] = torch.zeros(1)
    state["out_layer.bias"] = torch.zeros(5)
    with pytest.raises(InputError) as error:
        load_model(write(tmp_path, state))
    text = str(error.value)
    for part in (
        "missing: ",
        "input_layer.bias",
        "blocks.0.modulation",
        "foreign: blocks.0.extra",
        "out_layer.bias [5] instead of [2]",
    ):
        assert part in text
    assert text.count(". ") == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    state = weights()
    state["blocks.0.mlp.mlp.0.weight"][3, 2] = value
    with pytest.raises(InputError, match="blocks.0.mlp.mlp.0.weight .*not finite"):
        load_model(write(tmp_path, state))


def test_overflow_of_the_torso_dtype_is_found():
    state = weights()
    state["blocks.0.mlp.mlp.0.bias"][0] = 1e6
    with pytest.raises(InputError, match="float16"):
        assign_weights(build_model(NAME, ARGS, "float16"), state)


def test_configurations_that_do_not_fit():
    with pytest.raises(InputError, match="Unknown3d.*known are"):
        build_model("Unknown3d", ARGS)
    with pytest.raises(InputError, match="lacks num_blocks"):
        build_model(NAME, {k: v for k, v in ARGS.items() if k != "num_blocks"})
    with pytest.raises(InputError, match="pe_mode.*learned"):
        build_model(NAME, dict(ARGS, pe_mode="learned"))
    with pytest.raises(InputError, match="belong to another model"):
        infer_args(dict(ARGS, image_attn_mode="proj"), weights())
    with pytest.raises(InputError, match="block_type.*Dense"):
        build_model(
            "SparseUnetVaeDecoder", dict(model_channels=[8], latent_channels=2, num_blocks=[0], block_type=["Dense"])
        )
    with pytest.raises(InputError, match="num_blocks.*2.*1"):
        build_model(
            "SparseUnetVaeDecoder", dict(model_channels=[8], latent_channels=2, num_blocks=[0, 1], out_channels=6)
        )


def test_configuration_files_that_are_missing_or_broken(tmp_path):
    stem = write(tmp_path, weights())
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(InputError, match="not a model configuration"):
        load_model(stem)
    (tmp_path / "model.json").unlink()
    with pytest.raises(InputError, match="There is no .*model.json"):
        load_model(stem)


def test_all_dtypes_of_a_file(tmp_path):
    kinds = [
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.uint8,
        torch.complex64,
        torch.float8_e4m3fn,
    ]
    given = {f"t{i}": torch.arange(6).reshape(2, 3).to(kind) for i, kind in enumerate(kinds)}
    given["flags"] = torch.tensor([True, False, True])
    given["empty"] = torch.zeros(0, 4)
    save_file(given, tmp_path / "x.safetensors", metadata={"a": "b"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert set(file) == set(given) and len(file) == len(given) and file.metadata == {"a": "b"}
    for name, value in given.items():
        assert file[name].dtype == value.dtype and file.shape(name) == list(value.shape)
        assert torch.equal(
            file[name].view(torch.uint8) if value.numel() else file[name],
            value.view(torch.uint8) if value.numel() else value,
        )


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a safetensors file"),
        (struct.pack("<Q", 1 << 60) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "unreadable"),
        (struct.pack("<Q", 2) + b"\xff\xff", "unreadable"),
    ],
)
def test_files_that_are_no_safetensors(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message):
        SafetensorsFile(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]},
        {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
    ],
)
def test_tensors_outside_the_file_or_of_another_size(tmp_path, entry):
    header = json.dumps({"x": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(InputError, match="unreadable"):
        SafetensorsFile(tmp_path / "x.safetensors")


def test_unknown_dtypes_can_be_passed_over(tmp_path):
    header = json.dumps({"x": {"dtype": "Q3", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    file = SafetensorsFile(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="unknown type Q3"):
        file["x"]
