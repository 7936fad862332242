"""Meshes with colored vertices as GLB and PLY files, and textured ones as OBJ; textured GLB files: `gltf`.

World frame of the files: Y up, the front toward +Z (glTF). Colors are given as they are seen (sRGB); GLB keeps them
linear, as glTF asks, PLY as given.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor

from .errors import InputError, MissingDependency
from .gltf import Part, encode_image
from .srgb import encoded, linear

SUFFIXES = (".glb", ".ply")


def _trimesh():
    try:
        import trimesh
    except ImportError:
        raise MissingDependency("Meshes are written with trimesh; run `pip install trimesh`.") from None
    return trimesh


def used_vertices(faces: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The faces [F, 3] renumbered to the vertices they use, and the indices [K] of these among all `count`."""
    used = torch.zeros(count, dtype=torch.bool, device=faces.device)
    used[faces.reshape(-1).long()] = True
    number = used.long().cumsum(0) - 1
    return number[faces.long()], used.nonzero().squeeze(1)


def encode_mesh(
    vertices: Tensor,
    faces: Tensor,
    colors: Tensor,
    path: str | os.PathLike,
    *,
    metallic: float = 0.0,
    roughness: float = 0.5,
    double_sided: bool = True,
) -> bytes:
    """The bytes of a .glb or .ply file, chosen by the end of `path`; vertices no face uses are left out.

    vertices: [V, 3], Y up; faces: [F, 3]; colors: [V, 3 or 4] sRGB in [0, 1], clamped. metallic, roughness: of the one
    material of a GLB. Raises InputError for another suffix, an empty mesh and numbers that are not finite.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} does not end in {' or '.join(SUFFIXES)}; meshes are written as one of these.")
    if not len(faces):
        raise InputError("The mesh has no face; there is nothing to write: another seed or picture may help.")
    if not bool(torch.isfinite(vertices).all()) or not bool(torch.isfinite(colors).all()):
        raise InputError("The mesh has vertices or colors that are not finite numbers.")
    faces, used = used_vertices(faces, len(vertices))
    place = vertices[used].detach().float().cpu().numpy()
    rgba = torch.ones(len(used), 4)
    rgba[:, : colors.shape[1]] = colors[used].detach().float().cpu().clamp(0, 1)
    if suffix == ".glb":
        rgba[:, :3] = linear(rgba[:, :3])
    mesh = _trimesh().Trimesh(place, faces.cpu().numpy(), process=False)
    mesh.visual = _trimesh().visual.ColorVisuals(mesh, vertex_colors=(rgba * 255).round().byte().numpy())
    if suffix == ".ply":
        return mesh.export(file_type="ply")

    def one_material(tree: dict) -> None:
        tree["materials"] = [
            {
                "pbrMetallicRoughness": {
                    "metallicFactor": float(np.clip(metallic, 0, 1)),
                    "roughnessFactor": float(np.clip(roughness, 0, 1)),
                },
                "doubleSided": double_sided,
            }
        ]
        for part in tree["meshes"]:
            for primitive in part["primitives"]:
                primitive["material"] = 0

    return _trimesh().exchange.gltf.export_glb(mesh, include_normals=True, tree_postprocessor=one_material)


def encode_obj(part: Part, stem: str) -> dict[str, bytes]:
    """The files of a part as Wavefront OBJ: `stem`.obj, `stem`.mtl and `stem`.png, names to bytes.

    Base color alone, the rest has no place in this format; without a texture the vertices carry colors.
    """
    lines = [f"# ComfyUI-Sightline\nmtllib {stem}.mtl\no {_word(part.name)}\n"]
    place = part.vertices.detach().float().cpu().numpy()
    rows = place
    textured = part.uv is not None and part.material.base_color is not None
    if not textured and part.colors is not None:
        shown = part.colors[:, :3].detach().float().cpu().clamp(0, 1)
        rows = np.concatenate([place, encoded(shown).numpy()], 1)
    lines.append(_lines("v", rows))
    corner = part.faces.cpu().numpy().astype(np.int64) + 1
    kinds = 1
    if part.uv is not None:
        uv = part.uv.detach().float().cpu().numpy()
        lines.append(_lines("vt", np.stack([uv[:, 0], 1 - uv[:, 1]], 1)))
        kinds = 2
    if part.normals is not None:
        lines.append(_lines("vn", part.normals.detach().float().cpu().numpy()))
        kinds += 2
    one = {1: "{0}", 2: "{0}/{0}", 3: "{0}//{0}", 4: "{0}/{0}/{0}"}[kinds]
    name = _word(part.material.name)
    lines.append(f"usemtl {name}\n")
    lines.append("".join("f " + " ".join(one.format(i) for i in face) + "\n" for face in corner.tolist()))
    red, green, blue, alpha = part.material.base_color_factor
    material = f"newmtl {name}\nKd {red:.6g} {green:.6g} {blue:.6g}\nd {alpha:.6g}\n"
    files = {f"{stem}.obj": "".join(lines).encode()}
    if textured:
        material += f"map_Kd {stem}.png\n"
        files[f"{stem}.png"] = encode_image(part.material.base_color)
    files[f"{stem}.mtl"] = material.encode()
    return files


def _lines(word: str, rows: np.ndarray) -> str:
    form = f"{word} " + " ".join(["%.7g"] * rows.shape[1]) + "\n"
    return (form * len(rows)) % tuple(rows.reshape(-1).tolist())


def _word(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text) or "Material"


def part_vertex_colors(part: Part) -> Tensor:
    """The base color [V, 4] (sRGB) of a part at its vertices, from its texture, its colors or its one factor."""
    factor = torch.tensor(part.material.base_color_factor)
    if part.uv is not None and part.material.base_color is not None:
        texture = part.material.base_color
        texture = texture.float() / 255 if texture.dtype == torch.uint8 else texture.float()
        grid = part.uv.float()[None, None] * 2 - 1
        picture = texture.movedim(-1, 0)[None].to(grid)
        found = torch.nn.functional.grid_sample(picture, grid, padding_mode="border", align_corners=False)[0, :, 0].mT
    elif part.colors is not None:
        found = part.colors.float().clamp(0, 1).clone()
        found[:, :3] = encoded(found[:, :3])
    else:
        found = torch.ones(len(part.vertices), 3)
    rgba = torch.ones(len(found), 4)
    rgba[:, : found.shape[1]] = found.cpu()
    return (rgba * factor).clamp(0, 1)
