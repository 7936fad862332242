"""The expansion operator: each anchor becomes several Gaussians."""

import dataclasses

import torch
import torch.nn as nn
import torch.nn.functional as F

from ...scene.splats import Splats
from .config import SparseGenConfig
from .embeddings import inverse_sigmoid

OPACITY_SHIFT = 2.0
SCALE_SHIFT = 2.3


@dataclasses.dataclass(frozen=True)
class Gaussians:
    """B sets of N = queries x Gaussians-per-query activated Gaussians, query-major; float32.

    ``box`` [B,N,3] centers in the [0,1] box, ``means`` [B,N,3] the same in world units (Z up), ``scales`` [B,N,3]
    standard deviations in world units, ``quats`` [B,N,4] unit, wxyz, ``opacities`` [B,N] and ``colors`` [B,N,3] in
    [0,1], ``xyz_offset`` [B,Q,G,3] the raw offsets in logit space (what the offset penalty looks at).
    """

    box: torch.Tensor
    means: torch.Tensor
    scales: torch.Tensor
    quats: torch.Tensor
    opacities: torch.Tensor
    colors: torch.Tensor
    xyz_offset: torch.Tensor

    def __getitem__(self, item: int) -> Splats:
        """Set number `item` as `Splats` (world frame, Z up, degree-0 spherical harmonics)."""
        return Splats.from_rgb(
            self.means[item], self.scales[item], self.quats[item], self.opacities[item], self.colors[item]
        )


class GaussianHeads(nn.ModuleDict):
    """The five MLPs (xyz, opacity, rotation, scale, color) of one decoder layer."""

    def __init__(self, config: SparseGenConfig):
        dims, count = config.embed_dims, config.num_gs_per_query

        def mlp(hidden, channels):
            return nn.Sequential(
                nn.Linear(dims, dims),
                nn.ReLU(),
                nn.Linear(dims, hidden),
                nn.ReLU(),
                nn.Linear(hidden, count * channels),
            )

        super().__init__(
            {
                "xyz": mlp(dims, 3),
                "opacity": mlp(dims // 2, 1),
                "rotation": mlp(dims, 4),
                "scale": mlp(dims // 2, 3),
                "color": mlp(dims, 3),
            }
        )


def decode_gaussians(
    heads: GaussianHeads, queries: torch.Tensor, anchors: torch.Tensor | None, config: SparseGenConfig
) -> Gaussians:
    """Gaussians of one decoder layer.

    `queries` [B,Q,E] decoder output, `anchors` [Q,3] or [B,Q,3] in box coordinates (None: offsets alone place the
    centers). Computed in float32 whatever the network's type.
    """
    with torch.autocast(queries.device.type, enabled=False):
        x = queries.float()

        def values(name):
            return heads[name](x).unflatten(-1, (config.num_gs_per_query, -1))

        offset = values("xyz")
        logits = offset if anchors is None else inverse_sigmoid(anchors.float())[..., None, :] + offset
        box = torch.sigmoid(logits).flatten(1, 2)
        low, high = torch.tensor(config.position_range, dtype=torch.float32, device=x.device).view(2, 3)
        return Gaussians(
            box=box,
            means=box * (high - low) + low,
            scales=torch.exp(values("scale") - SCALE_SHIFT).clamp_max(config.max_scale).flatten(1, 2),
            quats=F.normalize(values("rotation"), dim=-1).flatten(1, 2),
            opacities=torch.sigmoid(values("opacity") - OPACITY_SHIFT).flatten(1),
            colors=torch.sigmoid(values("color")).flatten(1, 2),
            xyz_offset=offset,
        )
