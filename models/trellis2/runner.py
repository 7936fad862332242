"""The stages bound to one family, one seed and one set of options: what both pipelines are written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...scene.sparse import SparseTensor
from . import memory as planning
from .cascade import Cascade
from .conditions import AnyCondition, Condition
from .naf import Naf
from .stages import (
    CascadeGrid,
    decode_structure,
    quantize_to_limit,
    refine_coords,
    sample_latent,
    sample_structure,
)
from .streaming import stream_upsample

Progress = Callable[[str, int, int, Tensor, Tensor], None]
SAMPLER_OF = {
    "sparse_structure": "sparse_structure_sampler",
    "shape_slat": "shape_slat_sampler",
    "tex_slat": "tex_slat_sampler",
}


class Runner:
    """Runs stages in the order they are called in, drawing their noise from one seed.

    samplers: options per sampler role that replace the family's. batched: both guidance branches in one pass (faster,
    more memory). progress(stage, done, steps, x_t, x_0) after every step; what it raises ends the run. memory: None, a
    limit in bytes for what a stage adds, or "auto" for what is free: every stage is estimated before it starts,
    guidance is run one branch after the other and shapes are refined in blocks where that is needed to fit, and where
    nothing fits an InputError says which setting would.
    """

    def __init__(
        self,
        cascade: Cascade,
        seed: int,
        samplers: Mapping[str, Mapping[str, Any]] | None = None,
        batched: bool = False,
        progress: Progress | None = None,
        memory: int | str | None = None,
    ):
        self.cascade = cascade
        self.settings = cascade.settings(samplers)
        self.generator = torch.Generator().manual_seed(seed)
        self.batched = batched
        self.progress = progress
        self.memory = memory
        planning.available(memory, cascade.device)

    @property
    def factor(self) -> int:
        """How many voxels of a mesh grid stand behind one token along an axis."""
        return self.cascade.get("shape_slat_decoder").config.factor

    def _options(self, stage: str, role: str, tokens: int, cond: AnyCondition) -> dict[str, Any]:
        callback = self.progress and (lambda *values: self.progress(stage, *values))
        return {"batched": self._batched(stage, role, tokens, cond), "callback": callback}

    def _free(self) -> int | None:
        return planning.available(self.memory, self.cascade.device)

    def _batched(self, stage: str, role: str, tokens: int, cond: AnyCondition) -> bool:
        """Whether both guidance branches run in one pass; raises InputError where a flow stage does not fit."""
        free = self._free()
        if free is None:
            return self.batched
        flow, device = self.cascade.get(role), self.cascade.device
        image = cond.tokens if isinstance(cond, Condition) else cond
        plan = planning.plan_flow(
            stage,
            flow.config,
            tokens,
            sum(item.shape[0] for item in image),
            free,
            guided=self.settings[SAMPLER_OF[role.partition("_flow")[0]]].guidance_strength not in (0, 1),
            batched=self.batched,
            weights=planning.weight_bytes(flow, device),
            device=device,
        )
        return plan.batched

    def check_images(self, encoder: Any, image_size: int, views: int = 1) -> None:
        """Raises InputError where the image encoder does not fit."""
        if (free := self._free()) is not None:
            channels = getattr(encoder, "channels", 1024)
            needed = planning.weight_bytes(encoder, self.cascade.device) + planning.image_memory(
                image_size, views=views, patch_size=encoder.patch_size, channels=channels, hidden=4 * channels
            )
            planning.require(f"image encoder at {image_size} pixels", needed, free, "fewer views or a lower resolution")

    def check_naf(self, naf: Naf | None, image_size: int, target: int, points: int, channels: int) -> None:
        """Raises InputError where raising the image features does not fit."""
        if naf is not None and (free := self._free()) is not None:
            needed = planning.weight_bytes(naf, self.cascade.device) + planning.naf_memory(
                image_size, target, points, dim=naf.config.dim, channels=channels
            )
            advice = f"{points} tokens are read: lower `max_num_tokens`, or choose a lower resolution"
            planning.require(f"NAF upsampling at {image_size} pixels", needed, free, advice)

    def structure(self, cond: AnyCondition, resolution: int) -> Tensor:
        """Occupied voxels [N, 4] of the token grid that makes `resolution`."""
        cascade = self.cascade
        role = "sparse_structure_flow_model"
        options = self._options("structure", role, cascade.get(role).config.resolution ** 3, cond)
        with cascade.on_device(role) as flow:
            latent = sample_structure(
                flow,
                cond,
                self.settings["sparse_structure_sampler"],
                self.generator,
                device=cascade.device,
                **options,
            )
        decoder = cascade.get("sparse_structure_decoder")
        if (free := self._free()) is not None:
            needed = planning.structure_memory(decoder.config, latent.shape[-1])
            needed += planning.weight_bytes(decoder, cascade.device)
            planning.require("structure decoder", needed, free, "free that much, or use another device")
        with cascade.on_device(decoder) as decoder:
            return decode_structure(decoder, latent, resolution // self.factor)

    def shape(self, size: str, coords: Tensor, cond: AnyCondition, stage: str = "shape") -> SparseTensor:
        """Shape latent of `coords`, denormalized, by the model of the low ("512") or the high size ("1024")."""
        role = f"shape_slat_flow_model_{size}"
        options = self._options(stage, role, len(coords), cond)
        with self.cascade.on_device(role) as flow:
            return sample_latent(
                flow,
                coords,
                cond,
                self.settings["shape_slat_sampler"],
                self.cascade.config.shape_normalization,
                self.generator,
                **options,
            )

    def refine(self, low: SparseTensor, resolution: int, quantize, max_num_tokens: int | None = None) -> CascadeGrid:
        """Voxels of the high stage, and the resolution the token limit leaves."""
        config = self.cascade.config
        limit = max_num_tokens or config.max_num_tokens
        decoder, workspace = self.cascade.get("shape_slat_decoder"), None
        if (free := self._free()) is not None:
            device = self.cascade.device
            weights = planning.weight_bytes(decoder, device)
            workspace = planning.plan_decode(
                "shape decoder", decoder.config, len(low), free, weights=weights, device=device
            ).workspace
        with self.cascade.on_device(decoder) as decoder:
            if workspace is None:
                return refine_coords(
                    decoder, low, config.lr_resolution, resolution, quantize=quantize, max_num_tokens=limit
                )
            fine = stream_upsample(decoder, low, len(decoder.blocks) - 1, workspace=workspace)
            return quantize_to_limit(fine, self.factor, config.lr_resolution, resolution, quantize, limit)

    def texture(self, size: str, shape: SparseTensor, cond: AnyCondition) -> SparseTensor:
        """Texture latent on the voxels of a denormalized shape latent."""
        config = self.cascade.config
        role = f"tex_slat_flow_model_{size}"
        options = self._options("texture", role, len(shape), cond)
        with self.cascade.on_device(role) as flow:
            return sample_latent(
                flow,
                shape.coords,
                cond,
                self.settings["tex_slat_sampler"],
                config.tex_normalization,
                self.generator,
                shape_latent=config.shape_normalization.normalize(shape.feats),
                **options,
            )
