"""The image side of NAF, the upsampler of image features that Pixal3D reads between the patches of DINOv3.

Its attention lives in `kernels.naf`. Source: NAF (valeoai); Pixal3D, projected image conditioning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.naf import PointQueries, check_maps, gather_queries, pixels_read, upsample_points


@dataclass(frozen=True)
class NafConfig:
    """Defaults are those of the released weights."""

    dim: int = 256
    heads_attn: int = 4
    heads_rope: int = 4
    kernel_size: int = 9
    img_layers: int = 2
    rope_base: float = 100.0

    @classmethod
    def from_args(cls, args: Mapping[str, Any]) -> NafConfig:
        return cls(**{k: v for k, v in args.items() if k in cls.__dataclass_fields__})


class EncoderBlock(nn.Module):
    """Norm, SiLU, convolution, twice, without residual."""

    def __init__(self, channels: int, kernel: int, groups: int = 8):
        super().__init__()
        pad = dict(padding=kernel // 2, padding_mode="reflect")
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, kernel, **pad)
        self.norm2 = nn.GroupNorm(groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel, **pad)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(F.silu(self.norm1(x), inplace=True))
        return self.conv2(F.silu(self.norm2(x), inplace=True))


def _stack(channels: int, kernel: int, layers: int) -> nn.Sequential:
    head = nn.Conv2d(3, channels, kernel, padding=kernel // 2, padding_mode="reflect")
    return nn.Sequential(head, *[EncoderBlock(channels, kernel) for _ in range(layers)])


class AxialRope(nn.Module):
    """Rotary positions of a picture's pixels, rows then columns, centers in [-1, 1]."""

    def __init__(self, head_dim: int, base: float):
        super().__init__()
        exponent = 2 * torch.arange(head_dim // 4, dtype=torch.float32) / (head_dim // 2)
        self.register_buffer("periods", base**exponent)

    def angles(self, positions: Tensor, size: int) -> Tensor:
        """Angles [n, head / 4] at pixel indices [n] of an axis with `size` pixels."""
        centers = 2 * ((positions.float() + 0.5) / size) - 1
        return 2 * math.pi * centers[:, None] / self.periods


class ImageEncoder(nn.Module):
    def __init__(self, cfg: NafConfig):
        super().__init__()
        self.heads = cfg.heads_rope
        self.encoder = _stack(cfg.dim // 2, 1, cfg.img_layers)
        self.sem_encoder = _stack(cfg.dim // 2, 3, cfg.img_layers)
        self.rope = AxialRope(cfg.dim // cfg.heads_rope, cfg.rope_base)

    def stacks(self, image: Tensor, target: int) -> Iterator[Tensor]:
        """The two halves of the channels, [B, dim / 2, target, target] each, before the rotation, one at a time."""
        limit = 4 * target
        if max(image.shape[-2:]) > limit:
            size = [min(side, limit) for side in image.shape[-2:]]
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        for stack in (self.encoder, self.sem_encoder):
            yield F.adaptive_avg_pool2d(stack(image), target)

    def rotate(self, features: Tensor, rows: Tensor, columns: Tensor, target: int) -> Tensor:
        """Applies the rotary positions of target pixels, head by head, first half paired with second half.

        features: [..., C, *P], C a multiple of the head width; rows, columns: pixel indices [*P] of each vector.
        """
        angles = [self.rope.angles(place.flatten(), target).T.unflatten(-1, place.shape) for place in (rows, columns)]
        angles = torch.cat(angles)  # [head / 2, *P]
        cos, sin = angles.cos(), angles.sin()
        channel = features.ndim - rows.ndim - 1
        first, second = features.unflatten(channel, (-1, 2, len(angles))).unbind(channel + 1)
        turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=channel + 1)
        return turned.reshape(features.shape)

    def forward(self, image: Tensor, target: int) -> Tensor:
        line = torch.arange(target, device=image.device)
        rows, columns = torch.meshgrid(line, line, indexing="ij")
        return self.rotate(torch.cat(list(self.stacks(image, target)), dim=1), rows, columns, target)


class Naf(nn.Module):
    """The upsampler's weights; all of them belong to its image encoder."""

    def __init__(self, cfg: NafConfig = NafConfig()):
        super().__init__()
        self.config = cfg
        self.image_encoder = ImageEncoder(cfg)

    def queries(self, image: Tensor, target: int) -> Tensor:
        """image [B, 3, S, S] in [0, 1] -> queries [B, dim, target, target] float32."""
        return self.image_encoder(image, target)

    def point_queries(self, image: Tensor, target: int, pixels: Tensor, cells: tuple[int, int]) -> PointQueries:
        """The queries of one picture at some target pixels, without ever holding the whole map of all channels.

        image [1, 3, S, S] in [0, 1]; pixels [U] int64 row-major; cells (h, w) of the feature map, which divide the
        target. Equals `gather_queries` of `queries`.
        """
        encoder, head = self.image_encoder, self.config.dim // self.config.heads_rope
        check_maps((target, target), cells, self.config.kernel_size)
        if self.config.dim // 2 % head:
            return gather_queries(self.queries(image, target)[0], pixels, cells)
        line = torch.arange(target, device=image.device)
        vectors, keys = [], []
        for half in encoder.stacks(image, target):
            half = half[0]
            vectors.append(encoder.rotate(half.flatten(1)[:, pixels], pixels // target, pixels % target, target).T)
            means = []
            for band in line.split(target // cells[0]):  # the rows of one line of cells
                rows, columns = torch.meshgrid(band, line, indexing="ij")
                turned = encoder.rotate(half[:, band[0] : band[-1] + 1], rows, columns, target)
                means.append(turned.unflatten(-1, (cells[1], -1)).mean(dim=(1, 3)).T)
            keys.append(torch.stack(means))
        return PointQueries(pixels, torch.cat(vectors, dim=-1), torch.cat(keys, dim=-1), (target, target))

    def at_points(self, image: Tensor, patches: Tensor, uv: Tensor, size: int, target: int) -> Tensor:
        """The features [N, C] raised to `target` pixels, read bilinearly at N points; only what is read is computed.

        image [1, 3, S, S] in [0, 1]; patches [1, C, h, w]; uv [N, 2] pixels of a picture of size x size. Raises
        InputError where target and patches do not fit.
        """
        cells = tuple(patches.shape[-2:])
        check_maps((target, target), cells, self.config.kernel_size)
        pixels, corner, weight = pixels_read(uv, size, (target, target))
        queries = self.point_queries(image, target, pixels, cells)
        return upsample_points(
            queries, patches[0].to(queries.keys.dtype), corner, weight, self.config.heads_attn, self.config.kernel_size
        )


def load_naf(
    weights: Mapping[str, Tensor],
    cfg: NafConfig = NafConfig(),
    *,
    source: str = "the NAF weights",
    device: torch.device | str = "cpu",
) -> Naf:
    """A NAF with published weights (`image_encoder.*`); raises InputError naming every key that does not fit."""
    from .checkpoint import assign_weights

    with torch.device("meta"):
        model = Naf(cfg)
    return assign_weights(model, weights, source, device=device)
