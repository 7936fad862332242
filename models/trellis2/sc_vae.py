"""The sparse convolutional autoencoders of TRELLIS.2: shape as a flexible dual grid, texture as PBR voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.sparse_conv import submanifold_conv3d
from ...kernels.sparse_resample import Subdivision, channel_to_space, gather_children, space_to_channel, subdivide
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from .blocks import LayerNorm32, Linear, set_torso_dtype
from .config import SparseVaeConfig


class SparseConv3d(nn.Module):
    """Submanifold 3x3x3 convolution; weight [out, 3, 3, 3, in] over x, y, z."""

    is_torso_layer = True

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        bound = (27 * channels) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return submanifold_conv3d(x, self.weight, self.bias)


class SparseConvNeXtBlock(nn.Module):
    def __init__(self, channels: int, mlp_ratio: float = 4.0):
        super().__init__()
        hidden = int(channels * mlp_ratio)
        self.norm = LayerNorm32(channels, eps=1e-6)
        self.conv = SparseConv3d(channels, channels)
        self.mlp = nn.Sequential(Linear(channels, hidden), nn.SiLU(), Linear(hidden, channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.replace(x.feats + self.mlp(self.norm(self.conv(x).feats)))


class UpBlock(nn.Module):
    """Doubles the resolution: every voxel keeps those of its eight children whose subdivision logit is positive.

    Source: TRELLIS.2, `SparseResBlockC2S3d`.
    """

    def __init__(self, channels: int, out_channels: int, pred_subdiv: bool):
        super().__init__()
        self.repeat = out_channels // (channels // 8)
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels * 8)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        if pred_subdiv:
            self.to_subdiv = Linear(channels, 8)

    def subdivision(self, x: SparseTensor) -> SparseTensor:
        """Logits [N, 8] of the children k = dx + 2 dy + 4 dz."""
        return x.replace(self.to_subdiv(x.feats))

    def forward(self, x: SparseTensor, plan: Subdivision) -> SparseTensor:
        h = self.conv1(x.replace(F.silu(self.norm1(x.feats))))
        h = channel_to_space(h, plan)
        h = self.conv2(h.replace(F.silu(self.norm2(h.feats))))
        skip = channel_to_space(x, plan).feats.repeat_interleave(self.repeat, dim=-1)
        return h.replace(h.feats + skip)


class DownBlock(nn.Module):
    """Halves the resolution; TRELLIS.2 `SparseResBlockS2C3d`."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.out_channels = out_channels
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels // 8)
        self.conv2 = SparseConv3d(out_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        h = space_to_channel(self.conv1(x.replace(F.silu(self.norm1(x.feats)))))
        h = self.conv2(h.replace(F.silu(self.norm2(h.feats))))
        skip = space_to_channel(x).feats.unflatten(-1, (self.out_channels, -1)).mean(dim=-1)
        return h.replace(h.feats + skip)


@dataclass(frozen=True)
class Decoded:
    """What a decoder returns.

    voxels: raw output rows [M, out] float32. subdivisions: per level the children kept; the guide of another decoder
    for the same latent voxels. logits: per level the subdivision logits [N_l, 8], empty where a guide was followed
    without supervision.
    """

    voxels: SparseTensor
    subdivisions: list[Subdivision]
    logits: list[SparseTensor]


Guide = Sequence["Subdivision | SparseTensor"]


class SparseVaeDecoder(nn.Module):
    """Latent voxels to voxels of `config.factor` times the resolution; TRELLIS.2 `SparseUnetVaeDecoder`."""

    def __init__(self, cfg: SparseVaeConfig):
        super().__init__()
        if cfg.out_channels is None:
            raise InputError("The decoder configuration lacks `out_channels`.")
        self.config = cfg
        widths = cfg.model_channels
        self.from_latent = nn.Linear(cfg.latent_channels, widths[0])
        self.output_layer = nn.Linear(widths[-1], cfg.out_channels)
        self.blocks = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, cfg.num_blocks)):
            blocks = nn.ModuleList(SparseConvNeXtBlock(width) for _ in range(count))
            if level + 1 < len(widths):
                blocks.append(UpBlock(width, widths[level + 1], cfg.pred_subdiv))
            self.blocks.append(blocks)
        set_torso_dtype(self.blocks, cfg.dtype)

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0][-1].conv1.weight.dtype

    def forward(self, z: SparseTensor, guide: Guide | None = None, supervise: bool = False) -> Decoded:
        """z [N, latent] float32 -> raw rows [M, out] float32 in the order parent row, then child index.

        guide: per level the subdivision of another coder for the same latent voxels, or logits [N_l, 8] (positive =
        kept); needed by texture decoders, which predict none. With the subdivisions of an encoder the rows come back in
        the order of its input. supervise: also the logits that the decoder has along a guide, for training. Raises
        InputError where latent or guide does not fit.
        """
        h, plans, logits = self._run(z, guide, len(self.blocks) - 1, supervise)
        for block in self.blocks[-1]:
            h = block(h)
        feats = F.layer_norm(h.feats.to(z.dtype), h.feats.shape[-1:])
        return Decoded(h.replace(self.output_layer(feats)), plans, logits)

    def upsample(self, z: SparseTensor, levels: int, guide: Guide | None = None) -> Tensor:
        """Coordinates [M, 4] int32 after `levels` subdivisions, on a grid 2**levels times finer."""
        if not 0 <= levels < len(self.blocks):
            raise InputError(f"`levels` is {levels}; this decoder has {len(self.blocks) - 1} subdivisions.")
        return self._run(z, guide, levels)[0].coords

    def check_input(self, z: SparseTensor, guide: Guide | None, levels: int) -> None:
        """Raises InputError where latent or guide does not fit a decoding of `levels` subdivisions."""
        cfg = self.config
        if z.feats.shape[-1] != cfg.latent_channels:
            raise InputError(f"The latent has {z.feats.shape[-1]} channels; this decoder takes {cfg.latent_channels}.")
        if guide is None and not cfg.pred_subdiv:
            raise InputError(
                "This decoder predicts no subdivision; give it those of the shape decoder for the same latent voxels."
            )
        if guide is not None and len(guide) < levels:
            raise InputError(f"The guide has {len(guide)} subdivision levels; this decoder needs {levels}.")

    def _run(self, z, guide, levels, supervise=False) -> tuple[SparseTensor, list[Subdivision], list[SparseTensor]]:
        self.check_input(z, guide, levels)
        h = z.replace(self.from_latent(z.feats).to(self.torso_dtype))
        plans, logits = [], []
        for level in range(levels):
            *blocks, up = self.blocks[level]
            for block in blocks:
                h = block(h)
            if guide is None or (supervise and self.config.pred_subdiv):
                logits.append(up.subdivision(h))
            if guide is None:
                plans.append(subdivide(h, logits[-1].feats > 0))
            else:
                plans.append(follow_guide(guide[level], h, level))
            check_plan(plans[-1], level)
            h = up(h, plans[-1])
        return h, plans, logits


