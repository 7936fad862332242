"""The LoRA: published names, validation, and that it trains."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.models.seethrough3d.lora import (
    Adapter,
    ConditionLora,
    LoraShape,
    adapters,
    build_lora,
    expected_shapes,
    load_lora,
    save_lora,
)
from sightline.models.seethrough3d.weights import RELEASE
from sightline.scene.errors import InputError

SMALL = LoraShape(2, 3, 16, (4,))


def random_lora(shape=SMALL, seed=0):
    torch.manual_seed(seed)
    lora = ConditionLora(shape)
    for value in lora.parameters():
        value.data.normal_()
    return lora


def test_names_and_size_of_the_release():
    sizes = expected_shapes(LoraShape(19, 38, 3072, (128,)))
    assert len(sizes) == 380 and sum(a * b for a, b in sizes.values()) == RELEASE.parameters
    assert sizes["transformer_blocks.18.attn.processor.proj_loras.0.up.weight"] == (3072, 128)
    assert "single_transformer_blocks.0.attn.processor.proj_loras.0.up.weight" not in sizes


@pytest.mark.parametrize("ranks", [(4,), (4, 2)])
def test_saved_and_loaded_again(tmp_path, ranks):
    shape = LoraShape(2, 3, 16, ranks)
    lora, path = random_lora(shape), tmp_path / "lora.safetensors"
    save_lora(lora, path, torch.bfloat16)
    assert set(load_file(str(path))) == set(expected_shapes(shape)) == set(lora.state_dict())
    again = load_lora(path)
    assert again.shape == shape and all(p.dtype == torch.bfloat16 for p in again.parameters())
    wide = load_lora(path, dtype=torch.float32)
    for name, value in wide.state_dict().items():
        assert torch.equal(value, lora.state_dict()[name].bfloat16().float())


def test_a_prefix_of_other_tools_is_read():
    weights = {f"transformer.{name}": value for name, value in random_lora().state_dict().items()}
    assert build_lora(weights).shape == SMALL


def test_proj_and_qkv_terms():
    lora, x = random_lora(), torch.randn(1, 5, 16)
    low = lora.layer("double", 1, "proj", 0)
    expected = 0.5 * (x @ low.down.weight.T @ low.up.weight.T)
    torch.testing.assert_close(Adapter(lora, 0, 0.5).term("double", 1, "proj", x), expected)
    assert Adapter(lora, 0, 0.0).term("single", 0, "q", x) is None
    assert [a.index for a in adapters(random_lora(LoraShape(1, 1, 8, (2, 2))))] == [0, 1]


def test_training_starts_at_zero():
    lora = ConditionLora(SMALL).reset()
    x = torch.randn(1, 5, 16)
    assert bool((Adapter(lora).term("single", 2, "v", x) == 0).all())
    assert float(lora.layer("single", 2, "v", 0).down.weight.detach().std()) > 0.05


def refused(change, tmp_path, **options):
    weights, path = dict(random_lora().state_dict()), tmp_path / "lora.safetensors"
    change(weights)
    save_file(weights, str(path))
    with pytest.raises(InputError) as caught:
        load_lora(path, **options)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".")
    return message


def test_missing_keys_are_named(tmp_path):
    name = "single_transformer_blocks.1.attn.processor.k_loras.0.up.weight"
    message = refused(lambda weights: weights.pop(name), tmp_path)
    assert "lacks 1 of 34 keys" in message and name in message


def test_foreign_and_wrong_keys_are_named(tmp_path):
    assert "foreign 1" in refused(lambda weights: weights.update({"x.weight": torch.zeros(1)}), tmp_path)
    name = "transformer_blocks.0.attn.processor.q_loras.0.up.weight"
    assert name in refused(lambda weights: weights.update({name: torch.zeros(16, 5)}), tmp_path)
    assert "wrongly shaped" in refused(lambda weights: weights.update({name: torch.zeros(16, 5)}), tmp_path)


def test_other_models(tmp_path):
    assert "width 16" in refused(lambda weights: None, tmp_path, fits=LoraShape(2, 3, 32, ()))
    assert "lacks 6 of 40" in refused(lambda weights: None, tmp_path, fits=LoraShape(2, 4, 16, ()))
    assert "foreign 8" in refused(lambda weights: None, tmp_path, fits=LoraShape(1, 3, 16, ()))


def test_a_gap_between_adapters(tmp_path):
    def move(weights):
        for name in list(weights):
            weights[name.replace("_loras.0.", "_loras.1.")] = weights.pop(name)

    assert "damaged" in refused(move, tmp_path)


def test_other_files(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.zeros(1)}, str(path))
    with pytest.raises(InputError, match="Load LoRA"):
        load_lora(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_lora(path)
