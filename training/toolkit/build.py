"""The data set of a folder of meshes: pictures, dual grids, PBR voxels and latents, in the folders of TRELLIS.2.

Below the data set's folder, by the sha256 of each mesh file (layout and keys: `training.trellis2.folders`):
renders_cond, dual_grid_view, pbr_voxel_view, and with a family that has encoders ss_latents_view, shape_latents_view,
pbr_latents_view; records/SHA.json, of which `metadata.csv` is made; dataset.json, which names the roots.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...kernels.mesh_render import render_mesh
from ...kernels.projection import front_camera
from ...models.trellis2.cascade import Cascade
from ...models.trellis2.encoding import MeshVoxels, encode_shape, encode_texture, voxelize
from ...scene.errors import InputError
from ...scene.gltf import Part
from ...scene.mesh_read import READABLE, read_mesh
from ...scene.surfaces import InPlace, Surface
from ..procedural.placement import TO_WORLD
from .placing import View, draw_view, place_in_view

SUFFIXES = tuple(f".{kind}" for kind in READABLE)
ROOTS = {
    "base": ".", "render_cond": "renders_cond", "dual_grid": "dual_grid_view", "pbr_voxel": "pbr_voxel_view",
    "ss_latent": "ss_latents_view", "shape_latent": "shape_latents_view", "pbr_latent": "pbr_latents_view",
}  # fmt: skip
Tell = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """resolution: voxels per axis; image_size: of the pictures; views of each object, within +-azimuth degrees of the
    front, elevation and fov in degrees. max_bytes, max_faces: larger files and meshes are left out."""

    resolution: int = 64
    image_size: int = 256
    views: int = 2
    azimuth: float = 70.0
    elevation: tuple[float, float] = (3.0, 30.0)
    fov: tuple[float, float] = (36.0, 52.0)
    max_bytes: int = 1 << 30
    max_faces: int = 2_000_000

    def __post_init__(self) -> None:
        if not 16 <= self.resolution <= 2048 or self.resolution & (self.resolution - 1):
            raise InputError(f"`resolution` is {self.resolution}; a power of two from 16 to 2048 would work.")
        if not 1 <= self.views <= 100:
            raise InputError(f"`views` is {self.views}; 1 to 100 would work.")


def files_in(folder: str | Path) -> list[Path]:
    """All files in a folder and below, in order; raises InputError where none is a mesh."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"`meshes` {folder} is not a folder.")
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    if not any(path.suffix.lower() in SUFFIXES for path in found):
        raise InputError(f"`meshes` {folder} holds no mesh; {', '.join(SUFFIXES)} would work.")
    return found