def check_plan(plan: Subdivision, level: int) -> None:
    """Raises InputError where a level keeps no voxel."""
    if not plan.coords.shape[0]:
        raise InputError(f"The decoder keeps no voxel at level {level}; the latent holds no surface.")


def follow_guide(step: Subdivision | SparseTensor, h: SparseTensor, level: int) -> Subdivision:
    """The guide's subdivision, once it is certain that it was made for the voxels of `h`."""
    coords = step.parent_coords if isinstance(step, Subdivision) else step.coords
    if not torch.equal(coords, h.coords):
        raise InputError(
            f"Level {level} of the guide has {coords.shape[0]} voxels that are not the {len(h)} voxels of the latent; "
            "shape and texture must share their latent voxels."
        )
    return step if isinstance(step, Subdivision) else subdivide(h, step.feats > 0)


class ShapeDecoder(SparseVaeDecoder):
    """Decoder of the flexible dual grid, seven channels per voxel; TRELLIS.2 `FlexiDualGridVaeDecoder`."""

    def __init__(self, cfg: SparseVaeConfig):
        super().__init__(replace(cfg, out_channels=7))


def shape_head(raw: Tensor, voxel_margin: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    """Activates the shape decoder's rows.

    raw [N, 7] -> dual vertex [N, 3] in voxel units within [-margin, 1 + margin], crossing flags [N, 3] bool of the
    edges along x, y, z, and the split weight [N, 1] > 0 of the quads.
    """
    vertex = (1 + 2 * voxel_margin) * torch.sigmoid(raw[:, :3]) - voxel_margin
    return vertex, raw[:, 3:6] > 0, F.softplus(raw[:, 6:7])


def texture_head(raw: Tensor) -> Tensor:
    """raw [N, 6] -> base color 0:3, metallic, roughness, alpha, nominally in [0, 1], not clamped."""
    return raw * 0.5 + 0.5


@dataclass(frozen=True)
class Encoded:
    """Posterior of an encoder; the deterministic latent is `mean`.

    logvar: [N, latent] on the same voxels. subdivisions: coarse to fine, the guide of a decoder back to the input.
    """

    mean: SparseTensor
    logvar: Tensor
    subdivisions: list[Subdivision]


class SparseVaeEncoder(nn.Module):
    """Voxels to latent voxels of 1/factor the resolution; TRELLIS.2 `SparseUnetVaeEncoder`."""

    def __init__(self, cfg: SparseVaeConfig):
        super().__init__()
        if cfg.in_channels is None:
            raise InputError("The encoder configuration lacks `in_channels`.")
        self.config = cfg
        widths = cfg.model_channels
        self.input_layer = nn.Linear(cfg.in_channels, widths[0])
        self.to_latent = nn.Linear(widths[-1], cfg.latent_channels * 2)
        self.blocks = nn.ModuleList()
        for level, (width, count) in enumerate(zip(widths, cfg.num_blocks)):
            blocks = nn.ModuleList(SparseConvNeXtBlock(width) for _ in range(count))
            if level + 1 < len(widths):
                blocks.append(DownBlock(width, widths[level + 1]))
            self.blocks.append(blocks)
        set_torso_dtype(self.blocks, cfg.dtype)

    @property
    def torso_dtype(self) -> torch.dtype:
        return self.blocks[0][-1].conv1.weight.dtype

    def forward(self, x: SparseTensor) -> Encoded:
        """x [N, in] float32 -> posterior on the coarse voxels, sorted lexicographically."""
        cfg = self.config
        if x.feats.shape[-1] != cfg.in_channels:
            raise InputError(f"The voxels have {x.feats.shape[-1]} channels; this encoder takes {cfg.in_channels}.")
        h = x.replace(self.input_layer(x.feats).to(self.torso_dtype))
        plans = []
        for level, blocks in enumerate(self.blocks):
            for index, block in enumerate(blocks):
                if index == cfg.num_blocks[level]:
                    plans.append(gather_children(h))  # the block looks the same plan up
                h = block(h)
        feats = F.layer_norm(h.feats.to(x.dtype), h.feats.shape[-1:])
        mean, logvar = self.to_latent(feats).chunk(2, dim=-1)
        return Encoded(h.replace(mean), logvar, plans[::-1])


class ShapeEncoder(SparseVaeEncoder):
    """Encoder of a flexible dual grid; TRELLIS.2 `FlexiDualGridVaeEncoder`."""

    def __init__(self, cfg: SparseVaeConfig):
        super().__init__(replace(cfg, in_channels=6))

    def encode(self, coords: Tensor, vertices: Tensor, intersected: Tensor, batch_size: int = 1) -> Encoded:
        """coords [N, 4] int32, dual vertices [N, 3] in voxel units [0, 1], crossing flags [N, 3] bool."""
        feats = torch.cat([vertices - 0.5, intersected.to(vertices.dtype) - 0.5], dim=-1)
        return self(SparseTensor(feats, coords, batch_size))
