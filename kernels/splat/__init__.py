"""Gaussian splats to pictures: `rasterize` on tensors, `render_splats` on the scene's own objects.

The dense twin (`dense.py`) defines the result; `tiled.py` computes the same quickly on any device; gsplat is used on
CUDA where it is installed and agreed with the twin.
"""

from .api import BACKENDS, Render, rasterize
from .blend import release_memory
from .scene_render import render_splats
from .sh import evaluate_sh

__all__ = ["BACKENDS", "Render", "evaluate_sh", "rasterize", "release_memory", "render_splats"]