def build(
    meshes: str | Path,
    out: str | Path,
    options: BuildOptions,
    *,
    family: Cascade | None = None,
    part: tuple[int, int] = (0, 1),
    tell: Tell = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Make, or go on making, the data set of a folder of meshes in `out`; returns how many were made, known, skipped.

    family: whose encoders make the latents; without one (or where it has none) there are no latents. part: every n-th
    file from the k-th, for several processes. A file that cannot be used is named to `tell` with the reason, and the
    rest goes on; what is there already is left as it is. Raises InputError for unusable folders and options.
    """
    files, out = files_in(meshes), Path(out)
    (out / "records").mkdir(parents=True, exist_ok=True)
    check_options(out, options)
    counts = {"made": 0, "known": 0, "skipped": 0}
    mine = files[part[0] :: part[1]]
    for i, path in enumerate(mine):
        try:
            counts["made" if build_one(path, out, options, family) else "known"] += 1
        except (InputError, ValueError, RuntimeError) as error:
            tell(f"{path.name} skipped: {' '.join(str(error).split())}")
            counts["skipped"] += 1
        if progress is not None:
            progress(i + 1, len(mine))
    write_metadata(out)
    return counts


def check_options(out: Path, options: BuildOptions) -> None:
    """Write the options beside the data, or raise InputError where the data was made with others."""
    path, values = out / "options.json", json.loads(json.dumps(asdict(options)))
    if not path.exists():
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    elif (found := json.loads(path.read_text(encoding="utf-8"))) != values:
        other = [name for name in values if found.get(name) != values[name]]
        raise InputError(f"{out} was made with another {', '.join(other)}; use the same or another folder.")


def build_one(path: Path, out: Path, options: BuildOptions, family: Cascade | None) -> bool:
    """Everything of one mesh file; False where it is there already."""
    size = path.stat().st_size
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"it is no mesh; {', '.join(SUFFIXES)} would work.")
    if not size:
        raise InputError("the file is empty.")
    if size > options.max_bytes:
        raise InputError(f"the file has {size / 1e6:.0f} MB; {options.max_bytes / 1e6:.0f} are taken.")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    record_path = out / "records" / f"{sha}.json"
    has_latents = family is not None and "shape_slat_encoder" in family
    if record_path.is_file():
        known = json.loads(record_path.read_text(encoding="utf-8"))
        if known.get("shape_latent_encoded") or not has_latents:
            return False
    part = read_mesh(path)
    if len(part.faces) > options.max_faces:
        raise InputError(f"the mesh has {len(part.faces):,} faces; {options.max_faces:,} are taken.")
    record = {
        "sha256": sha, "file": path.name, "num_vertices": len(part.vertices), "num_faces": len(part.faces),
        "cond_rendered": True, "dual_grid_converted": True, "pbr_voxelized": True,
    }  # fmt: skip
    frames = []
    for index in range(options.views):
        view = draw_view(sha, index, options.azimuth, options.elevation, options.fov)
        frames.append(write_view(part, view, index, sha, out, options, family if has_latents else None, record))
    write_text(out / ROOTS["render_cond"] / sha / "transforms.json", json.dumps({"frames": frames}, indent=1))
    write_text(record_path, json.dumps(record))
    return True


def write_view(part: Part, view: View, index: int, sha: str, out: Path, options: BuildOptions, family, record) -> dict:
    """Picture, dual grid, voxels and latents of one view; returns its frame for transforms.json."""
    placed = place_in_view(part.vertices, view)
    name = f"view{index:02}"
    picture = f"{index:03}.png"
    write_picture(out / ROOTS["render_cond"] / sha / picture, placed, part, view, options.image_size)
    voxels = voxelize(as_surface(part, placed), options.resolution, frame=InPlace())
    for key, arrays in (("dual_grid", dual_arrays(voxels)), ("pbr_voxel", pbr_arrays(voxels))):
        write_arrays(out / ROOTS[key] / sha / f"{name}.npz", arrays)
    record["dual_grid_size"] = max(record.get("dual_grid_size", 0), len(voxels.coords))
    record["num_pbr_voxels"] = record["dual_grid_size"]
    if family is not None:
        write_latents(out, sha, name, voxels, family, record)
    pose = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, -view.distance], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    return {"file_path": picture, "camera_angle_x": math.radians(view.fov), "transform_matrix": pose}


def write_latents(out: Path, sha: str, name: str, voxels: MeshVoxels, family: Cascade, record: dict) -> None:
    """Structure, shape and texture latents of a view by the encoders that the family has."""
    shape = encode_shape(family, voxels).mean
    tokens = shape.coords[:, 1:].cpu()
    found = {"shape_latent": sparse_arrays(tokens, shape.feats)}
    if "tex_slat_encoder" in family:
        texture = encode_texture(family, voxels).mean
        found["pbr_latent"] = sparse_arrays(texture.coords[:, 1:].cpu(), texture.feats)
    if "sparse_structure_encoder" in family:
        with family.on_device("sparse_structure_encoder") as encoder, torch.no_grad():
            factor = 2 ** (len(encoder.config.channels) - 1)
            side = family.get("sparse_structure_flow_model").config.resolution * factor
            occupied = torch.zeros(1, 1, side, side, side)
            token_side = voxels.resolution // family.get("shape_slat_encoder").config.factor
            cells = torch.unique(tokens.long() * side // token_side, dim=0)
            occupied[(0, 0, *cells.T)] = 1
            found["ss_latent"] = {"z": encoder(occupied.to(family.device))[0][0].float().cpu().numpy()}
    for key, arrays in found.items():
        stem = out / ROOTS[key] / sha / name
        write_arrays(stem.with_suffix(".npz"), arrays)
        write_text(stem.with_name(f"{name}_scale.json"), json.dumps({"total_scale": 1.0}))
        record[f"{key}_encoded"] = True
    record["shape_latent_tokens"] = max(record.get("shape_latent_tokens", 0), len(tokens))


def as_surface(part: Part, vertices: Tensor) -> Surface:
    """A part at other places, with the material that voxels are made of."""
    material = part.material
    base = None if material.base_color is None else as_floats(material.base_color)
    plain = None if material.metallic_roughness is None else as_floats(material.metallic_roughness)
    uv = None if part.uv is None or (base is None and plain is None) else flipped(part.uv)
    return Surface(
        vertices, part.faces, uv, base, plain,
        None if part.colors is None else part.colors.clamp(0, 1), tuple(material.base_color_factor),
        material.metallic_factor, material.roughness_factor,
    )  # fmt: skip


def as_floats(texture: Tensor) -> Tensor:
    return texture.float() / 255 if texture.dtype == torch.uint8 else texture.float()


def flipped(uv: Tensor) -> Tensor:
    """glTF's texture coordinates (from the top) as those of a `Surface` (from the bottom)."""
    return torch.stack([uv[:, 0], 1 - uv[:, 1]], 1)


def dual_arrays(voxels: MeshVoxels) -> dict[str, np.ndarray]:
    bits = (voxels.intersected.long() << torch.arange(3, device=voxels.intersected.device)).sum(1)
    return {
        "coords": voxels.coords.cpu().numpy().astype(np.uint16),
        "vertices": (voxels.dual * 255).round().clamp(0, 255).byte().cpu().numpy(),
        "intersected": bits.byte().cpu().numpy(),
    }


def pbr_arrays(voxels: MeshVoxels) -> dict[str, np.ndarray]:
    values = (voxels.attributes * 255).round().clamp(0, 255).byte().cpu().numpy()
    return {
        "coords": voxels.coords.cpu().numpy().astype(np.uint16), "base_color": values[:, :3],
        "metallic": values[:, 3], "roughness": values[:, 4], "alpha": values[:, 5],
    }  # fmt: skip


def sparse_arrays(coords: Tensor, feats: Tensor) -> dict[str, np.ndarray]:
    return {"coords": coords.numpy().astype(np.uint8), "feats": feats.detach().float().cpu().numpy()}


def write_picture(path: Path, placed: Tensor, part: Part, view: View, size: int) -> None:
    """The object seen by its front camera, lit from beside it, with alpha, as PNG."""
    from PIL import Image

    camera = front_camera(math.radians(view.fov), view.distance, size)
    material = part.material
    texture = None if material.base_color is None else as_floats(material.base_color)[..., :3]
    colors = part.colors
    if texture is None and colors is None:
        colors = torch.tensor(material.base_color_factor[:3]).expand(len(placed), 3)
    uv = None if texture is None else flipped(part.uv)
    given = dict(vertex_colors=colors, uv=uv, texture=texture, samples=2)
    places = placed @ TO_WORLD.T
    lit = render_mesh(places, part.faces, camera, background=0.0, **given).rgb[0]
    plain = dict(vertex_colors=torch.ones(len(placed), 3), samples=2, shading="flat", background=0.0)
    alpha = render_mesh(places, part.faces, camera, **plain).rgb[0, ..., :1]
    straight = torch.where(alpha > 0, lit / alpha.clamp(min=1e-3), 0.0).clamp(0, 1)
    pixels = (torch.cat([straight, alpha], -1) * 255).round().byte().cpu().numpy()
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place at the end; after an error nothing is left of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A .npz file, whole or not at all."""
    with whole(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def write_metadata(out: Path) -> None:
    """`metadata.csv` of all records, and `dataset.json` of the roots that are there."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / "records").glob("*.json"))]
    fields = sorted({name for record in records for name in record} - {"sha256"})
    with whole(out / "metadata.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["sha256", *fields])
        writer.writeheader()
        writer.writerows(records)
    roots = {key: folder for key, folder in ROOTS.items() if (out / folder).is_dir()}
    write_text(out / "dataset.json", json.dumps({out.resolve().name: roots}, indent=1))
