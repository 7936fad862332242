"""The stages bound to one family, one seed and one set of options: what both pipelines are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...scene.sparse import SparseTensor
from .cascade import Cascade
from .conditions import AnyCondition
from .stages import CascadeGrid, decode_structure, refine_coords, sample_latent, sample_structure

Progress = Callable[[str, int, int, Tensor, Tensor], None]


class Runner:
    """Runs stages in the order they are called in, drawing their noise from one seed.

    samplers: options per sampler role that replace the family's. batched: both guidance branches in one pass (faster,
    more memory). progress(stage, done, steps, x_t, x_0) after every step; what it raises ends the run.
    """

    def __init__(
        self,
        cascade: Cascade,
        seed: int,
        samplers: Mapping[str, Mapping[str, Any]] | None = None,
        batched: bool = False,
        progress: Progress | None = None,
    ):
        self.cascade = cascade
        self.settings = cascade.settings(samplers)
        self.generator = torch.Generator().manual_seed(seed)
        self.batched = batched
        self.progress = progress
        self.factor: int = cascade.get("shape_slat_decoder").config.factor

    def _options(self, stage: str) -> dict[str, Any]:
        callback = self.progress and (lambda *values: self.progress(stage, *values))
        return {"batched": self.batched, "callback": callback}

    def structure(self, cond: AnyCondition, resolution: int) -> Tensor:
        """Occupied voxels [N, 4] of the token grid that makes `resolution`."""
        cascade = self.cascade
        with cascade.on_device("sparse_structure_flow_model") as flow:
            latent = sample_structure(
                flow,
                cond,
                self.settings["sparse_structure_sampler"],
                self.generator,
                device=cascade.device,
                **self._options("structure"),
            )
        with cascade.on_device("sparse_structure_decoder") as decoder:
            return decode_structure(decoder, latent, resolution // self.factor)

    def shape(self, size: str, coords: Tensor, cond: AnyCondition, stage: str = "shape") -> SparseTensor:
        """Shape latent of `coords`, denormalized, by the model of the low ("512") or the high size ("1024")."""
        with self.cascade.on_device(f"shape_slat_flow_model_{size}") as flow:
            return sample_latent(
                flow,
                coords,
                cond,
                self.settings["shape_slat_sampler"],
                self.cascade.config.shape_normalization,
                self.generator,
                **self._options(stage),
            )

    def refine(self, low: SparseTensor, resolution: int, quantize, max_num_tokens: int | None = None) -> CascadeGrid:
        """Voxels of the high stage, and the resolution the token limit leaves."""
        config = self.cascade.config
        with self.cascade.on_device("shape_slat_decoder") as decoder:
            return refine_coords(
                decoder,
                low,
                config.lr_resolution,
                resolution,
                quantize=quantize,
                max_num_tokens=max_num_tokens or config.max_num_tokens,
            )

    def texture(self, size: str, shape: SparseTensor, cond: AnyCondition) -> SparseTensor:
        """Texture latent on the voxels of a denormalized shape latent."""
        config = self.cascade.config
        with self.cascade.on_device(f"tex_slat_flow_model_{size}") as flow:
            return sample_latent(
                flow,
                shape.coords,
                cond,
                self.settings["tex_slat_sampler"],
                config.tex_normalization,
                self.generator,
                shape_latent=config.shape_normalization.normalize(shape.feats),
                **self._options("texture"),
            )
