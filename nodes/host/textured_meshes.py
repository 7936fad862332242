"""Core's MESH with its textures, batched or ragged, and our parts; core's sparse VOXEL and ours."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...pipelines.mesh_bake import Voxels
from ...scene.errors import InputError
from ...scene.gltf import Material, Part
from .base import Types

ALPHA_MAP = "sightline_alpha"  # in a MESH's material: base color's alpha [B, H, W, 1], which its texture lacks
ALPHA_MODE = "sightline_alpha_mode"


def mesh_parts(mesh: Any, name: str = "mesh") -> list[Part]:
    """The items of a core MESH as parts on the CPU, textures included. Raises InputError naming the input `name`."""
    parts = []
    count = len(mesh.vertices)
    for i in range(count):
        v = int(mesh.vertex_counts[i]) if mesh.vertex_counts is not None else mesh.vertices.shape[1]
        f = int(mesh.face_counts[i]) if mesh.face_counts is not None else mesh.faces.shape[1]

        def rows(field: str, i: int = i, v: int = v) -> Tensor | None:
            value = getattr(mesh, field, None)
            if value is None:
                return None
            value = value if value.ndim == 3 else value[None]
            return value[min(i, len(value) - 1), :v].detach().to("cpu", torch.float32)

        try:
            material = _material(mesh, i)
            uv, normals = rows("uvs"), rows("normals")
            if uv is None and material.textures:
                material = Material(material.name)
            part = Part(
                rows("vertices"), mesh.faces[i, :f].detach().cpu().long(), material,
                normals=normals, tangents=None if normals is None else rows("tangents"), uv=uv,
                colors=rows("vertex_colors"),
            )  # fmt: skip
        except InputError as error:
            which = f"`{name}`" if count == 1 else f"Item {i} of `{name}`"
            raise InputError(f"{which}: {error}") from None
        parts.append(part)
    if not parts:
        raise InputError(f"`{name}` holds no mesh; connect one that has faces.")
    return parts


def _material(mesh: Any, i: int) -> Material:
    given = mesh.material if isinstance(getattr(mesh, "material", None), dict) else {}

    def image(field: str, channels: slice | list) -> Tensor | None:
        value = getattr(mesh, field, None)
        return None if value is None else value[min(i, len(value) - 1)].detach().cpu().float()[..., channels]

    base, alpha = image("texture", slice(0, 4)), given.get(ALPHA_MAP)
    if base is not None and alpha is not None and alpha.shape[1:3] == base.shape[:2]:
        base = torch.cat([base[..., :3], alpha[min(i, len(alpha) - 1)]], -1)
    plain = image("metallic_roughness", [2, 1])
    open_sky = image("metallic_roughness", slice(0, 1)) if getattr(mesh, "occlusion_in_mr", False) else None
    textured = base is not None or getattr(mesh, "vertex_colors", None) is not None

    def factor(name: str, default: float) -> float:
        value = given.get(name)
        return default if value is None or value < 0 else float(value)

    color = given.get("base_color_factor")
    mode = given.get(ALPHA_MODE) or ["OPAQUE"]
    glow = image("emissive", slice(0, 3))
    emissive = tuple(given.get("emissive_factor") or ((1.0, 1.0, 1.0) if glow is not None else (0.0, 0.0, 0.0)))
    return Material(
        given.get("name") or "Material",
        base,
        plain,
        open_sky,
        image("normal_map", slice(0, 3)),
        glow,
        tuple(color) if color is not None else (1.0, 1.0, 1.0, 1.0) if textured else (0.8, 0.8, 0.8, 1.0),
        factor("metallic_factor", 1.0 if plain is not None else 0.0),
        factor("roughness_factor", 1.0 if textured or plain is not None else 0.5),
        emissive,
        float(given.get("normal_scale", 1.0)),
        float(given.get("occlusion_strength", 1.0)),
        mode[min(i, len(mode) - 1)],
        double_sided=bool(given.get("double_sided", True)),
        unlit=bool(getattr(mesh, "unlit", False)),
    )


def parts_mesh(parts: Sequence[Part], like: Any = None) -> Any:
    """Parts as a core MESH; like: a MESH whose other attributes are kept."""
    pad = torch.nn.utils.rnn.pad_sequence

    def rows(field: str) -> Tensor | None:
        values = [getattr(part, field) for part in parts]
        return None if any(value is None for value in values) else pad(values, batch_first=True)

    def image(make) -> Tensor | None:
        values = [make(part.material) for part in parts]
        if any(value is None for value in values):
            return None
        sizes = {value.shape for value in values}
        if len(sizes) > 1:
            raise InputError("The meshes of this batch have textures of several sizes; bake them at one size first.")
        values = torch.stack(values)
        return values.float() / 255 if values.dtype == torch.uint8 else values

    def packed(material: Material) -> Tensor | None:
        from ...scene.gltf import pack_orm

        return pack_orm(material)

    mesh = copy.copy(like) if like is not None else None
    fields = dict(
        uvs=rows("uv"), vertex_colors=rows("colors"), normals=rows("normals"), tangents=rows("tangents"),
        texture=image(lambda m: None if m.base_color is None else m.base_color[..., :3]),
        metallic_roughness=image(packed),
        normal_map=image(lambda m: m.normal), emissive=image(lambda m: m.emissive),
        occlusion_in_mr=all(part.material.occlusion is not None for part in parts),
    )  # fmt: skip
    vertices = pad([part.vertices for part in parts], batch_first=True)
    faces = pad([part.faces.to(torch.int32) for part in parts], batch_first=True)
    counts = [torch.tensor([len(v) for v in values]) for values in zip(*((p.vertices, p.faces) for p in parts))]
    ragged = dict(vertex_counts=counts[0], face_counts=counts[1]) if len(parts) > 1 else {}
    if mesh is None:
        mesh = Types.MESH(vertices, faces, **ragged)
        for name, value in fields.items():  # as attributes: hosts before 0.33 do not know all of them
            setattr(mesh, name, value)
        mesh.unlit = all(part.material.unlit for part in parts)
    else:
        mesh.vertices, mesh.faces = vertices, faces
        mesh.vertex_counts, mesh.face_counts = ragged.get("vertex_counts"), ragged.get("face_counts")
        for name, value in fields.items():
            setattr(mesh, name, value)
    material = dict(getattr(mesh, "material", None) or {})
    for key in (ALPHA_MAP, ALPHA_MODE, "base_color_factor", "metallic_factor", "roughness_factor"):
        material.pop(key, None)
    first = parts[0].material
    if first.base_color is None or like is None:
        material["base_color_factor"] = list(first.base_color_factor)
        material["metallic_factor"], material["roughness_factor"] = first.metallic_factor, first.roughness_factor
    material["double_sided"] = first.double_sided
    if any(part.material.alpha_mode != "OPAQUE" for part in parts):
        material[ALPHA_MODE] = [part.material.alpha_mode for part in parts]
        material[ALPHA_MAP] = image(
            lambda m: m.base_color[..., 3:] if m.base_color.shape[2] == 4 else torch.ones_like(m.base_color[..., :1])
        )
    mesh.material = material
    return mesh


def voxel_items(voxel: Any, count: int) -> list[Voxels]:
    """The items of a core sparse VOXEL, one for each of `count` meshes. Raises InputError for voxels without colors and
    other numbers of items."""
    colors = getattr(voxel, "voxel_colors", None)
    if voxel.data.ndim != 2 or colors is None:
        raise InputError("`voxel` has no colors; connect the voxels that a texture decoder gives.")
    coords, colors = voxel.data.detach().cpu().long(), colors.detach().to("cpu", torch.float32)
    if colors.ndim == 2 and colors.shape[1] == 3:  # base color alone: rough, not metal, opaque
        colors = torch.cat([colors, colors.new_tensor([[0.0, 1.0, 1.0]]).expand(len(colors), 3)], 1)
    if coords.shape[1] == 3:
        coords = torch.nn.functional.pad(coords, (1, 0))
    items = int(coords[:, 0].max()) + 1 if len(coords) else 0
    if items != count and items != 1:
        raise InputError(f"`voxel` holds {items} objects and `mesh` {count}; connect what was decoded together.")
    found = []
    for i in range(items):
        mine = coords[:, 0] == i
        found.append(Voxels(coords[mine, 1:], colors[mine], int(voxel.resolution)))
    return found * (count if items == 1 else 1)
