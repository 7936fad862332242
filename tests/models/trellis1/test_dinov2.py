"""Our DINOv2 with published names against the one of `transformers`, same random weights."""

import pytest
import torch
import torch.nn.functional as F

from sightline.models.trellis1.dinov2 import IMAGENET_MEAN, IMAGENET_STD, DinoEncoder, DinoV2, DinoV2Config
from sightline.models.trellis2.checkpoint import assign_weights
from sightline.scene.errors import InputError

CONFIG = DinoV2Config(embed_dim=32, depth=2, num_heads=2, img_size=56, patch_size=14, num_register_tokens=4)
OUTSIDE = {
    "position_embeddings": "pos_embed",
    "patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
    "embeddings.": "",
    "encoder.layer.": "blocks.",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "attention.output.dense": "attn.proj",  # transformers 4
    "attention.o_proj": "attn.proj",  # transformers 5
}


def published(state):
    """The weights under the published names."""
    found, parts = {}, {}
    for name, value in state.items():
        pieces = name.replace("attention.attention.", "attention.").split(".")
        part = pieces[-2].removesuffix("_proj")
        if part in ("q", "k", "v", "query", "key", "value"):
            parts.setdefault((pieces[2], pieces[-1]), {})[part[0]] = value
            continue
        for old, new in OUTSIDE.items():
            name = name.replace(old, new)
        found[name] = value
    for (layer, kind), qkv in parts.items():
        found[f"blocks.{layer}.attn.qkv.{kind}"] = torch.cat([qkv[p] for p in "qkv"])
    return found


@pytest.fixture(scope="module")
def both():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed to compare with")
    settings = transformers.Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, num_register_tokens=4
    )
    theirs = transformers.Dinov2WithRegistersModel(settings).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in theirs.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.3)
    with torch.device("meta"):
        ours = DinoV2(CONFIG)
    return theirs, assign_weights(ours, published(theirs.state_dict()))


@torch.no_grad()
def test_tokens_after_the_norm(both):
    theirs, ours = both
    images = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    expected = theirs((images - mean) / std).last_hidden_state
    kept = torch.cat([expected[:, :1], expected[:, 5:]], 1)
    torch.testing.assert_close(ours(images, prenorm=False), kept, atol=1e-4, rtol=1e-4)
    tokens = ours(images)
    assert tokens.shape == expected.shape
    torch.testing.assert_close(tokens, F.layer_norm(tokens, tokens.shape[-1:]), atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_masks_and_other_sizes(both):
    with torch.device("meta"):
        encoder = DinoEncoder(CONFIG)
    encoder.backbone = both[1]
    mask = torch.rand(1, 1, 30, 30)
    whole = F.interpolate(mask, (56, 56), mode="bilinear", align_corners=False).repeat(1, 3, 1, 1)
    torch.testing.assert_close(encoder(mask), encoder(whole))
    with pytest.raises(InputError, match="56, 56"):
        both[1](torch.rand(1, 3, 30, 30))
