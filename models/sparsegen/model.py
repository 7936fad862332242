"""SparseGen: posed views -> anchors -> Gaussians (Rethinking Image-to-3D Generation with Sparse Queries)."""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn as nn

from .config import SparseGenConfig
from .embeddings import anchor_sinusoid, frustum_logits, view_sinusoid
from .gaussians import GaussianHeads, Gaussians, decode_gaussians
from .transformer import SparseGenTransformer
from .vit import ViTExtractor


@dataclasses.dataclass(frozen=True)
class ViewCache:
    """What stays the same over the sampling steps: pass it to `SparseGen.forward` to compute it once.

    ``clean_features`` [B,Nc,E,g,g] of the first Nc views, ``position`` [B,V,E,g,g] of all views, ``queries`` [B,Q,E],
    ``tokens`` the ViT's position embedding at the grid in use.
    """

    clean_features: torch.Tensor
    position: torch.Tensor
    queries: torch.Tensor
    tokens: torch.Tensor


class SparseGen(nn.Module):
    """The network, with the published parameter names (the checkpoint's without ``reconstructor.``)."""

    def __init__(self, config: SparseGenConfig):
        super().__init__()
        self.config = config
        dims = config.embed_dims
        self.feature_extractor = ViTExtractor(config)
        self.input_proj = nn.Conv2d(config.vit_dims, dims, 1)
        # not nn.Embedding(num_query, 3): drawing its normal numbers on the meta device makes torch import sympy,
        # a second
        self.reference_points = nn.Embedding.from_pretrained(torch.rand(config.num_query, 3), freeze=False)
        self.query_embedding = nn.Sequential(nn.Linear(dims * 3 // 2, dims), nn.ReLU(), nn.Linear(dims, dims))
        self.adapt_pos3d = nn.Sequential(nn.Conv2d(dims * 3 // 2, dims * 4, 1), nn.ReLU(), nn.Conv2d(dims * 4, dims, 1))
        self.position_encoder = nn.Sequential(
            nn.Conv2d(config.depth_num * 3, dims * 4, 1), nn.ReLU(), nn.Conv2d(dims * 4, dims, 1)
        )
        self.transformer = SparseGenTransformer(config)
        self.gs_decoder = nn.ModuleList(GaussianHeads(config) for _ in range(config.head_sets))

    @property
    def dtype(self) -> torch.dtype:
        """Type the network computes in (the Gaussian heads are always float32)."""
        return self.input_proj.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.input_proj.weight.device

    def to_dtype(self, dtype: torch.dtype) -> "SparseGen":
        """Convert in place to `dtype`; anchors and Gaussian heads stay float32."""
        for name, parameter in self.named_parameters():
            if not name.startswith(("gs_decoder.", "reference_points.")):
                parameter.data = parameter.data.to(dtype)
        return self

    def encode_views(
        self, views: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor | None = None
    ) -> torch.Tensor:
        """views [B,V,12,S,S], times [B,V] -> features [B,V,E,g,g]; each view by itself."""
        features = self.feature_extractor(views, times, tokens)
        return self.input_proj(features.flatten(0, 1)).unflatten(0, features.shape[:2])

    def embed_positions(self, world_to_camera: torch.Tensor) -> torch.Tensor:
        """[B,V,4,4] OpenCV cameras -> [B,V,E,g,g]: where each cell lies in 3D,
        plus its place among views, rows and columns.
        """
        config, (batch, views) = self.config, world_to_camera.shape[:2]
        in_box = frustum_logits(world_to_camera, config).flatten(0, 1).to(self.dtype)
        in_views = view_sinusoid(
            views, config.feature_grid, config.feature_grid, config.embed_dims // 2, world_to_camera.device
        )
        position = self.position_encoder(in_box).unflatten(0, (batch, views))
        return position + self.adapt_pos3d(in_views.to(self.dtype))

    def embed_queries(self, batch: int = 1) -> torch.Tensor:
        """[batch,Q,E]: the learned anchors as query embeddings."""
        waves = anchor_sinusoid(self.reference_points.weight.float(), self.config.embed_dims // 2)
        return self.query_embedding(waves.to(self.dtype)).expand(batch, -1, -1)

    def cache(self, clean_views: torch.Tensor, world_to_camera: torch.Tensor) -> ViewCache:
        """Precompute what sampling steps share.

        `clean_views` [B,Nc,12,S,S] (they always have time 0), `world_to_camera` [B,V,4,4] of all views, clean ones
        first. Exact: a clean view's features depend on nothing but itself.
        """
        tokens = self.feature_extractor.model.position_tokens()
        times = torch.zeros(clean_views.shape[:2], device=clean_views.device)
        return ViewCache(
            self.encode_views(clean_views, times, tokens),
            self.embed_positions(world_to_camera),
            self.embed_queries(clean_views.shape[0]),
            tokens,
        )

    def run_transformer(
        self, views: torch.Tensor, times: torch.Tensor, world_to_camera: torch.Tensor, cache: ViewCache | None = None
    ) -> list[torch.Tensor]:
        """Decoder outputs [B,Q,E], one per layer. With `cache`, `views` are only those after the cached clean ones."""
        if cache is None:
            features, position = self.encode_views(views, times), self.embed_positions(world_to_camera)
            queries = self.embed_queries(views.shape[0])
        else:
            features, position, queries = cache.clean_features, cache.position, cache.queries
            if views.shape[1]:
                noisy = self.encode_views(views, times[:, features.shape[1] :], cache.tokens)
                features = torch.cat([features, noisy], dim=1)
        return [torch.nan_to_num(x) for x in self.transformer(features, queries, position, times)]

    def decode(self, outputs: Sequence[torch.Tensor], layers: str | Sequence[int] = "last") -> list[Gaussians]:
        """Gaussians of the chosen decoder layers: ``"last"``, ``"all"`` or layer numbers (negative count from the end).

        A network with a single head set has Gaussians for the last layer only.
        """
        count = len(outputs)
        available = range(count) if len(self.gs_decoder) == count else range(count - 1, count)
        if isinstance(layers, str):
            if layers not in ("last", "all"):
                raise ValueError(f'`layers` is {layers!r}; it must be "last", "all" or a list of layer numbers.')
            chosen = list(available) if layers == "all" else [count - 1]
        else:
            chosen = [layer % count if -count <= layer < count else layer for layer in layers]
            if not chosen or any(layer not in available for layer in chosen):
                raise ValueError(
                    f"`layers` is {list(layers)}; this network has Gaussian heads for layers {list(available)}."
                )
        return [
            decode_gaussians(
                self.gs_decoder[layer if len(self.gs_decoder) == count else 0],
                outputs[layer],
                self.reference_points.weight,
                self.config,
            )
            for layer in chosen
        ]

    def forward(
        self,
        views: torch.Tensor,
        times: torch.Tensor,
        world_to_camera: torch.Tensor,
        *,
        keep: Sequence[int] | torch.Tensor | None = None,
        layers: str | Sequence[int] = "last",
        cache: ViewCache | None = None,
    ) -> list[Gaussians]:
        """One prediction of the object from its views.

        `views` [B,V,12,S,S] from `assemble_views` (clean first), `times` [B,V] from `view_times` (0..1000, 0 for
        clean), `world_to_camera` [B,V,4,4] float32 OpenCV, of which further rows are ignored. `keep` selects views
        (training drops some). `layers` selects decoder layers, see `decode`. With `cache` (see `cache`), `views` holds
        only the views after the cached ones, while `times` and cameras stay those of all views; `keep` cannot be used
        then.
        Returns one `Gaussians` per chosen layer, in the order asked for. Differentiable with respect to views and
        weights.
        """
        world_to_camera = world_to_camera[:, : times.shape[1]]
        if keep is not None:
            if cache is not None:
                raise ValueError(
                    "`keep` cannot be combined with `cache`: the cached embeddings depend on the set of views."
                )
            keep = torch.as_tensor(keep, device=views.device)
            views, times, world_to_camera = views[:, keep], times[:, keep], world_to_camera[:, keep]
        return self.decode(self.run_transformer(views.to(self.device), times, world_to_camera, cache), layers)
