"""Starting weights for training."""

import math

import torch
import torch.nn as nn

from ...scene.errors import InputError
from .gaussians import OPACITY_SHIFT, SCALE_SHIFT
from .model import SparseGen

STYLES = ("reference", "short_run")


@torch.no_grad()
def initialize(
    model: SparseGen,
    style: str = "reference",
    *,
    seed: int | None = None,
    alpha: float = 0.25,
    scale: float = 0.05,
    gate: float = 1.0,
    anchor_std: float = 0.1,
    head_gain: float = 0.1,
) -> SparseGen:
    """Give every weight of `model` its starting value, in place; with `seed` always the same ones on a given device.

    ``"reference"``: as the published training starts: ViT linears truncated normal 0.02, transformer and heads Xavier,
    head biases N(0,1), every adaLN layer zero (each block starts as the identity), anchors by ``config.query_init``.
    (There the ViT's LayerNorm and LayerScale start from DINOv2; here from 1, nothing is downloaded.)

    ``"short_run"``: for hours instead of weeks. Head biases are zero but for a start at opacity `alpha`, Gaussian size
    `scale` (world units) and the identity rotation; the last layer of each of these heads is shrunk by `head_gain`;
    adaLN gates start at `gate`, so that blocks work from the first step; anchors have standard deviation `anchor_std`.
    """
    if style not in STYLES:
        raise InputError(f"`style` is {style!r}; it must be one of {', '.join(STYLES)}.")
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return initialize(
                model, style, alpha=alpha, scale=scale, gate=gate, anchor_std=anchor_std, head_gain=head_gain
            )
    short = style == "short_run"
    _common(model)
    _anchors(model, anchor_std if short else 0.1, "trunc_normal" if short else model.config.query_init)
    for heads in model.gs_decoder:
        for name, head in heads.items():
            for layer in head:
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias) if short else nn.init.normal_(layer.bias)
            if short and name != "color":
                head[-1].weight.mul_(head_gain)
        if short:
            heads["opacity"][-1].bias.fill_(math.log(alpha / (1 - alpha)) + OPACITY_SHIFT)
            heads["scale"][-1].bias.fill_(math.log(scale) + SCALE_SHIFT)
            heads["rotation"][-1].bias.view(-1, 4)[:, 0] = 1.0
    if short:
        for module, chunks, gates in _modulations(model):
            module.bias.view(chunks, -1)[gates] = gate
    return model


def _common(model):
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm)):
            module.reset_parameters()
    vit = model.feature_extractor.model
    for module in vit.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    for block in vit.blocks:
        nn.init.ones_(block.ls1.gamma)
        nn.init.ones_(block.ls2.gamma)
    nn.init.trunc_normal_(vit.pos_embed, std=0.02)
    nn.init.normal_(vit.cls_token, std=1e-6)
    nn.init.zeros_(vit.mask_token)
    for parameter in model.transformer.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for embedder in (model.feature_extractor.t_embedder, model.transformer.t_embedder):
        nn.init.normal_(embedder.mlp[0].weight, std=0.02)
        nn.init.normal_(embedder.mlp[2].weight, std=0.02)
    for module, _, _ in _modulations(model):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)


def _modulations(model):
    """Every adaLN layer with its number of chunks and which of them are gates."""
    for block in model.feature_extractor.model.blocks:
        yield block.adaLN_modulation[-1], 6, [2, 5]
    for layer in model.transformer.decoder_layers:
        yield layer.adaLN_modulation[-1], 9, [2, 5, 8]


def _anchors(model, std, style):
    weight = model.reference_points.weight
    if style == "uniform":
        nn.init.uniform_(weight)
    elif style == "trunc_normal":
        nn.init.trunc_normal_(weight, mean=0.5, std=std, a=0.0, b=1.0)
    else:  # as published: only x is set, the rest keeps the embedding's N(0,1)
        nn.init.normal_(weight)
        nn.init.constant_(weight[:, 0], 0.5)
