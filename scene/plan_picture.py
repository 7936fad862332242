"""A picture of a room from above: its points, the chunks laid over it, and where the photos were taken."""

from __future__ import annotations

import numpy as np

from .chunk_layout import ChunkLayout
from .scene_photos import ScenePhotos

COLORS = ((214, 69, 65), (31, 119, 180), (44, 140, 60), (148, 103, 189), (230, 126, 34), (23, 160, 160))


def plan_picture(
    points: np.ndarray, layout: ChunkLayout, scene: ScenePhotos | None = None, size: int = 768
) -> np.ndarray:
    """uint8 [H, W, 3]: x to the right, y up; points [P, 3] of the world as gray, chunks as numbered squares (those of
    several layers drawn smaller the higher they are), cameras as arrows; a bar of one unit below."""
    from PIL import Image, ImageDraw

    half = layout.size / 2
    low, high = layout.centers[:, :2].min(0) - half, layout.centers[:, :2].max(0) + half
    if scene is not None:
        places = scene.poses[:, :2, 3]
        near = np.abs(places - (low + high) / 2).max(1) < 2 * (high - low).max()
        if near.any():
            low, high = np.minimum(low, places[near].min(0)), np.maximum(high, places[near].max(0))
    margin, foot = 24, 34
    scale = (size - 2 * margin) / max(float((high - low).max()), 1e-9)
    width, height = (int(np.ceil(s * scale)) + 2 * margin for s in (high - low))

    def at(xy) -> tuple[float, float]:
        x, y = (np.asarray(xy, dtype=float) - low) * scale
        return margin + x, height - margin - y

    image = Image.new("RGB", (width, height + foot), (255, 255, 255))
    if len(points):
        place = np.array([at(p) for p in points[:200_000, :2]]).round().astype(int)
        inside = (place >= 0).all(1) & (place[:, 0] < width) & (place[:, 1] < height)
        count = np.zeros((height + foot, width))
        np.add.at(count, (place[inside, 1], place[inside, 0]), 1)
        shade = 235 - 150 * np.sqrt(np.minimum(count / max(np.percentile(count[count > 0], 95), 1), 1))
        pixels = np.asarray(image).copy()
        pixels[count > 0] = shade[count > 0, None].astype(np.uint8)
        image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image, "RGBA")
    layers = np.unique(layout.centers[:, 2].round(6))
    for i, center in enumerate(layout.centers):
        inset = 3 + 5 * int(np.searchsorted(layers, round(float(center[2]), 6))) + (i % 3)
        (x0, y1), (x1, y0) = at(center[:2] - half), at(center[:2] + half)
        color = COLORS[i % len(COLORS)]
        draw.rectangle(
            [x0 + inset, y0 + inset, x1 - inset, y1 - inset], outline=(*color, 255), fill=(*color, 18), width=2
        )
        x, y = at(center[:2])
        draw.text((x - 6, y - 6 + 10 * (inset // 5 - 0.5)), str(i), fill=(*color, 255))
    for pose in scene.poses if scene is not None else ():
        x, y = at(pose[:2, 3])
        forward = -pose[:2, 2] * np.array([1, -1]) * 12
        draw.line([x, y, x + forward[0], y + forward[1]], fill=(0, 0, 0, 160), width=2)
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(0, 0, 0, 200))
    unit = min(scale, width - 2 * margin)
    draw.line([margin, height + 12, margin + unit, height + 12], fill=(0, 0, 0, 255), width=3)
    label = f"{unit / scale:.3g} m, {len(layout)} chunks of {layout.size:.2f} m"
    draw.text((margin, height + 17), label, fill=(0, 0, 0, 255))
    return np.asarray(image)
