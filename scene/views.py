"""View sets: pictures of one object together with the cameras that saw them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .cameras import Cameras, orbit
from .errors import InputError
from .splats import Splats

FITS = ("pad", "crop")
FRAMING_MARGIN = 1.08
MASK_LEVEL = 0.02  # a mask whose brightest pixel stays below this selects nothing a picture with 8 bits could show


@dataclass(frozen=True, eq=False)
class ViewSet:
    """V pictures of one object and their cameras.

    images: [V, 3, H, W] float32 in [0, 1], background composited; cameras: V cameras of that picture size, world Z up.
    Raises InputError where the two do not fit each other or pixels are not finite numbers.
    """

    images: Tensor
    cameras: Cameras

    def __post_init__(self) -> None:
        images = check_images(self.images)
        if images.shape[1] != 3:
            raise InputError(f"The pictures have {images.shape[1]} channels; a view set holds RGB pictures.")
        if len(images) != len(self.cameras):
            found = f"{len(images)} pictures and {len(self.cameras)} cameras"
            raise InputError(f"There are {found}; each picture needs one.")
        size = (self.cameras.height, self.cameras.width)
        if images.shape[-2:] != size:
            object.__setattr__(self, "cameras", self.cameras.resized(images.shape[-1], images.shape[-2]))

    def __len__(self) -> int:
        return self.images.shape[0]


def check_images(images: Tensor, name: str = "`images`") -> Tensor:
    """Return `images` [V, C, H, W] as float32 clamped to [0, 1]; raise InputError, naming `name`, where that cannot be.

    It cannot for another number of axes, for no pictures, no pixels, and pixels that are not finite numbers.
    """
    if images.ndim != 4 or not images.shape[0]:
        raise InputError(f"{name} has shape {list(images.shape)}; pictures [V, C, H, W] are needed, at least one.")
    if not images.shape[2] or not images.shape[3]:
        size = f"{images.shape[3]}x{images.shape[2]}"
        raise InputError(f"{name} is empty ({size} pixels); give a picture with pixels in it.")
    images = images.to(torch.float32)
    if not bool(torch.isfinite(images).all()):
        raise InputError(f"{name} holds pixels that are not finite numbers (NaN or infinity); mend or replace it.")
    return images.clamp(0, 1)


def composite(
    images: Tensor, masks: Tensor | None = None, background: float | Sequence[float] = 1.0, name: str = "`images`"
) -> Tensor:
    """RGB pictures [V, 3, H, W] on a plain background.

    images: [V, 3 or 4, H, W] in [0, 1]; a fourth channel is opacity. masks: [V or 1, H', W'] in [0, 1], 1 = object,
    resampled to the pictures; it multiplies the opacity. background: a gray value or RGB in [0, 1]. name: for messages.
    Raises InputError for an empty mask, a mask of another count, or channels that are neither 3 nor 4.
    """
    images = check_images(images, name)
    if images.shape[1] not in (3, 4):
        raise InputError(f"{name} has {images.shape[1]} channels; RGB or RGBA is needed.")
    rgb, opacity = images[:, :3], images[:, 3:]
    if masks is not None:
        masks = check_images(masks[:, None] if masks.ndim == 3 else masks, f"The mask of {name}")
        if len(masks) not in (1, len(images)):
            found = f"{len(masks)} masks for {len(images)} pictures"
            raise InputError(f"There are {found}; give one for all or one for each.")
        if bool((masks.flatten(1).amax(dim=1) < MASK_LEVEL).any()):
            hint = "paint the object white or remove the background"
            raise InputError(f"The mask of {name} is empty: nothing is selected; {hint}.")
        masks = F.interpolate(masks, images.shape[-2:], mode="bilinear", antialias=True).clamp(0, 1)
        opacity = masks.expand(len(images), -1, -1, -1) * (opacity if opacity.shape[1] else 1)
    if not opacity.shape[1]:
        return rgb
    color = torch.as_tensor(background, dtype=rgb.dtype, device=rgb.device).expand(3)[:, None, None]
    return opacity * rgb + (1 - opacity) * color


def square(
    images: Tensor, size: int | None = None, fit: str = "pad", background: float | Sequence[float] = 1.0
) -> Tensor:
    """Pictures [V, 3, H, W] made square: "pad" adds `background` on the short sides, "crop" cuts the long ones.

    size: side of the result in pixels (antialiased bilinear), default: as it comes out. Returns [V, 3, S, S].
    """
    if fit not in FITS:
        raise InputError(f"The fit {fit!r} is unknown; choose one of {', '.join(FITS)}.")
    height, width = images.shape[-2:]
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        images = images[..., top : top + side, left : left + side]
    elif height != width:
        side = max(height, width)
        color = torch.as_tensor(background, dtype=images.dtype, device=images.device).expand(3)[:, None, None]
        canvas = color.expand(len(images), 3, side, side).clone()
        top, left = (side - height) // 2, (side - width) // 2
        canvas[..., top : top + height, left : left + width] = images
        images = canvas
    if size is not None and size != images.shape[-1]:
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    return images


def view_set(
    pictures: Sequence[Tensor],
    azimuth: Sequence[float],
    elevation: Sequence[float],
    radius: float,
    fov: float,
    *,
    masks: Tensor | None = None,
    fit: str = "pad",
    cameras: Cameras | None = None,
    background: float | Sequence[float] = 1.0,
) -> ViewSet:
    """Pictures of one object and where they were taken from, on `background`, square, all as large as the largest.

    pictures: batches [B, 3 or 4, H, W] in [0, 1], their sizes may differ; all together V pictures. azimuth, elevation:
    degrees as `orbit` counts them, V values (one elevation may serve all). radius: world units; fov: degrees.
    masks: [V or 1, H', W'], 1 = object. cameras: V cameras to take instead of the angles. background: a gray value or
    RGB in [0, 1].
    Raises InputError for counts that do not fit and for pictures that cannot be used.
    """
    singles = [batch[i : i + 1] for batch in pictures for i in range(len(batch))]
    count = len(singles)
    if not count:
        raise InputError("`images` has no picture; connect at least one.")
    if masks is not None and len(masks) not in (1, count):
        found = f"{len(masks)} masks for {count} picture" + ("s" if count != 1 else "")
        raise InputError(f"There are {found}; give one for all or one for each.")
    each = [None] * count if masks is None else [masks[i if len(masks) > 1 else 0][None] for i in range(count)]
    squares = [
        square(composite(single, mask, background, f"Picture {i + 1}"), fit=fit, background=background)
        for i, (single, mask) in enumerate(zip(singles, each))
    ]
    size = max(one.shape[-1] for one in squares)
    images = torch.cat([square(one, size) for one in squares])
    if cameras is None:
        azimuth = _one_each("azimuths", azimuth, count)
        elevation = _one_each("elevations", elevation, count)
        cameras = orbit(azimuth, elevation, radius, fov, size, size)
    if len(cameras) != count:
        found = f"{len(cameras)} cameras for {count} picture" + ("s" if count != 1 else "")
        raise InputError(f"`cameras` holds {found}; each picture needs one.")
    return ViewSet(images, cameras.resized(size, size))


def parse_angles(text: str, name: str) -> list[float]:
    """Degrees in a text like "0, 90, 180" (commas, semicolons or spaces between them); `name` is for the message."""
    words = [word for word in re.split(r"[,;\s]+", text.strip()) if word]
    values = []
    for word in words:
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not abs(value) <= 3600:
            hint = "it must be angles in degrees with commas between, for example 0, 90, 180"
            raise InputError(f"`{name}` contains {word[:20]!r}; {hint}.")
        values.append(value)
    if not values:
        raise InputError(f"`{name}` is empty; give one angle in degrees for each picture, for example 0, 90, 180.")
    return values


def _one_each(name: str, values: Sequence[float], count: int) -> list[float]:
    values = list(values)
    if len(values) == 1 and (count == 1 or name == "elevations"):
        return values * count
    if len(values) != count:
        found = f"{len(values)} value" + ("s" if len(values) != 1 else "")
        pictures = f"{count} picture" + ("s" if count != 1 else "")
        raise InputError(f"`{name}` has {found} for {pictures}; give one angle for each.")
    return values


def framing(splats: Splats, fov: float, aspect: float = 1.0) -> tuple[tuple[float, float, float], float]:
    """Where to look and from how far, so that a camera of `fov` degrees sees all of `splats` from any side.

    fov: horizontal; aspect: width / height of the picture. Gaussians below opacity 0.05 and the outermost hundredth
    (by distance) do not count. Returns the middle of what counts and a distance, in the splats' own frame and units; a
    single point is seen from distance 1.
    """
    means = splats.means[splats.opacities > 0.05]
    means = (means if len(means) else splats.means).cpu().double()  # some devices have no float64
    middle = (means.amin(dim=0) + means.amax(dim=0)) / 2
    for _ in range(2):  # once more without what lies far out
        distance = (means - middle).norm(dim=-1)
        reach = distance.kthvalue(max(1, math.ceil(0.99 * len(distance)))).values
        inner = means[distance <= reach]
        middle = (inner.amin(dim=0) + inner.amax(dim=0)) / 2
    size = float((inner - middle).norm(dim=-1).amax()) * FRAMING_MARGIN
    half = math.atan(math.tan(math.radians(min(fov, 170.0)) / 2) / max(aspect, 1.0))
    return tuple(middle.tolist()), size / math.sin(half) if size > 1e-9 else 1.0


def depth_picture(depth: Tensor, alpha: Tensor) -> Tensor:
    """Depth maps as gray pictures: near is 1, far is 0.1, nothing is 0, one scale for all.

    depth, alpha: [V, H, W] as `rasterize` gives them. Returns [V, H, W, 3] in [0, 1].
    """
    seen = alpha > 0.5
    if not bool(seen.any()):
        return torch.zeros(*depth.shape, 3, dtype=depth.dtype, device=depth.device)
    near, far = depth[seen].amin(), depth[seen].amax()
    shade = 1 - 0.9 * (depth - near) / (far - near).clamp_min(1e-6)
    return torch.where(seen, shade, 0.0)[..., None].expand(*depth.shape, 3)
