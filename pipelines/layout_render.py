"""SeeThrough3D's control picture from a scene document: picture, masks, who is seen where, and warnings.

document = parse_document(text)
layout = render_layout(document)
layout.image, layout.masks, layout.cells, layout.prompt.text
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..kernels.box_render.masks import MARGIN, mask_cells, nearest_boxes, polygon_masks
from ..kernels.box_render.render import SAMPLES, display, render_linear
from ..kernels.box_render.scene import OUTSET, BoxScene, edge_color, even_lights, reference_lights
from ..scene.document import Document, Problem, PromptParts, SceneError, prompt_parts
from ..scene.document.comfort import comfort
from ..scene.document.geometry import (
    REFERENCE_DISTANCE,
    Canonical,
    box_center,
    box_rotation,
    camera_pose,
    canonical,
    clip_polygon,
    intrinsics,
    polygon_area,
    silhouette,
)
from ..scene.document.words import run_problems
from ..scene.errors import InputError

LONGEST = 1024  # pixels: the reference draws 1024 x 1024 and shrinks it for the model
CELLS = 32  # the control picture has 32 x 32 tokens
JPEG_QUALITIES = (90, 75)  # the reference saves its picture twice
PROBE = 256  # pixels of the longest side where occlusion is only estimated for a warning
HIDDEN = 0.9

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class LayoutRender:
    """What a layout looks like from its active camera; N objects in the picture, K of them in the prompt.

    image: [1, H, W, 3] float32, 0 to 1. masks: [K, H, W] bool, the whole silhouette of each prompt object, hidden parts
    included; cells: [K, 32, 32] bool, the same per control token. nearest: [H, W] int64, which of the N objects is seen
    first at a pixel center (-1 none), boxes taken for opaque; depth: [H, W] along the view axis, in scene units,
    infinite where nothing is. ids: the N object ids. occlusion: for each of the N, the share of its silhouette in the
    picture that others hide.
    """

    image: Tensor
    masks: Tensor
    cells: Tensor
    nearest: Tensor
    depth: Tensor
    ids: tuple[str, ...]
    occlusion: tuple[float, ...]
    prompt: PromptParts
    problems: tuple[Problem, ...]

    def visible(self, index: int) -> Tensor:
        """[H, W] bool: where object `index` (of `ids`) is seen first."""
        return self.nearest == index

    @property
    def visibility(self) -> Tensor:
        """[N, H, W] bool: where each object is seen first."""
        return self.nearest == torch.arange(len(self.ids), device=self.nearest.device).view(-1, 1, 1)


def render_layout(
    document: Document,
    longest: int = LONGEST,
    *,
    samples: int = SAMPLES,
    device: torch.device | str = "cpu",
    backend: str = "torch",
    progress: Progress | None = None,
) -> LayoutRender:
    """The control picture of a document's active camera, its masks and its warnings.

    longest: pixels of the longer side, in the proportions of `output.size`. samples: per side of a pixel, where there
    are edges. backend: "torch", or "bpy" (Blender's own renderer, minutes). An object without `use.prompt` is drawn but
    has no mask. Raises SceneError where nothing is visible (E120) or an object has no words (E121), InputError for an
    unusable size.
    """
    errors = [p for p in run_problems(document) if p.code != "E122"]
    if errors:
        raise SceneError(errors)
    width, height = picture_size(document, longest)
    home = canonical(document)
    scene = box_scene(home.document, width, height).to(device)
    if backend == "bpy":
        from .layout_blender import render_blender

        image = render_blender(home.document, scene).to(device)
    elif backend == "torch":
        with torch.no_grad():
            image = display(render_linear(scene, samples, progress))
    else:
        raise InputError(f"The renderer {backend!r} is unknown; choose torch or bpy.")
    if document.output.render.match_reference_jpeg:
        image = as_reference_jpeg(image)
    nearest, depth = nearest_boxes(scene)
    depth = depth * (home.distance / REFERENCE_DISTANCE)  # in the document's own units
    objects = home.document.picture_objects
    spoken = [i for i, one in enumerate(objects) if one.use.prompt]
    whole = layout_masks(home.document, width, height)
    hidden = _occlusion(home.document, width, height, nearest.cpu())
    problems = _warnings(document, home, hidden, nearest.cpu())
    cells = mask_cells(layout_masks(home.document, *picture_size(document, LONGEST))[spoken], CELLS)
    return LayoutRender(
        image[None],
        whole[spoken].to(device),
        cells.to(device),
        nearest,
        depth,
        tuple(one.id for one in objects),
        tuple(hidden),
        prompt_parts(document),
        tuple(problems),
    )


def picture_size(document: Document, longest: int) -> tuple[int, int]:
    """Width and height of a control picture with the proportions of `output.size`."""
    if not 64 <= longest <= 4096:
        raise InputError(f"The control picture would be {longest} pixels; its longer side must have 64 to 4096.")
    width, height = document.output.size
    ratio = longest / max(width, height)
    return max(CELLS, round(width * ratio)), max(CELLS, round(height * ratio))


def box_scene(document: Document, width: int, height: int) -> BoxScene:
    """The boxes, lights and camera of a document in the control model's frame (see `geometry.canonical`)."""
    camera, objects, render = document.camera, document.picture_objects, document.output.render

    def rows(values, *shape: int) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float64).reshape(-1, *shape)).float()

    pose, k = camera_pose(camera), intrinsics(camera, width, height)
    rays = pose.rotation @ np.diag([1.0, -1.0, -1.0]) @ np.linalg.inv(k)
    if render.light_positions is not None:
        lights = torch.tensor(render.light_positions, dtype=torch.float32)
    else:
        lights = even_lights() if render.lights_seed is None else reference_lights(render.lights_seed)
    return BoxScene(
        centers=rows([box_center(one) for one in objects], 3),
        axes=rows([box_rotation(one) for one in objects], 3, 3),
        halves=rows([one.size for one in objects], 3) / 2,
        edge_colors=edge_color(rows([one.position for one in objects], 3)),
        lights=lights,
        eye=torch.from_numpy(pose.center).float(),
        rays=torch.from_numpy(rays).float(),
        width=width,
        height=height,
        near=camera.near,
        floor=document.environment.floor,
        max_crossings=render.max_crossings,
    )


