"""Gaussian splats: the value object that models produce, renderers draw and files hold."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import frames
from .errors import InputError
from .rotations import SH_C0, quaternion_from_matrix, quaternion_multiply, rotate_sh, sh_degree


@dataclass(frozen=True, eq=False)
class Splats:
    """N activated 3D Gaussians, world frame right-handed, Z up (unless `turned` into another).

    means: [N, 3] centers, world units.
    scales: [N, 3] standard deviations along the Gaussian's own axes, linear, world units.
    quats: [N, 4] (w, x, y, z), unit, Gaussian's axes -> world.
    opacities: [N] in [0, 1].
    sh: [N, K, 3], K = (degree + 1)^2, DC first; rgb = 0.5 + 0.28209479 sh[:, 0] for view-independent color.
    Raises InputError where the shapes do not fit each other.
    """

    means: Tensor
    scales: Tensor
    quats: Tensor
    opacities: Tensor
    sh: Tensor

    def __post_init__(self) -> None:
        count = self.means.shape[0] if self.means.ndim else 0
        wanted = {"means": (count, 3), "scales": (count, 3), "quats": (count, 4), "opacities": (count,)}
        for name, shape in wanted.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise InputError(f"`{name}` of the splats has shape {list(found)}; it must be {list(shape)}.")
        if self.sh.ndim != 3 or self.sh.shape[0] != count or self.sh.shape[2] != 3:
            raise InputError(f"`sh` of the splats has shape {list(self.sh.shape)}; it must be [{count}, K, 3].")
        sh_degree(self.sh.shape[1])

    @classmethod
    def from_rgb(cls, means: Tensor, scales: Tensor, quats: Tensor, opacities: Tensor, rgb: Tensor) -> Splats:
        """Splats of one color each; rgb: [N, 3] in [0, 1]."""
        return cls(means, scales, quats, opacities, ((rgb - 0.5) / SH_C0)[:, None, :])

    def __len__(self) -> int:
        return self.means.shape[0]

    def __getitem__(self, index) -> Splats:
        """The chosen Gaussians (slice, mask or index tensor)."""
        return Splats(self.means[index], self.scales[index], self.quats[index], self.opacities[index], self.sh[index])

    @property
    def rgb(self) -> Tensor:
        """[N, 3] view-independent part of the color, not clamped."""
        return 0.5 + SH_C0 * self.sh[:, 0]

    @property
    def sh_degree(self) -> int:
        """The degree of the spherical harmonics, 0 for view-independent color."""
        return sh_degree(self.sh.shape[1])

    @property
    def device(self) -> torch.device:
        return self.means.device

    def to(self, device: torch.device | str | torch.dtype) -> Splats:
        """The same splats on another device or in another dtype."""
        return self._map(lambda tensor: tensor.to(device))

    def detach(self) -> Splats:
        """The same splats, cut off from the gradient graph."""
        return self._map(torch.Tensor.detach)

    def turned(self, source: str, target: str) -> Splats:
        """These splats, given in the world frame `source`, expressed in the world frame `target`.

        Frames: "z_up" (ours), "y_up" (glTF), "y_down" (3D Gaussian Splatting files, ComfyUI's SPLAT); see
        `scene.frames`. Centers, rotations and view-dependent color turn; scales and opacities stay.
        """
        return self if source == target else self.rotated(frames.world_rotation(source, target))

    def rotated(self, rotation: Tensor) -> Splats:
        """These splats turned by `rotation` [3, 3] (acting on columns) about the origin, within their frame."""
        turn = quaternion_from_matrix(rotation).to(self.quats)
        return Splats(
            self.means @ rotation.to(self.means).mT,
            self.scales,
            quaternion_multiply(turn.expand_as(self.quats), self.quats),
            self.opacities,
            rotate_sh(self.sh, rotation),
        )

    def y_up(self) -> Splats:
        """A copy in glTF's frame (Y up), for splats in ours (Z up)."""
        return self.turned("z_up", "y_up")

    def y_down(self) -> Splats:
        """A copy in the frame of 3DGS files and of ComfyUI's SPLAT (Y down), for splats in ours (Z up)."""
        return self.turned("z_up", "y_down")

    def check_finite(self) -> Splats:
        """Return self; raise InputError if any number is not finite."""
        for name in ("means", "scales", "quats", "opacities", "sh"):
            bad = ~torch.isfinite(getattr(self, name)).flatten(1 if name != "opacities" else 0)
            bad = int((bad.any(dim=-1) if bad.ndim > 1 else bad).sum())
            if bad:
                raise InputError(f"{bad} of {len(self)} splats have `{name}` that are not finite numbers.")
        return self

    def _map(self, change) -> Splats:
        return Splats(*(change(t) for t in (self.means, self.scales, self.quats, self.opacities, self.sh)))
