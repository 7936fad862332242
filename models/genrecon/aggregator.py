"""The network that turns what many views say about a voxel into one feature, under its published names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.view_aggregation import AggregatorWeights, aggregate, aggregate_tokens
from ...kernels.view_projection import camera_features, project_to_patches, refine_coords, voxel_centers
from ..trellis2.blocks import SelfAttention, rope_phases
from ..trellis2.sparse_structure_flow import grid_coords

CAMERA_WIDTH = 5


class ViewAggregator(nn.Module):
    """GenRecon `MultiViewFeatAggregator`, dense or sparse.

    channels: of the image features. two_pass: see `kernels.view_aggregation.aggregate` (False for the dense model).
    use_camera: five more inputs. conv_net, self_attention, refinement: branches of the dense class that no released
    model has; with them `collapse` brings a refined grid back to `resolution`.
    """

    def __init__(
        self,
        channels: int,
        *,
        two_pass: bool = True,
        use_camera: bool = False,
        resolution: int | None = None,
        refinement: int = 1,
        conv_net: bool = False,
        self_attention: bool = False,
    ):
        super().__init__()
        self.two_pass, self.use_camera = two_pass, use_camera
        self.resolution, self.refinement = resolution, refinement
        width = 3 * channels + (CAMERA_WIDTH if use_camera else 0)
        self.feature_mlp = nn.Sequential(
            nn.Linear(width, channels), nn.ReLU(), nn.Linear(channels, channels), nn.ReLU(),
            nn.Linear(channels, channels),
        )  # fmt: skip
        self.weight_mlp = nn.Sequential(nn.Linear(width, channels), nn.ReLU(), nn.Linear(channels, 1))
        if conv_net:
            layers = [nn.Conv3d(channels, channels, 3, padding=1) for _ in range(3)]
            self.ConvNet = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])
        if self_attention:
            self.self_attention = SelfAttention(channels, 4, True)
            self.output_layer = nn.Linear(channels, channels)
            self.register_buffer("rope_phases", rope_phases(grid_coords(resolution), channels // 4))

    @property
    def weights(self) -> AggregatorWeights:
        def pairs(net, *places):
            return tuple((net[i].weight, net[i].bias) for i in places)

        return AggregatorWeights(pairs(self.feature_mlp, 0, 2, 4), pairs(self.weight_mlp, 0, 2))

    def forward(self, feats: Tensor, mask: Tensor, camera: Tensor | None = None) -> Tensor:
        """The definition on lifted features: [V, D] (collapsed) from feats [N, V, D], mask [N, V], camera [N, V, 5]."""
        return self.collapse(aggregate(feats, mask, self.weights, camera, self.two_pass))

    def from_tokens(
        self,
        tokens: Tensor,
        points: Tensor,
        extrinsics: Tensor,
        intrinsics: Tensor,
        *,
        prefix: int = 5,
        dtype: torch.dtype = torch.float32,
        batch: int = 8192,
    ) -> Tensor:
        """[V, D] for points [V, 3] from tokens [N, prefix + P, D], streamed over points.

        Arguments as `project_to_patches`; dtype: of the projection; batch: points at a time.
        """
        patches = round((tokens.shape[1] - prefix) ** 0.5)
        parts = []
        for some in points.split(max(1, batch)):
            patch, valid = project_to_patches(some, extrinsics, intrinsics, patches, dtype)
            camera = camera_features(some, extrinsics) if self.use_camera else None
            parts.append(self.from_patches(tokens, patch, valid, camera, prefix=prefix))
        return torch.cat(parts)

    def from_patches(
        self, tokens: Tensor, patch: Tensor, valid: Tensor, camera: Tensor | None = None, *, prefix: int = 5
    ) -> Tensor:
        """[V, D] of voxels whose patches [N, V] are known already; valid [N, V]; camera [N, V, 5] if it is used."""
        extra = None if camera is None else (lambda view, voxel: camera[view, voxel])
        return aggregate_tokens(tokens, patch, valid, self.weights, prefix=prefix, extra=extra, two_pass=self.two_pass)

    def collapse(self, x: Tensor) -> Tensor:
        """The optional branches of the dense class on a whole grid [V, D]; without them x itself."""
        if hasattr(self, "ConvNet") or self.refinement > 1 and self.resolution:
            side = round(len(x) ** (1 / 3))
            grid = x.T.reshape(1, -1, side, side, side)
            if hasattr(self, "ConvNet"):
                grid = grid + self.ConvNet(grid)
            if self.refinement > 1:
                size = (self.resolution,) * 3
                grid = F.interpolate(grid, size, mode="trilinear", align_corners=False)
            x = grid.flatten(2)[0].T
        if hasattr(self, "self_attention"):
            x = x + self.output_layer(self.self_attention(x[None], self.rope_phases, None)[0])
        return x


def sparse_condition(
    aggregator: ViewAggregator, tokens: Tensor, coords: Tensor, extrinsics: Tensor, intrinsics: Tensor,
    resolution: int, refinement: int = 1, prefix: int = 5,
) -> Tensor:  # fmt: skip
    """[S, D] for the voxels coords [S, 4] of B items, each with its own views.

    tokens: [B, N, prefix + P, D]; extrinsics [B, N, 4, 4]; intrinsics [B, N, 3, 3]. With refinement, a voxel has the
    largest value of its children, and 0 where no child is seen.
    """
    fine, parent = (coords, None) if refinement == 1 else refine_coords(coords, refinement)
    out = tokens.new_zeros(len(fine), tokens.shape[-1])
    for item in range(len(tokens)):
        rows = (fine[:, 0] == item).nonzero().squeeze(1)
        points = voxel_centers(resolution, fine[rows, 1:], refinement)
        out[rows] = aggregator.from_tokens(tokens[item], points, extrinsics[item], intrinsics[item], prefix=prefix)
    if parent is None:
        return out
    index = parent[:, None].expand_as(out)
    return out.new_zeros(len(coords), out.shape[1]).scatter_reduce(0, index, out, "amax", include_self=False)