def layout_masks(document: Document, width: int, height: int) -> Tensor:
    """[N, H, W] bool: whole silhouettes with their wires, of all objects in the picture; amodal."""
    outlines = [
        torch.from_numpy(silhouette(document.camera, width, height, o, OUTSET)) for o in document.picture_objects
    ]
    return polygon_masks(outlines, width, height, MARGIN * max(width, height) / LONGEST)


def layout_warnings(document: Document) -> list[Problem]:
    """All warnings of a document without drawing it (W101 to W114 but for W109, which needs a tokenizer)."""
    home = canonical(document)
    width, height = picture_size(document, PROBE)
    nearest, _ = nearest_boxes(box_scene(home.document, width, height))
    return _warnings(document, home, _occlusion(home.document, width, height, nearest), nearest)


def _occlusion(document: Document, width: int, height: int, nearest: Tensor) -> list[float]:
    """For each object in the picture the hidden share of its silhouette inside the picture; 0 where it is outside."""
    found = []
    for i, one in enumerate(document.picture_objects):
        outline = clip_polygon(silhouette(document.camera, width, height, one), width, height)
        area = polygon_area(outline)
        seen = int((nearest == i).sum())
        found.append(0.0 if area < 1e-6 else min(max(1.0 - seen / max(area, 1.0), 0.0), 1.0))
    return found


def _warnings(document: Document, home: Canonical, hidden: list[float], nearest: Tensor) -> list[Problem]:
    found = comfort(document, home)
    objects = home.document.picture_objects
    places = [i for i, one in enumerate(document.objects) if one.in_picture]
    masks = layout_masks(home.document, nearest.shape[1], nearest.shape[0])
    if len(objects) and 2 * int(masks[:, ::8, ::8].sum(0).max()) > 8:  # two faces a box, an upper bound
        text = "Many boxes overlap behind each other here; the reference renderer goes black after 8 faces."
        found.append(Problem("W107", "/objects", text))
    for i, (one, share) in enumerate(zip(objects, hidden)):
        if share > HIDDEN:
            before = nearest[masks[i]]
            names = [objects[j].label for j in before[(before >= 0) & (before != i)].unique().tolist()]
            text = f"‘{one.label}’ is almost completely hidden by {', '.join(names) or 'the floor'}."
            found.append(Problem("W111", f"/objects/{places[i]}", text))
    return sorted(found, key=lambda p: p.code)


def as_reference_jpeg(image: Tensor) -> Tensor:
    """The picture [H, W, 3] after the two JPEG files through which the reference passes it; float32, 0 to 1."""
    from PIL import Image

    picture = Image.fromarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())
    for quality in JPEG_QUALITIES:
        room = io.BytesIO()
        picture.save(room, format="JPEG", quality=quality)
        picture = Image.open(io.BytesIO(room.getvalue())).convert("RGB")
    return (torch.from_numpy(np.array(picture)).float() / 255).to(image.device)
