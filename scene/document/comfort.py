"""Warnings where a scene leaves what the control model has seen; never errors. Source: the specification, A7.

What needs rays (faces on a line of sight, occlusion) is in `pipelines.layout_render`.
"""

from __future__ import annotations

from .geometry import Canonical, camera_pose, canonical, clip_polygon, polygon_area, silhouette
from .model import Document, Orbit
from .problems import Problem

ELEVATIONS, LENSES = (5.0, 45.0), (35.0, 135.0)
MAX_HEIGHT, SIZES, MAX_COUNT = 2.5, (0.1, 5.0), 8


def comfort(document: Document, home: Canonical | None = None) -> list[Problem]:
    """W101 to W106, W108, W110 and W112 to W114 for the active camera, in that order; home: `canonical(document)`."""
    home = canonical(document) if home is None else home
    scene, found = home.document, []
    camera = scene.camera
    index = next(i for i, c in enumerate(document.cameras) if c.id == document.camera.id)
    where = f"/cameras/{index}"
    if home.reason is None:
        elevation = (camera.orbit or Orbit()).elevation_deg
        if not ELEVATIONS[0] <= elevation <= ELEVATIONS[1]:
            text = f"Camera height angle {elevation:.3g}° is unusual for this model (its own examples use about 12°)."
            found.append(Problem("W101", where, text + " Expect weaker layout control."))
    if not LENSES[0] <= camera.lens_mm <= LENSES[1]:
        text = f"A {camera.lens_mm:.4g} mm lens is outside what the examples use (50–112 mm)."
        found.append(Problem("W102", f"{where}/lens_mm", text))
    width, height = document.output.size
    if width != height:
        text = f"The model was trained on square pictures. {width}×{height} works,"
        text += " but boxes near the long edges may drift."
        found.append(Problem("W103", "/output/size", text))
    shown = [(i, one) for i, one in enumerate(scene.objects) if one.in_picture]
    for i, one in shown:
        x, y, z = one.position
        bound = 4.5 - 4.0 * min(max((x + 6.0) / 11.0, 0.0), 1.0)
        if not -6.0 <= x <= 5.0 or abs(y) > bound:
            text = f"‘{one.label}’ is outside the area the model can tell apart by color. Move it closer to the center."
            found.append(Problem("W104", f"/objects/{i}/position", text))
        if z > MAX_HEIGHT:
            text = f"‘{one.label}’ floats very high; its height code is out of range."
            found.append(Problem("W105", f"/objects/{i}/position/2", text))
        if min(one.size) < SIZES[0] - 1e-9 or max(one.size) > SIZES[1] + 1e-9:
            word = "small" if min(one.size) < SIZES[0] - 1e-9 else "large"
            found.append(Problem("W108", f"/objects/{i}/size", f"‘{one.label}’ is very {word} for this model."))
    if len(shown) > MAX_COUNT:
        text = f"{len(shown)} objects: the examples have at most {MAX_COUNT}. Small or crowded boxes may merge."
        found.append(Problem("W106", "/objects", text))
    for i, one in shown:
        outline = clip_polygon(silhouette(camera, width, height, one), width, height)
        if polygon_area(outline) <= 0:
            found.append(Problem("W110", f"/objects/{i}", f"‘{one.label}’ is outside the picture."))
    for i, one in shown:
        if any(one.tilt):
            text = (
                "Tilted boxes are kept for 3D, but this image model only knows upright boxes; the tilt is drawn as is."
            )
            found.append(Problem("W112", f"/objects/{i}/tilt", text))
    if home.reason is not None:
        text = "This camera looks level or upward (or is rolled). The image model never saw that."
        if home.reason == "stands below the floor" or camera_pose(camera).center[2] <= 0:
            text = "This camera stands below the floor. The image model never saw that."
        elif home.reason == "has a shifted lens":
            text = "This camera has a shifted lens. The image model never saw that."
        found.append(Problem("W113", where, text))
    seen: dict[str, int] = {}
    for i, one in shown:
        if one.use.prompt and one.prompt and one.prompt in seen:
            text = (
                f"Two objects share the text ‘{one.prompt}’. That is fine; add a color or material to tell them apart."
            )
            found.append(Problem("W114", f"/objects/{i}/prompt", text))
        seen.setdefault(one.prompt, i)
    return sorted(found, key=lambda p: p.code)
