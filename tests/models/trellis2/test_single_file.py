"""Networks out of one file as ComfyUI lays them out."""

import json

import pytest
import torch
from safetensors.torch import save_file

from sightline.models.trellis2.checkpoint import CLASSES
from sightline.models.trellis2.family import core_family
from sightline.models.trellis2.safetensors_file import SafetensorsFile
from sightline.models.trellis2.single_file import ROLES, load_single_file
from sightline.scene.errors import InputError

FLOW = {
    "model_channels": 36, "cond_channels": 20, "num_blocks": 2, "num_heads": 3, "mlp_ratio": 5.3334,
    "pe_mode": "rope", "share_mod": True, "qk_rms_norm": True, "qk_rms_norm_cross": True,
}  # fmt: skip
WIDE = {**FLOW, "image_attn_mode": "proj", "proj_in_channels": 40}
VAE = {"model_channels": [24, 16, 8], "latent_channels": 6, "num_blocks": [2, 0, 1]}
ARGS = {
    "structure_model": {**FLOW, "resolution": 16, "in_channels": 5, "out_channels": 5},
    "img2shape_512": {**WIDE, "resolution": 32, "in_channels": 6, "out_channels": 6},
    "img2shape": {**WIDE, "resolution": 64, "in_channels": 6, "out_channels": 6, "share_mod": False},
    "shape2txt": {**WIDE, "resolution": 64, "in_channels": 12, "out_channels": 6},
    "struct_dec": {"latent_channels": 5, "num_res_blocks": 2, "num_res_blocks_middle": 1, "channels": [16, 8, 4],
                   "out_channels": 1},
    "shape_dec": VAE,
    "txt_dec": {**VAE, "out_channels": 6, "pred_subdiv": False},
}  # fmt: skip


@pytest.fixture
def networks():
    torch.manual_seed(1)
    built = {}
    for prefix, args in ARGS.items():
        model, config = CLASSES[ROLES[prefix][1]]
        built[prefix] = model(config.from_args(args)).eval()
    return built


def merged(networks, outer=""):
    return {
        f"{outer}{prefix}.{key}": value.clone()
        for prefix, network in networks.items()
        for key, value in network.state_dict().items()
        if key != "rope_phases"
    }


@pytest.mark.parametrize("outer", ["", "model.diffusion_model."])
def test_every_network_with_its_sizes_and_weights(networks, outer):
    loaded = load_single_file(merged(networks, outer))
    assert set(loaded) == {role for role, _ in ROLES.values()}
    for prefix, network in networks.items():
        state, one = network.state_dict(), loaded[ROLES[prefix][0]]
        assert type(one) is type(network)
        assert list(one.state_dict()) == list(state)
        assert all(torch.equal(one.state_dict()[key], value) for key, value in state.items())
    assert loaded["shape_slat_flow_model_512"].config.projected_channels == 40
    assert loaded["sparse_structure_flow_model"].config.num_heads == 3


def test_same_output(networks):
    loaded = load_single_file(merged(networks))["sparse_structure_flow_model"]
    x, t, cond = torch.randn(1, 5, 16, 16, 16), torch.tensor([300.0]), torch.randn(1, 4, 20)
    with torch.no_grad():
        assert torch.equal(loaded(x, t, cond), networks["structure_model"](x, t, cond))


def test_torso_dtype_of_the_file_and_asked_for(networks):
    weights = {key: value.bfloat16() for key, value in merged(networks).items()}
    loaded = load_single_file(weights)["shape_slat_decoder"]
    assert loaded.torso_dtype == torch.bfloat16 and loaded.output_layer.weight.dtype == torch.float32
    assert load_single_file(weights, dtype="float32")["shape_slat_decoder"].torso_dtype == torch.float32


def test_from_a_file_that_is_gone_afterwards(networks, tmp_path):
    path = tmp_path / "shape_vae.safetensors"
    save_file(merged({"shape_dec": networks["shape_dec"]}), str(path))
    loaded = load_single_file(SafetensorsFile(path))
    path.write_bytes(b"\0" * path.stat().st_size)
    assert list(loaded) == ["shape_slat_decoder"]
    state = networks["shape_dec"].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded["shape_slat_decoder"].state_dict().items())


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda w: w.clear(), "holds no network"),
        (lambda w: w.pop("img2shape.input_layer.weight"), "has no img2shape.input_layer.weight"),
        (lambda w: w.pop("shape_dec.from_latent.bias"), "missing: from_latent.bias"),
        (lambda w: w.update({"txt_dec.more": torch.zeros(1)}), "foreign: more"),
        (
            lambda w: w.update({"shape2txt.out_layer.weight": torch.zeros(6, 36, dtype=torch.int8)}),
            "is torch.int8, the file is quantized",
        ),
    ],
    ids=["empty", "no size", "missing", "foreign", "int8"],
)
def test_other_files_are_refused_in_one_sentence(networks, change, said):
    weights = merged(networks)
    change(weights)
    with pytest.raises(InputError) as caught:
        load_single_file(weights)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_family_of_core_files_with_its_encoder(networks, tmp_path):
    flows = {prefix: network for prefix, network in networks.items() if not prefix.endswith("_dec")}
    decoders = {prefix: network for prefix, network in networks.items() if prefix.endswith("_dec")}
    save_file(merged(flows, "model.diffusion_model."), str(tmp_path / "flow.safetensors"))
    save_file(merged(decoders), str(tmp_path / "vae.safetensors"))
    files = [tmp_path / "flow.safetensors", tmp_path / "vae.safetensors"]
    cascade = core_family(files)
    assert set(cascade.models) == {role for role, _ in ROLES.values()} and cascade.config.lr_resolution == 512
    assert len(cascade.config.shape_normalization.mean) == 32 == len(cascade.config.tex_normalization.std)
    assert callable(cascade.models["tex_slat_decoder"]) and cascade.get("tex_slat_decoder") is not None
    numbers = {"mean": [0.5] * 6, "std": [2.0] * 6}
    args = {"shape_slat_normalization": numbers, "tex_slat_normalization": numbers, "lr_resolution": 64}
    files[0].with_suffix(".json").write_text(json.dumps({"args": args}))
    assert core_family(files).config.shape_normalization.mean == (0.5,) * 6
    with pytest.raises(InputError, match="another of the files holds too"):
        core_family([*files, files[1]])
