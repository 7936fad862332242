"""What the layout fixtures hold, as our scene document and its pictures; each is drawn once for all tests."""

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sightline.kernels.box_render.render import display, render_linear
from sightline.pipelines.layout_render import box_scene
from sightline.scene.document import parse_document

SIDE = 1024  # pixels of the reference's picture


def document(fixture):
    return parse_document(fixture.path.with_suffix(".json").read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=2)
def _linear(path: Path) -> torch.Tensor:
    scene = box_scene(parse_document(path.with_suffix(".json").read_text(encoding="utf-8")), SIDE, SIDE)
    return render_linear(scene)


def linear(fixture) -> torch.Tensor:
    """Our picture in linear light, [1024, 1024, 3]."""
    return _linear(fixture.path)


def shown(fixture) -> torch.Tensor:
    """Our picture as it is displayed, in 255 levels."""
    return display(linear(fixture)) * 255


def picture(fixture, suffix: str) -> torch.Tensor | None:
    """A recorded picture beside the fixture in 255 levels, None where there is none."""
    path = fixture.path.with_name(fixture.path.stem + suffix)
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).float()


def bits(fixture, suffix: str, side: int) -> torch.Tensor | None:
    """Recorded 1-bit masks stacked vertically, [K, side, side] bool."""
    path = fixture.path.with_name(fixture.path.stem + suffix)
    if not path.is_file():
        return None
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("L"))).view(-1, side, side) > 0


def pooled(image: torch.Tensor, side: int) -> torch.Tensor:
    """[side, side, 3] averages of a square picture."""
    step = image.shape[0] // side
    return image.view(side, step, side, step, 3).mean((1, 3))
