"""Older and foreign forms of a scene, turned into the current version by pure functions that are kept forever.

Two legacy forms are known by their content: the JSON form of SeeThrough3D's saved scene (`subjects_data`), and the
plain layout of objects with `dims` (also below a key `scene`): UI coordinates, azimuth in degrees, elevation in
radians. Anything else without `format` is refused (E100).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .fields import wrap_degrees
from .model import FORMAT, MAX_OBJECTS, VERSION
from .problems import refuse

REFERENCE_X = 6.0  # SeeThrough3D's world lies 6 units further back: x_reference = x - 6
MIN_EXTENT = 0.001
STEPS: dict[int, Callable[[dict], dict]] = {}  # version n -> n + 1; none yet


def migrate(value: dict) -> tuple[dict, list[str]]:
    """The document as the current version's JSON, and a note for each thing that was changed."""
    if value.get("format") != FORMAT:
        if isinstance(value.get("subjects_data"), list):
            return from_subjects(value)
        layout = value.get("scene") if isinstance(value.get("scene"), dict) else value
        objects = layout.get("objects")
        if isinstance(objects, list) and any(isinstance(o, dict) and "dims" in o for o in objects):
            return from_layout(value)
        raise refuse("E100", "", "This is not a Sightline scene.")
    version, notes = value.get("version", VERSION), []
    while isinstance(version, int) and not isinstance(version, bool) and version in STEPS:
        value, version = STEPS[version](value), version + 1
        notes.append(f"Migrated from version {version - 1} to {version}.")
    return value, notes


def from_subjects(value: dict) -> tuple[dict, list[str]]:
    """SeeThrough3D's saved scene (spec section 2.2), in reference world coordinates and radians."""
    notes: list[str] = []
    objects = []
    subjects = value["subjects_data"]
    _limit(subjects)
    for i, one in enumerate(subjects):
        if not isinstance(one, dict):
            raise refuse("E100", f"/subjects_data/{i}", f"Object {i + 1} of the saved scene is not an object.")
        name = _text(one.get("name", "object"))
        where = f"‘{name}’" if name else f"Object {i + 1}"
        position = (
            _number(one.get("x"), -REFERENCE_X, f"{where}: position x") + REFERENCE_X,
            _number(one.get("y"), 0.0, f"{where}: position y"),
            _number(one.get("z"), 0.0, f"{where}: position z"),
        )
        yaw = math.degrees(_number(one.get("azimuth"), 0.0, f"{where}: azimuth"))
        objects.append(_object(i, name, one.get("type"), one.get("dims"), position, yaw, where, notes))
    camera = value.get("camera_data") if isinstance(value.get("camera_data"), dict) else {}
    return _document(value, camera, objects, notes, "seethrough3d.pkl"), notes


def from_layout(value: dict) -> tuple[dict, list[str]]:
    """A plain layout: UI coordinates, `dims`, azimuth in degrees, camera elevation in radians."""
    notes: list[str] = []
    layout = value.get("scene") if isinstance(value.get("scene"), dict) else value
    objects = []
    _limit(layout["objects"])
    for i, one in enumerate(layout["objects"]):
        if not isinstance(one, dict):
            raise refuse("E100", f"/objects/{i}", f"Object {i + 1} of the layout is not an object.")
        name = _text(one.get("name", "object"))
        where = f"‘{name}’" if name else f"Object {i + 1}"
        position = tuple(_number(one.get(k), 0.0, f"{where}: position {k}") for k in "xyz")
        yaw = _number(one.get("azimuth"), 0.0, f"{where}: azimuth")
        objects.append(_object(i, name, one.get("type"), one.get("dims"), position, yaw, where, notes))
    camera = layout.get("camera") if isinstance(layout.get("camera"), dict) else {}
    found = _document(layout, camera, objects, notes, "layout")
    if isinstance(value.get("light_positions"), list):  # recorded in the reference's world
        lights = [
            [_number(x, 0.0, "a light") + (REFERENCE_X if axis == 0 else 0.0) for axis, x in enumerate(row)]
            for row in value["light_positions"]
            if isinstance(row, (list, tuple))
        ]
        found["output"]["render"] = {"light_positions": lights}
    return found, notes


def _object(i: int, name: str, kind: Any, dims: Any, position, yaw: float, where: str, notes: list[str]) -> dict:
    values = dims if isinstance(dims, (list, tuple)) else (1.0, 1.0, 1.0)
    if len(values) != 3:
        raise refuse("E110", f"/objects/{i}/size", f"{where}: the size must be three numbers.")
    size = [_number(v, 1.0, f"{where}: size") for v in values]
    if any(0 <= v < MIN_EXTENT for v in size):
        notes.append(f"W195: {where} had no thickness on one side; it was raised to {MIN_EXTENT}.")
        size = [max(v, MIN_EXTENT) if v >= 0 else v for v in size]
    found: dict[str, Any] = {"id": f"obj{i + 1}", "prompt": name, "position": list(position), "size": size}
    if isinstance(kind, str) and kind and kind != "Custom":
        found["preset"] = kind
    if yaw:
        found["yaw_deg"] = wrap_degrees(yaw)
    return found


def _document(value: dict, camera: dict, objects: list[dict], notes: list[str], source: str) -> dict:
    elevation = math.degrees(_number(camera.get("camera_elevation"), math.radians(30.0), "The camera's elevation"))
    lens = _number(camera.get("lens"), 50.0, "The camera's lens")
    orbit = {"target": [0, 0, 0], "azimuth_deg": 0, "elevation_deg": elevation, "distance": 6}
    found: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "cameras": [{"id": "cam1", "orbit": orbit, "lens_mm": lens, "roles": ["control"]}],
        "active_camera": "cam1",
        "objects": objects,
        "prompt": {"background": _text(value.get("surrounding_prompt", ""))},
        "output": _output(value.get("inference_params"), notes),
        "provenance": {"source": source},
    }
    return found


def _output(params: Any, notes: list[str]) -> dict:
    params = params if isinstance(params, dict) else {}
    width, height = (int(_number(params.get(k), 512, f"The picture's {k}")) for k in ("width", "height"))
    found: dict[str, Any] = {
        "size": [width, height],
        "seed": int(_number(params.get("seed"), 42, "The seed")),
        "steps": int(_number(params.get("num_inference_steps"), 25, "The steps")),
        "guidance": _number(params.get("guidance_scale"), 3.5, "The guidance"),
    }
    checkpoint = params.get("checkpoint")
    if isinstance(checkpoint, str) and checkpoint:
        found["lora"] = checkpoint[:255]
        notes.append(f"W194: the checkpoint ‘{checkpoint[:80]}’ is named by the saved scene; choose a LoRA file.")
    return found


def _limit(objects: list) -> None:
    if len(objects) > MAX_OBJECTS:
        raise refuse("E112", "/objects", f"At most {MAX_OBJECTS} objects.")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse("E115", "", "The saved scene has a description that is not text.")
    return value.strip()


def _number(value: Any, default: float, label: str) -> float:
    """A finite number, plain or in a list of one; `default` for null."""
    if isinstance(value, (list, tuple)) and len(value) == 1:
        value = value[0]
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
        raise refuse("E110", "", f"{label} is not a number.")
    return float(value)
