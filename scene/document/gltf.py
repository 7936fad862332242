"""Scenes as glTF binary (.glb): boxes as nodes of a unit cube, cameras as glTF cameras; and back.

glTF is Y up: (x, y, z) of ours is (x, z, -y) there; camera axes agree. A node that carries `extras.sightline` becomes
the object it was, where the node stands now; any other node with a mesh becomes a box around that mesh's bounds, turned
so that its floor rectangle is smallest.
"""

from __future__ import annotations

import json
import math
import struct

import numpy as np

from .fields import wrap_degrees
from .geometry import (
    CORNERS,
    box_center,
    box_rotation,
    camera_pose,
    convex_hull,
    quaternion_from_matrix,
    quaternion_matrix,
)
from .model import MAX_CAMERAS, MAX_OBJECTS, Document, SceneCamera, SceneObject
from .problems import SceneError, refuse
from .text import document_to_json, new_document, parse_document

Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # ours -> glTF
MAX_BYTES = 64 << 20
MAX_NODES = 20_000
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942


def write_glb(document: Document) -> bytes:
    """All visible objects and all cameras of a document as a GLB file; raises nothing for a valid document."""
    positions, normals, indices = _cube()
    blob = positions.tobytes() + normals.tobytes() + indices.tobytes()
    plain = document_to_json(document)
    objects = {one["id"]: one for one in plain["objects"]}
    nodes: list[dict] = []
    for one in document.objects:
        if not one.visible:
            continue
        matrix = np.eye(4)
        matrix[:3, :3] = Y_UP @ box_rotation(one) @ np.diag(one.size) @ Y_UP.T
        matrix[:3, 3] = Y_UP @ box_center(one)
        nodes.append(
            {"name": one.label, "mesh": 0, "matrix": _columns(matrix), "extras": {"sightline": objects[one.id]}}
        )
    cameras = []
    width, height = document.output.size
    for index, (camera, written) in enumerate(zip(document.cameras, plain["cameras"])):
        pose = camera_pose(camera)
        w, h = camera.size or (width, height)
        focal = camera.lens_mm / camera.sensor_mm * max(w, h)
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = Y_UP @ pose.rotation, Y_UP @ pose.center
        perspective = {"yfov": 2 * math.atan(h / 2 / focal), "aspectRatio": w / h, "znear": camera.near}
        cameras.append({"type": "perspective", "perspective": {**perspective, "zfar": camera.far}})
        nodes.append(
            {"name": camera.name, "camera": index, "matrix": _columns(matrix), "extras": {"sightline_camera": written}}
        )
    rest = {key: value for key, value in plain.items() if key not in ("objects", "cameras")}
    views, offset = [], 0
    for data, target in ((positions, 34962), (normals, 34962), (indices, 34963)):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": data.nbytes, "target": target})
        offset += data.nbytes
    document_json = {
        "asset": {"version": "2.0", "generator": "sightline"},
        "scene": 0,
        "scenes": [
            {"name": document.title or "Scene", "nodes": list(range(len(nodes))), "extras": {"sightline": rest}}
        ],
        "nodes": nodes,
        "cameras": cameras,
        "meshes": [{"name": "Box", "primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 24, "type": "VEC3", "min": [-0.5] * 3, "max": [0.5] * 3},
            {"bufferView": 1, "componentType": 5126, "count": 24, "type": "VEC3"},
            {"bufferView": 2, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    if not cameras:
        del document_json["cameras"]
    text = json.dumps(document_json, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    blob += b"\0" * (-len(blob) % 4)
    total = 12 + 8 + len(text) + 8 + len(blob)
    head = struct.pack("<III", _MAGIC, 2, total) + struct.pack("<II", len(text), _JSON)
    return head + text + struct.pack("<II", len(blob), _BIN) + blob


def read_glb(data: bytes) -> tuple[Document, list[str]]:
    """A document from a GLB (or .gltf text), and remarks; only bounds are read, never a buffer or another file.

    Raises SceneError (E152) for what is no glTF 2.0, holds no mesh, or too many.
    """
    try:
        return _read(_json_chunk(data))
    except SceneError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, RecursionError, OverflowError):
        raise _broken("it is damaged") from None


def _read(gltf: dict) -> tuple[Document, list[str]]:
    nodes = gltf.get("nodes", [])
    if not str(gltf.get("asset", {}).get("version", "")).startswith("2"):
        raise _broken("it is not glTF 2.0")
    if len(nodes) > MAX_NODES:
        raise _broken(f"it has {len(nodes)} nodes")
    objects, cameras, notes = [], [], []
    for node, world in _walk(gltf, nodes):
        extras = node.get("extras") if isinstance(node.get("extras"), dict) else {}
        name = str(node.get("name") or "object")[:80]
        if "camera" in node:
            cameras.append(_camera(gltf["cameras"][node["camera"]], world, extras, name, len(cameras)))
        elif "mesh" in node:
            corners = _bounds(gltf, gltf["meshes"][node["mesh"]], world)
            if corners is None:
                notes.append(f"‘{name}’ states no bounds and was left out.")
            elif isinstance(extras.get("sightline"), dict):
                objects.append(_restored(extras["sightline"], world))
            else:
                objects.append(_around(corners, name, len(objects)))
    if not objects:
        raise _broken("there is no mesh in it")
    if len(objects) > MAX_OBJECTS or len(cameras) > MAX_CAMERAS:
        raise refuse("E112", "", f"At most {MAX_OBJECTS} objects and {MAX_CAMERAS} cameras; the file has more.")
    scenes = gltf.get("scenes") or [{}]
    rest = scenes[gltf.get("scene", 0)].get("extras", {})
    rest = rest.get("sightline") if isinstance(rest, dict) else None
    base = rest if isinstance(rest, dict) else document_to_json(new_document())
    value = {**base, "objects": objects}
    if cameras:
        value["cameras"] = cameras
        if value.get("active_camera") not in [c["id"] for c in cameras]:
            value["active_camera"] = cameras[0]["id"]
    elif not value.get("cameras"):
        value.pop("cameras", None)
    if not isinstance(rest, dict):
        value["provenance"] = {"source": "glTF"}
    return parse_document(value), notes


def _restored(saved: dict, world: np.ndarray) -> dict:
    """The object a node was written from, where the node stands now."""
    turned = Y_UP.T @ world[:3, :3] @ Y_UP
    size = np.linalg.norm(turned, axis=0)
    r = turned / size
    center = Y_UP.T @ world[:3, 3]
    position = center - (0.0, 0.0, size[2] / 2)
    yaw = math.degrees(math.atan2(r[1, 0], r[0, 0]))
    pitch, roll = math.degrees(-math.asin(min(max(r[2, 0], -1), 1))), math.degrees(math.atan2(r[2, 1], r[2, 2]))
    tilt = [0.0 if abs(v) < 1e-5 else v for v in (pitch, roll)]
    yaw = 0.0 if abs(yaw) < 1e-6 else wrap_degrees(yaw)
    return {**saved, "position": position.tolist(), "size": size.tolist(), "yaw_deg": yaw, "tilt": tilt}


def _around(corners: np.ndarray, name: str, index: int) -> dict:
    """The upright box around points [8, 3] of our world with the smallest floor rectangle."""
    hull = convex_hull(corners[:, :2])
    best = None
    for i in range(len(hull)):
        edge = hull[(i + 1) % len(hull)] - hull[i]
        angle = math.atan2(edge[1], edge[0]) % (math.pi / 2)
        angle = angle - math.pi / 2 if angle > math.pi / 4 else angle
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        flat = corners[:, :2] @ turn.T
        low, high = flat.min(0), flat.max(0)
        area = float(np.prod(high - low))
        if best is None or area < best[0] - 1e-12:
            best = (area, angle, (high - low), (low + high) / 2 @ turn)
    if best is None:
        best = (0.0, 0.0, np.zeros(2), corners[0, :2])
    low, high = corners[:, 2].min(), corners[:, 2].max()
    size = [max(float(v), 0.001) for v in (*best[2], high - low)]
    yaw = math.degrees(best[1])
    one = SceneObject(
        id=f"obj{index + 1}", prompt=name.replace("_", " "), position=(*best[3].tolist(), float(low)),
        size=tuple(size), yaw_deg=0.0 if abs(yaw) < 1e-6 else yaw,
    )  # fmt: skip
    return {"id": one.id, "prompt": one.prompt, "position": list(one.position), "size": size, "yaw_deg": one.yaw_deg}


def _camera(camera: dict, world: np.ndarray, extras: dict, name: str, index: int) -> dict:
    if camera.get("type") != "perspective":
        raise refuse("E140", "", "A camera of the file is orthographic. Switch the 3D view to perspective.")
    pose = Y_UP.T @ world[:3, :3]
    pose = pose / np.linalg.norm(pose, axis=0)
    center = Y_UP.T @ world[:3, 3]
    if isinstance(extras.get("sightline_camera"), dict):
        saved = extras["sightline_camera"]
        try:
            old = camera_pose(_parsed(saved))
            if np.abs(old.rotation - pose).max() < 1e-5 and np.abs(old.center - center).max() < 1e-4:
                return saved
        except SceneError:
            pass
    else:
        saved = {"id": f"cam{index + 1}", "name": name[:64]}
    perspective = camera["perspective"]
    aspect = float(perspective.get("aspectRatio", 1.0))
    # focal length over the longer side: half height / tan(yfov / 2), in units of the longer side
    lens = 36.0 * (min(1.0, 1.0 / aspect) / 2) / math.tan(float(perspective["yfov"]) / 2)
    w, x, y, z = quaternion_from_matrix(pose)
    found = {**saved, "mode": "free", "free": {"position": center.tolist(), "rotation": [w, x, y, z]}}
    found.pop("orbit", None)
    return {**found, "lens_mm": lens, "sensor_mm": 36.0}


def _parsed(saved: dict) -> SceneCamera:
    return parse_document({**document_to_json(new_document()), "cameras": [saved]}).cameras[0]


def _walk(gltf: dict, nodes: list):
    """Every node below the scene with its world matrix; loops are an error."""
    scenes = gltf.get("scenes")
    children = {c for node in nodes for c in node.get("children", ())}
    roots = (
        scenes[gltf.get("scene", 0)].get("nodes", []) if scenes else [i for i in range(len(nodes)) if i not in children]
    )
    stack, seen = [(i, np.eye(4)) for i in reversed(roots)], set()
    while stack:
        index, above = stack.pop()
        if index in seen or not 0 <= index < len(nodes):
            raise _broken("its nodes form a loop")
        seen.add(index)
        node = nodes[index]
        world = above @ _local(node)
        if not np.isfinite(world).all():
            raise _broken("a node has no finite place")
        yield node, world
        stack += [(child, world) for child in reversed(node.get("children", []))]


def _local(node: dict) -> np.ndarray:
    if "matrix" in node:
        return np.asarray(node["matrix"], float).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = (float(v) for v in node.get("rotation", (0, 0, 0, 1)))
    matrix[:3, :3] = quaternion_matrix((w, x, y, z)) * np.asarray(node.get("scale", (1, 1, 1)), float)
    matrix[:3, 3] = np.asarray(node.get("translation", (0, 0, 0)), float)
    return matrix


def _bounds(gltf: dict, mesh: dict, world: np.ndarray) -> np.ndarray | None:
    """The corners [8, 3], in our world, of the box that the mesh's accessors state."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for primitive in mesh.get("primitives", ()):
        accessor = gltf["accessors"][primitive["attributes"]["POSITION"]]
        if "min" in accessor and "max" in accessor:
            low = np.minimum(low, np.asarray(accessor["min"], float))
            high = np.maximum(high, np.asarray(accessor["max"], float))
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        return None
    corners = (low + high) / 2 + CORNERS * (high - low)
    return (corners @ world[:3, :3].T + world[:3, 3]) @ Y_UP


def _json_chunk(data: bytes) -> dict:
    if len(data) > MAX_BYTES:
        raise _broken(f"it is larger than {MAX_BYTES >> 20} MB")
    if data[:4] != b"glTF":
        text = data
    else:
        magic, version, _ = struct.unpack("<III", data[:12])
        length, kind = struct.unpack("<II", data[12:20])
        if magic != _MAGIC or version != 2 or kind != _JSON or 20 + length > len(data):
            raise _broken("its header is wrong")
        text = data[20 : 20 + length]
    value = json.loads(text.decode("utf-8"))
    if not isinstance(value, dict):
        raise _broken("it is damaged")
    return value


def _columns(matrix: np.ndarray) -> list[float]:
    return [float(v) for v in matrix.T.reshape(-1)]


def _cube() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions, normals, indices = [], [], []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            first = len(positions)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                point, normal = [0.0] * 3, [0.0] * 3
                point[axis], point[u], point[v] = sign / 2, sign * a / 2, b / 2
                normal[axis] = sign
                positions.append(point)
                normals.append(normal)
            indices += [first + i for i in (0, 1, 2, 0, 2, 3)]
    return np.array(positions, "<f4"), np.array(normals, "<f4"), np.array(indices, "<u2")


def _broken(why: str) -> SceneError:
    return refuse("E152", "", f"This file is no scene of boxes in glTF: {why}.")
