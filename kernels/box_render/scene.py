"""What the control picture is drawn from: boxes, lights, a camera and a floor as tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ...scene.errors import InputError

FACE_ALPHA = 0.025
FACE_COLOR = 0.5  # scene-linear; blue on local -X, red on local +Y, green on the other four
FLOOR_ALBEDO = 0.05
LIGHT_POWER = 700.0  # watts of each point light
EDGE_BRIGHTNESS = 0.1
INSET = 0.98  # where a wire begins on a face, as a share of the half extent
OUTSET = 1.0 + 0.02 / math.sqrt(3.0)  # where its outer rail lies
FLOOR_CENTER, FLOOR_HALF = (6.0, 0.0), 25.0  # the reference's floor, whose middle lies 6 units before the origin


@dataclass(frozen=True, eq=False)
class BoxScene:
    """Boxes before one camera; world Z up, all tensors float32 on one device.

    centers, halves: [N, 3]; axes: [N, 3, 3] with local axes as columns; edge_colors: [N, 3] scene-linear.
    lights: [L, 3]. eye: [3]; rays: [3, 3], maps (x, y, 1) in pixels to a world direction whose length along the view
    axis is 1, so that a ray's parameter is depth. near: depth before which nothing is seen. floor: the square of half
    side 25 at z = 0 is there. max_crossings: a ray that has crossed this many faces ends black; 0 = no limit.
    """

    centers: Tensor
    axes: Tensor
    halves: Tensor
    edge_colors: Tensor
    lights: Tensor
    eye: Tensor
    rays: Tensor
    width: int
    height: int
    near: float = 0.1
    floor: bool = True
    max_crossings: int = 8

    def __post_init__(self) -> None:
        n = len(self.centers)
        shapes = {"centers": (n, 3), "axes": (n, 3, 3), "halves": (n, 3), "edge_colors": (n, 3), "rays": (3, 3)}
        for name, shape in {**shapes, "lights": (len(self.lights), 3), "eye": (3,)}.items():
            tensor = getattr(self, name)
            if tuple(tensor.shape) != shape:
                raise InputError(f"`{name}` has shape {list(tensor.shape)}; {n} boxes need {list(shape)}.")
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"`{name}` holds numbers that are not finite; every entry must be a number.")
        if n and float(self.halves.min()) <= 0:
            raise InputError("A box has no extent on one side; every extent must be above 0.")
        if not len(self.lights):
            raise InputError("There is no light; the control picture needs at least one.")
        if self.width < 1 or self.height < 1:
            raise InputError(f"The picture size is {self.width}x{self.height}; both must be at least 1 pixel.")

    def to(self, device: torch.device | str) -> BoxScene:
        """The same scene with its tensors on `device`."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in moved.items() if isinstance(v, Tensor)})

    @property
    def device(self) -> torch.device:
        return self.centers.device

    def local(self, points: Tensor, box: Tensor | slice = slice(None)) -> Tensor:
        """World points [..., 3] -> [K, ..., 3], in units of the half extents of the chosen boxes."""
        axes, centers, halves = self.axes[box], self.centers[box], self.halves[box]
        shape = (len(axes), *[1] * (points.ndim - 1), 3)
        turned = torch.einsum("...c,kcd->k...d", points, axes) - torch.einsum("kc,kcd->kd", centers, axes).view(shape)
        return turned / halves.view(shape)


def edge_color(positions: Tensor) -> Tensor:
    """The scene-linear color of a box's edges by where its foot stands, [N, 3] -> [N, 3]; Z up, origin as the editor's.

    Source: spec section 3.1; the position color with its HSV value cut to 1 and multiplied by 0.1.
    """
    x, y, z = positions.unbind(-1)
    red = ((x + 6.0) / 11.0).clamp(0.0, 1.0)
    half = 4.5 - 4.0 * red
    green = ((y + half) / (2.0 * half)).clamp(0.0, 1.0)
    color = torch.stack([red, green, z / 2.5], dim=-1).clamp_min(0.0)
    value = color.amax(-1, keepdim=True).clamp_min(1e-9)
    return color / value * (EDGE_BRIGHTNESS * value).clamp(0.0, 1.0)


def reference_lights(seed: int, count: int = 5, radius: float = 16.0) -> Tensor:
    """[count, 3] positions drawn as the reference draws them (numpy's legacy generator, all phi before all cos theta).

    World Z up, around the origin that the camera looks at.
    """
    import numpy as np

    random = np.random.RandomState(seed)
    phi = torch.from_numpy(random.uniform(-math.pi / 2, math.pi / 2, count))
    cosine = torch.from_numpy(random.uniform(0.5, 1.0, count))
    return _on_sphere(phi, cosine, radius)


def even_lights(radius: float = 16.0) -> Tensor:
    """[5, 3] positions spread evenly over where the reference draws its lights; the same at every run."""
    phi = torch.deg2rad(torch.tensor([-72.0, -36.0, 0.0, 36.0, 72.0], dtype=torch.float64))
    cosine = torch.tensor([0.65, 0.85, 0.55, 0.95, 0.75], dtype=torch.float64)
    return _on_sphere(phi, cosine, radius)


def _on_sphere(phi: Tensor, cosine: Tensor, radius: float) -> Tensor:
    sine = torch.sqrt(1.0 - cosine**2)
    return (radius * torch.stack([sine * torch.cos(phi), sine * torch.sin(phi), cosine], dim=-1)).float()
