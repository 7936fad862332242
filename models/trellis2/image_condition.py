"""From prepared pictures to the conditions of the flow networks: all tokens (TRELLIS.2) or projected ones (Pixal3D)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...kernels.projection import distance_from_fov, front_uv, grid_points, posed_uv, sample_map
from ...scene.cameras import Cameras
from ...scene.errors import InputError
from .cascade import ImageStage
from .conditions import Condition
from .naf import Naf
from .preprocess import image_tensor


@dataclass(frozen=True)
class FrontCamera:
    """The upright camera in front of the object that Pixal3D assumes for one picture.

    fov: horizontal field of view in radians, in (0, pi). distance: to the middle of the cube; None puts it where the
    cube's middle section fills the picture's width. mesh_scale: the object is 1 / mesh_scale as large as the cube.
    """

    fov: float
    distance: float | None = None
    mesh_scale: float = 1.0

    def __post_init__(self):
        if not 0 < self.fov < math.pi:
            raise InputError(f"The field of view is {self.fov} radians; it must lie between 0 and pi (180 degrees).")

    def uv(self, points: Tensor, size: int) -> Tensor:
        """Pixels [1, N, 2] of mesh-frame points [N, 3] in a picture of size x size."""
        distance = distance_from_fov(self.fov, self.mesh_scale) if self.distance is None else self.distance
        return front_uv(points, self.fov, distance, self.mesh_scale, size)[0][None]

    def __len__(self) -> int:
        return 1


@dataclass(frozen=True)
class PosedCameras:
    """Any poses and intrinsics, one camera per picture; the world is that of `kernels.projection.posed_uv`."""

    cameras: Cameras
    mesh_scale: float = 1.0

    def uv(self, points: Tensor, size: int) -> Tensor:
        """Pixels [V, N, 2] of mesh-frame points [N, 3] in pictures resampled to size x size."""
        return posed_uv(points, self.cameras.to(points.device).resized(size, size), self.mesh_scale)[0]

    def __len__(self) -> int:
        return len(self.cameras)


AnyCamera = FrontCamera | PosedCameras


class Pictures:
    """Prepared pictures of one object with their tokens, each image size encoded once.

    encoder: [V, 3, S, S] in [0, 1] -> tokens [V, prefix + P, C] with `prefix_tokens` and `patch_size` (see `DinoV3`).
    pictures: V uint8 [H, W, 3] on black, one per view (one alone may be given bare), resized with Lanczos filtering
    to each size asked for; or float tensors [3, S, S] in [0, 1], which must have that size already. device: where the
    work is done, default where the encoder lies; lend: a context that brings the encoder there (`Cascade.on_device`).
    """

    def __init__(
        self,
        encoder: nn.Module,
        pictures: Sequence[np.ndarray | Tensor] | np.ndarray | Tensor,
        *,
        device: torch.device | str | None = None,
        lend: Callable[[nn.Module], AbstractContextManager[nn.Module]] = nullcontext,
    ):
        self.encoder = encoder
        self.device = next(encoder.parameters()).device if device is None else torch.device(device)
        self.lend = lend
        self.pictures = [pictures] if hasattr(pictures, "ndim") and pictures.ndim == 3 else list(pictures)
        if not self.pictures:
            raise InputError("There is no picture; at least one is needed.")
        self._tokens: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    def images(self, size: int) -> Tensor:
        """[V, 3, size, size] float32 in [0, 1]."""
        return torch.cat([_at_size(picture, size) for picture in self.pictures]).to(self.device)

    @torch.no_grad()
    def tokens(self, size: int) -> Tensor:
        """[V, prefix + P, C], the prefix first, then the patches row by row."""
        if size not in self._tokens:
            with self.lend(self.encoder) as encoder:
                self._tokens[size] = encoder(self.images(size)).float()
        return self._tokens[size]

    def split_tokens(self, size: int) -> tuple[Tensor, Tensor]:
        """Global tokens [V, prefix, C] and the patch map [V, C, h, w]."""
        tokens, prefix, side = self.tokens(size), self.encoder.prefix_tokens, size // self.encoder.patch_size
        patches = tokens[:, prefix:].transpose(1, 2).unflatten(-1, (side, side))
        return tokens[:, :prefix], patches


def _at_size(picture: np.ndarray | Tensor, size: int) -> Tensor:
    if not isinstance(picture, Tensor):
        return image_tensor(picture, size)
    if picture.shape != (3, size, size):
        raise InputError(f"The picture is {list(picture.shape)}; this stage sees [3, {size}, {size}].")
    return picture[None].float()


def token_condition(pictures: Pictures, size: int) -> Tensor:
    """The condition of models without projection: all tokens [1, M, C] of the first picture."""
    return pictures.tokens(size)[:1]


@torch.no_grad()
def project_features(
    pictures: Pictures, stage: ImageStage, camera: AnyCamera, coords: Tensor | None = None, naf: Naf | None = None
) -> tuple[Tensor, Tensor]:
    """Global tokens [1, prefix, C] and what the stage's tokens project to, [N, C] or [N, 2C] with NAF.

    coords: [N, 3] voxels of the stage's grid, default the whole grid in x-major order. Several views are averaged,
    tokens and features. Only the pixels that a token touches are raised by NAF. Raises InputError where pictures,
    camera and stage do not fit. Source: Pixal3D, projected image conditioning (also its multi-view form).
    """
    if len(camera) != len(pictures):
        raise InputError(f"There are {len(pictures)} pictures and {len(camera)} cameras; each picture needs one.")
    if stage.naf_target is not None and naf is None:
        raise InputError(f"This stage reads features raised to {stage.naf_target} pixels; give it NAF.")
    size = stage.image_size
    tokens, patches = pictures.split_tokens(size)
    points = grid_points(stage.grid_resolution, coords).to(tokens.device)
    pixels = camera.uv(points, size)
    total = None
    for view in range(len(pictures)):
        features = sample_map(patches[view : view + 1], pixels[view], size)
        if stage.naf_target is not None:
            image = pictures.images(size)[view : view + 1]
            raised = naf.at_points(image, patches[view : view + 1], pixels[view], size, stage.naf_target)
            features = torch.cat([features, raised], dim=-1)
        total = features if total is None else total + features
    return tokens.mean(dim=0, keepdim=True), total / len(pictures)


def projected_condition(
    pictures: Pictures, stage: ImageStage, camera: AnyCamera, coords: Tensor | None = None, naf: Naf | None = None
) -> Condition:
    """`project_features` as the condition of one item: dense without `coords`, else for a sparse latent on them."""
    tokens, projected = project_features(pictures, stage, camera, coords, naf)
    return Condition(tokens, projected[None] if coords is None else projected)
