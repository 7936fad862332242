"""DINOv3 image tokens through the `transformers` library, in the layouts of its 4.x and 5.x versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError, MissingDependency

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

VIT_LARGE = dict(
    hidden_size=1024,
    num_hidden_layers=24,
    num_attention_heads=16,
    intermediate_size=4096,
    num_register_tokens=4,
    patch_size=16,
    rope_theta=100.0,
    key_bias=False,
)


def _transformers():
    try:
        from transformers import DINOv3ViTConfig, DINOv3ViTModel
    except ImportError as error:
        raise MissingDependency(
            f"DINOv3 needs the `transformers` library, version 4.56 or newer ({error}); run `pip install transformers`."
        ) from None
    return DINOv3ViTConfig, DINOv3ViTModel


class DinoV3(nn.Module):
    """A DINOv3 ViT whose output is all tokens after a layer norm without weights, as TRELLIS.2 uses it.

    config: the fields of a published DINOv3 `config.json` (`VIT_LARGE` for the model of the papers). Raises
    MissingDependency where `transformers` is absent.
    """

    def __init__(self, config: Mapping[str, Any] = VIT_LARGE):
        super().__init__()
        config_class, model_class = _transformers()
        self.vit = model_class(config_class.from_dict(dict(config)))

    @property
    def patch_size(self) -> int:
        return int(self.vit.config.patch_size)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patches: CLS and the registers."""
        return 1 + int(self.vit.config.num_register_tokens)

    @property
    def channels(self) -> int:
        return int(self.vit.config.hidden_size)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, wherever the installed version keeps them."""
        return encoder_layers(self.vit)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, S, S] RGB in [0, 1], S a multiple of the patch size -> tokens [B, 1 + registers + P, C].

        Order: CLS, registers, patches row by row. Computed in the dtype of the weights. Raises InputError for a size
        that is no multiple of the patch size.
        """
        if images.ndim != 4 or images.shape[1] != 3 or any(side % self.patch_size for side in images.shape[2:]):
            raise InputError(
                f"The images are {list(images.shape)}; it takes [B, 3, H, W], sides a multiple of {self.patch_size}."
            )
        vit = self.vit
        mean, std = (images.new_tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        pixels = ((images - mean) / std).to(vit.embeddings.patch_embeddings.weight.dtype)
        h = vit.embeddings(pixels)
        positions = vit.rope_embeddings(pixels)
        for layer in self.layers:
            h = layer(h, position_embeddings=positions)
            h = h[0] if isinstance(h, tuple) else h
        return F.layer_norm(h, h.shape[-1:])


def encoder_layers(vit: nn.Module) -> nn.ModuleList:
    """`layer` of transformers 4.x, `model.layer` of 5.x."""
    layers = getattr(vit, "layer", None)
    if layers is None:
        layers = getattr(getattr(vit, "model", None), "layer", None)
    if layers is None:
        raise InputError("This version of `transformers` lays DINOv3 out in a way that is not known.")
    return layers


def published_names(vit: nn.Module) -> dict[str, str]:
    """Published key name (`embeddings.*`, `layer.i.*`, `norm.*`) -> key of the installed version's module."""
    return {name.removeprefix("model.") if name.startswith("model.layer.") else name: name for name in vit.state_dict()}


def load_dinov3(
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any] = VIT_LARGE,
    *,
    source: str = "the DINOv3 weights",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DinoV3:
    """A DINOv3 with published weights, by their published names or those of any `transformers` version.

    Raises InputError naming every missing, foreign and misshapen key.
    """
    with torch.device("meta"):
        model = DinoV3(config)
    vit = model.vit
    vit.rope_embeddings = type(vit.rope_embeddings)(vit.config)  # its frequencies are computed, not loaded
    names, slots = published_names(vit), vit.state_dict()
    given = {(k.removeprefix("model.") if k.startswith("model.") else k): k for k in weights}
    shapes = {k: tuple(weights[given[k]].shape) for k in given}
    problems = {
        "missing": [k for k in names if k not in given],
        "foreign": [k for k in given if k not in names],
        "of another shape": [
            f"{k} {list(shapes[k])} instead of {list(slots[names[k]].shape)}"
            for k in given
            if k in names and shapes[k] != tuple(slots[names[k]].shape)
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{what}: {', '.join(keys)}" for what, keys in problems.items() if keys)
        raise InputError(f"{source} do not fit DINOv3; {found}.")
    vit.load_state_dict(
        {names[k]: weights[given[k]].to(device=device, dtype=dtype, copy=True) for k in given}, strict=True, assign=True
    )
    return model.to(device).requires_grad_(False).eval()
