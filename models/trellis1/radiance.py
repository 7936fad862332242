"""Structured latents to a radiance field of trivectors (TRELLIS `SLatRadianceFieldDecoder`, Strivec)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from .config import LatentDecoderConfig
from .decoder import HeadedDecoder


@dataclass(frozen=True)
class Strivec:
    """A radiance field of one item: in every voxel, `rank` products of three vectors.

    position: [N, 3] voxel centers in 0..1; depth: [N, 1] uint8, log2 of the grid; trivec: [N, rank, 3, dim];
    density: [N, rank]; features_dc: [N, rank, 1, 3]. Cube [-0.5, 0.5]^3, Z up.
    """

    position: Tensor
    depth: Tensor
    trivec: Tensor
    density: Tensor
    features_dc: Tensor


class RadianceFieldDecoder(HeadedDecoder):
    def __init__(self, cfg: LatentDecoderConfig):
        rep = cfg.representation_config
        if not {"rank", "dim"} <= set(rep):
            raise InputError("The radiance field decoder's configuration lacks `rank` and `dim`.")
        self.rank, self.dim = int(rep["rank"]), int(rep["dim"])
        super().__init__(cfg, cfg.latent_channels, self.rank * (3 * self.dim + 1 + 3))

    def fields(self, x: SparseTensor) -> list[Strivec]:
        """The radiance field of every item, from what `forward` returned: [N, channels]."""
        resolution, found = self.config.resolution, []
        for rows in x.layout:
            trivec, density, color = x.feats[rows].split([self.rank * 3 * self.dim, self.rank, self.rank * 3], 1)
            position = (x.coords[rows, 1:].float() + 0.5) / resolution
            depth = torch.full((len(position), 1), int(math.log2(resolution)), dtype=torch.uint8)
            found.append(
                Strivec(
                    position,
                    depth,
                    trivec.reshape(-1, self.rank, 3, self.dim) + 1,
                    density,
                    color.reshape(-1, self.rank, 1, 3),
                )
            )
        return found
