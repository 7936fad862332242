"""Reading meshes that others made: GLB, OBJ, PLY, STL and OFF files as one part, Y up as the file has it.

Read with trimesh from memory: files beside the given one are never opened, nothing is fetched.
"""

from __future__ import annotations

import io
import os

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, MissingDependency
from .files import read_bytes
from .gltf import Material, Part
from .srgb import linear

READABLE = ("glb", "obj", "ply", "stl", "off")
LIMIT = 4 << 30


def read_mesh(path: str | os.PathLike) -> Part:
    """The mesh of a file; see `decode_mesh`. Raises InputError for files that are missing, too large or no mesh."""
    kind = os.path.splitext(os.fspath(path))[1].lstrip(".").lower()
    _check_kind(kind, os.path.basename(os.fspath(path)))
    return decode_mesh(read_bytes(path, LIMIT, f"a mesh ({', '.join(READABLE)})"), kind)


def decode_mesh(data: bytes, kind: str) -> Part:
    """All meshes in the bytes of a file as one part, at their places in its scene.

    kind: the suffix without its dot. Textures, uv and the material come along where all meshes share one material;
    vertex colors where all have them (of PLY and OBJ turned from sRGB to linear, as GLB has them). Raises InputError
    for bytes that hold no mesh of that kind.
    """
    _check_kind(kind, "the file")
    try:
        import trimesh
    except ImportError:
        raise MissingDependency("Meshes are read with trimesh; run `pip install trimesh`.") from None
    try:
        scene = trimesh.load(io.BytesIO(data), file_type=kind, process=False, force="scene")
        placed = [scene.graph[node] for node in scene.graph.nodes_geometry]  # (transform, name of the mesh)
        placed = [(t, scene.geometry[n]) for t, n in placed if len(getattr(scene.geometry[n], "faces", ()))]
        pieces = [piece for _, piece in placed]
    except Exception as error:  # whatever a parser meets in a broken file
        text = " ".join(str(error).split())[:120]
        raise InputError(f"The {kind} file cannot be read ({type(error).__name__}: {text}); export it again.") from None
    if not pieces:
        raise InputError(f"The {kind} file holds no triangles; a mesh with faces would work.")
    counts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    vertices, faces = [], []
    for (transform, piece), start in zip(placed, counts):
        corners = np.asarray(piece.faces, np.int64) + start
        # a mirroring transform turns faces inside out
        faces.append(corners[:, ::-1] if np.linalg.det(transform[:3, :3]) < 0 else corners)
        place = np.asarray(piece.vertices)
        if not np.array_equal(transform, np.eye(4)):
            place = place @ transform[:3, :3].T + transform[:3, 3]
        vertices.append(place.astype(np.float32))
    vertices, faces = torch.from_numpy(np.concatenate(vertices)), torch.from_numpy(np.concatenate(faces))
    material, uv = _shared_material(pieces)
    if kind != "glb":  # what their materials name lies in other files
        material = None
    return Part(vertices, faces, material or Material(metallic_factor=0.0), uv=uv, colors=_colors(pieces, kind))


def _check_kind(kind: str, name: str) -> None:
    if kind.lower() not in READABLE:
        raise InputError(f"{name} is of type {kind!r}; meshes are read from {', '.join(READABLE)} files.")


def _shared_material(pieces) -> tuple[Material | None, Tensor | None]:
    first = getattr(pieces[0].visual, "material", None)
    if first is None or any(getattr(p.visual, "material", None) is not first for p in pieces[1:]):
        return None, None
    if any(getattr(p.visual, "uv", None) is None for p in pieces):
        uv = None
    else:
        uv = torch.from_numpy(np.concatenate([np.asarray(p.visual.uv, np.float32)[:, :2] for p in pieces]))
        uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], 1)
    if hasattr(first, "to_pbr"):
        first = first.to_pbr()
    base = _picture(getattr(first, "baseColorTexture", None), "RGBA") if uv is not None else None
    rough = _picture(getattr(first, "metallicRoughnessTexture", None), "RGB") if uv is not None else None
    factor = getattr(first, "baseColorFactor", None)
    factor = np.asarray([255] * 4 if factor is None else factor, np.float64)
    factor = factor / 255 if factor.max() > 1 else factor
    mode = getattr(first, "alphaMode", None) or "OPAQUE"

    def number(name: str, default: float) -> float:
        value = getattr(first, name, None)
        return default if value is None else float(value)

    material = Material(
        str(getattr(first, "name", None) or "Material"),
        base,
        None if rough is None else rough[..., [2, 1]],
        base_color_factor=tuple(float(v) for v in factor[:4]),
        metallic_factor=number("metallicFactor", 1.0 if rough is not None else 0.0),
        roughness_factor=number("roughnessFactor", 1.0),
        alpha_mode=mode if mode in ("MASK", "BLEND") else "OPAQUE",
        alpha_cutoff=number("alphaCutoff", 0.5),
        double_sided=getattr(first, "doubleSided", None) is not False,
    )
    return material, uv


def _picture(image, mode: str) -> Tensor | None:
    return None if image is None else torch.from_numpy(np.array(image.convert(mode)))


def _colors(pieces, kind: str) -> Tensor | None:
    found = []
    for piece in pieces:
        color = piece.visual.vertex_colors if piece.visual.kind == "vertex" else _attribute(piece, "color")
        if color is None or len(color) != len(piece.vertices):
            return None
        color = np.asarray(color)
        color = color.astype(np.float32) / (1.0 if color.dtype.kind == "f" else float(np.iinfo(color.dtype).max))
        found.append(np.concatenate([color, np.ones_like(color[:, :1])], 1)[:, :4])
    colors = torch.from_numpy(np.concatenate(found)).clamp(0, 1)
    if kind in ("ply", "obj", "off"):
        colors[:, :3] = linear(colors[:, :3])
    return colors


def _attribute(piece, name: str):
    """Vertex colors that a mesh has beside a material."""
    held = getattr(piece.visual, "vertex_attributes", None)
    return held[name] if held is not None and name in held else None
