"""One condition from picture, mask and point map, cropped and whole (SAM 3D `EmbedderFuser`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...scene.errors import InputError

# Encoder of every input, in the order of the tokens, and whether it shows the crop or the whole picture.
IMAGES = (("image", "cropped"), ("rgb_image", "full"))
MASKS = (("mask", "cropped"), ("rgb_image_mask", "full"))
POINTS = (("pointmap", "cropped"), ("rgb_pointmap", "full"))
KEEP = {"full": None, "cropped": {"image"}, "cropped_and_mask": {"image", "mask"}}


class GatedFeedForward(nn.Module):
    """w2(silu(w1 x) * w3 x) without biases; the hidden width is two thirds, rounded up to `multiple`."""

    def __init__(self, channels: int, hidden: int, out_channels: int, multiple: int = 256):
        super().__init__()
        hidden = multiple * -(-int(2 * hidden / 3) // multiple)
        self.w1 = nn.Linear(channels, hidden, bias=False)
        self.w2 = nn.Linear(hidden, out_channels, bias=False)
        self.w3 = nn.Linear(channels, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class EmbedderFuser(nn.Module):
    """encoders: (module with `embed_dim`, ((input name, group), ...)) in the order of the tokens."""

    def __init__(self, encoders: Sequence[tuple[nn.Module, Sequence[tuple[str, str]]]], multiplier: float = 4.0):
        super().__init__()
        self.module_list = nn.ModuleList(module for module, _ in encoders)
        self.inputs = [tuple(names) for _, names in encoders]
        groups = list(dict.fromkeys(group for names in self.inputs for _, group in names))
        self.group_row = {group: row for row, group in enumerate(groups)}
        width = max(module.embed_dim for module in self.module_list)
        self.idx_emb = nn.Parameter(torch.empty(len(groups) + 1, width))
        self.projection_nets = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(module.embed_dim), GatedFeedForward(module.embed_dim, int(multiplier * width), width)
            )
            for module in self.module_list
        )

    def forward(self, inputs: Mapping[str, Tensor], keep: str = "full", dropped: Sequence[str] = ()) -> Tensor:
        """Tokens [B, T, D] of the inputs that are there, in the order of the encoders.

        inputs: [B, C, H, W] by name. keep: "full", "cropped" (the cropped picture alone) or "cropped_and_mask": the
        tokens of all other inputs are multiplied by zero, not removed, as the official code does it (they still take
        part in the softmax). dropped: names multiplied by zero besides. Raises InputError where nothing is left.
        """
        if keep not in KEEP:
            raise InputError(f"`keep` is {keep!r}; one of {', '.join(KEEP)} would work.")
        kept, tokens = KEEP[keep], []
        for encoder, project, names in zip(self.module_list, self.projection_nets, self.inputs):
            for name, group in names:
                if name in inputs:
                    found = project(encoder(inputs[name])) + self.idx_emb[self.group_row[group]]
                    off = name in dropped or (kept is not None and name not in kept)
                    tokens.append(found * 0.0 if off else found)
        missing = sorted((kept or set()) - set(inputs))
        if missing or not tokens:
            raise InputError(f"The condition lacks {', '.join(missing) or 'every input'}; give picture and mask.")
        return torch.cat(tokens, 1)
