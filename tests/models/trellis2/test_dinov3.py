"""DINOv3 in both layouts of the `transformers` library, by published names."""

import pytest
import torch
from torch import nn

from sightline.models.trellis2.dinov3 import DinoV3, encoder_layers, load_dinov3, published_names
from sightline.scene.errors import InputError

pytest.importorskip("transformers", reason="DINOv3 runs through the transformers library")
CONFIG = dict(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    num_register_tokens=4,
    patch_size=8,
    key_bias=False,
    model_type="dinov3_vit",
    architectures=["DINOv3ViTModel"],
)


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    model = DinoV3(CONFIG)
    state = model.vit.state_dict()
    return {name: torch.randn_like(state[key]) * 0.2 for name, key in published_names(model.vit).items()}


def test_published_names_have_no_version_in_them(published):
    assert "layer.0.attention.q_proj.weight" in published and "norm.weight" in published
    assert not any(name.startswith("model.") for name in published)


def test_files_of_every_version_load_alike(published):
    images = torch.rand(2, 3, 24, 32)
    model = load_dinov3(published, CONFIG)
    tokens = model(images)
    assert tokens.shape == (2, 5 + 3 * 4, 16) and model.prefix_tokens == 5 and model.channels == 16
    nested = {("model." + k if k.startswith("layer.") else k): v for k, v in published.items()}
    assert torch.equal(load_dinov3(nested, CONFIG)(images), tokens)


def test_the_final_norm_has_no_weights(published):
    tokens = load_dinov3(published, CONFIG)(torch.rand(1, 3, 16, 16))
    assert torch.allclose(tokens.mean(-1), torch.zeros(1, 9), atol=1e-5)
    assert torch.allclose(tokens.std(-1, unbiased=False), torch.ones(1, 9), atol=1e-3)
    other = {**published, "norm.weight": published["norm.weight"] * 3}
    assert torch.equal(
        load_dinov3(other, CONFIG)(torch.ones(1, 3, 16, 16)), load_dinov3(published, CONFIG)(torch.ones(1, 3, 16, 16))
    )


def test_layers_are_found_in_both_layouts():
    layers = nn.ModuleList([nn.Identity()])
    old, new = nn.Module(), nn.Module()
    old.layer = layers
    new.model = nn.Module()
    new.model.layer = layers
    assert encoder_layers(old) is layers and encoder_layers(new) is layers
    with pytest.raises(InputError, match="lays DINOv3 out"):
        encoder_layers(nn.Module())


def test_weights_that_do_not_fit_are_named(published):
    state = dict(published)
    state.pop("norm.bias")
    state["embeddings.extra"] = torch.zeros(1)
    state["layer.1.norm1.weight"] = torch.zeros(3)
    with pytest.raises(InputError) as error:
        load_dinov3(state, CONFIG)
    for part in ("missing: norm.bias", "foreign: embeddings.extra", "layer.1.norm1.weight [3] instead of [16]"):
        assert part in str(error.value)


def test_sizes_that_are_no_multiple_of_the_patch(published):
    with pytest.raises(InputError, match="multiple of 8"):
        load_dinov3(published, CONFIG)(torch.rand(1, 3, 20, 16))
