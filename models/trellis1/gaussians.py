"""Structured latents to Gaussians (TRELLIS `SLatGaussianDecoder`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...scene.errors import InputError
from ...scene.sparse import SparseTensor
from .config import LatentDecoderConfig
from .decoder import HeadedDecoder

FIELDS = {"_xyz": 3, "_features_dc": 3, "_scaling": 3, "_rotation": 4, "_opacity": 1}


def hammersley(index: int, count: int) -> list[float]:
    """Point `index` of the 3D Hammersley set of `count` points: index / count, then radical inverses to 2 and 3."""

    def radical_inverse(base: int, n: int) -> float:
        value, digit = 0.0, 1.0 / base
        while n:
            value += (n % base) * digit
            n, digit = n // base, digit / base
        return value

    return [index / count, radical_inverse(2, index), radical_inverse(3, index)]


@dataclass(frozen=True)
class RawGaussians:
    """Gaussians of one item as the network writes them; `activated` gives what they mean.

    xyz: [G, 3] in 0..1 of the grid; features_dc: [G, 1, 3]; scaling: [G, 3]; rotation: [G, 4]; opacity: [G, 1].
    """

    xyz: Tensor
    features_dc: Tensor
    scaling: Tensor
    rotation: Tensor
    opacity: Tensor

    def activated(self, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """xyz in [-0.5, 0.5] (Z up), color coefficients [G, 1, 3], scales, unit quaternions (w first), opacities."""
        bias = torch.tensor(float(config["scaling_bias"]))
        if config["scaling_activation"] == "softplus":
            scales = F.softplus(self.scaling + (bias + torch.log(-torch.expm1(-bias))))
        else:
            scales = torch.exp(self.scaling + bias.log())
        opacity = torch.tensor(float(config["opacity_bias"]))
        turned = self.rotation + self.rotation.new_tensor([1.0, 0, 0, 0])
        return {
            "xyz": self.xyz - 0.5,
            "features": self.features_dc,
            "scaling": torch.sqrt(scales.square() + config["3d_filter_kernel_size"] ** 2),
            "rotation": F.normalize(turned),
            "opacity": torch.sigmoid(self.opacity + torch.log(opacity / (1 - opacity))),
        }


class GaussianDecoder(HeadedDecoder):
    def __init__(self, cfg: LatentDecoderConfig):
        rep = cfg.representation_config
        if not {"num_gaussians", "voxel_size", "lr"} <= set(rep):
            raise InputError("The Gaussian decoder's configuration lacks `representation_config`.")
        self.count = int(rep["num_gaussians"])
        super().__init__(cfg, cfg.latent_channels, self.count * sum(FIELDS.values()))
        for name, table in self.computed_buffers().items():
            self.register_buffer(name, table)

    def computed_buffers(self) -> dict[str, Tensor]:
        """Where the Gaussians of a voxel sit before the network moves them: a Hammersley set, through atanh."""
        points = torch.tensor([hammersley(i, self.count) for i in range(self.count)], device="cpu").float() * 2 - 1
        return {"offset_perturbation": torch.atanh(points / self.config.representation_config["voxel_size"])}

    def gaussians(self, x: SparseTensor) -> list[RawGaussians]:
        """The Gaussians of every item, from what `forward` returned: [N, channels]."""
        rep, resolution = self.config.representation_config, self.config.resolution
        found = []
        for rows in x.layout:
            values, start = {}, 0
            for name, width in FIELDS.items():
                part = x.feats[rows, start : start + width * self.count]
                values[name] = part.reshape(-1, self.count, width) * rep["lr"][name]
                start += width * self.count
            offset = values["_xyz"]
            if rep.get("perturb_offset"):
                offset = offset + self.offset_perturbation
            offset = torch.tanh(offset) / resolution * 0.5 * rep["voxel_size"]
            place = (x.coords[rows, 1:].float() + 0.5) / resolution
            flat = {name: value.flatten(0, 1) for name, value in values.items()}
            found.append(
                RawGaussians(
                    (place[:, None] + offset).flatten(0, 1),
                    flat["_features_dc"][:, None],
                    flat["_scaling"],
                    flat["_rotation"],
                    flat["_opacity"],
                )
            )
        return found
