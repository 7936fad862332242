"""Rooms of your own, meshes with posed pictures, cut into chunks: latents, crops and metadata in the published layout.

MESHES holds, for every room, NAME.glb (or another mesh; Y up, meters) and NAME/transforms.json with its pictures
(camera to world with Blender's axes, Z up, `camera_angle_x`). Below the data folder are written:

| file | holds |
|---|---|
| chunks/NAME_K.glb | what of the room lies in chunk K, in the cube [-0.5, 0.5]^3 (Y up, as glTF is) |
| crops/NAME.json | per chunk its size, center, turn about z, and both 4 x 4 matrices |
| ss_latents, shape_latents, pbr_latents / NAME_K.npz | z [C, R, R, R]; coords [N, 3] uint8 and feats [N, C] float32 |
| renders_room/NAME/ | transforms.json and the pictures, copied |
| metadata.csv, dataset.json | what was made; the roots |

Source: GenRecon, specification 14. The released toolkit cuts solids with Blender; here triangles are clipped, so that
any mesh can be cut.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.trellis2.cascade import Cascade
from ...models.trellis2.encoding import MeshVoxels, encode_shape, encode_texture, voxelize
from ...scene.errors import InputError
from ...scene.frames import turn_points
from ...scene.gltf import Part, encode_glb
from ...scene.mesh_read import READABLE, read_mesh
from ...scene.surfaces import InPlace
from ..toolkit.build import as_surface, sparse_arrays, whole, write_arrays, write_text

ROOTS = {"base": ".", "ss_latent": "ss_latents", "shape_latent": "shape_latents", "pbr_latent": "pbr_latents"}


@dataclass(frozen=True)
class CutOptions:
    """size: of a chunk in meters, drawn between both; chunks of a room; resolution: voxels along a chunk; sink: how far
    below the floor a chunk begins, in voxels; turned: whether chunks are turned about z at random."""

    size: tuple[float, float] = (2.7, 3.0)
    chunks: int = 3
    resolution: int = 64
    sink: float = 0.4
    turned: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.size[0] <= self.size[1]:
            raise InputError(f"`size` is {self.size}; give the least and the largest size of a chunk, above 0.")
        if not 1 <= self.chunks <= 1000:
            raise InputError(f"`chunks` is {self.chunks}; 1 to 1000 would work.")


@dataclass(frozen=True)
class Crop:
    """A chunk of a room: center [3] in the world, side in meters, turn about z in radians."""

    center: tuple[float, float, float]
    size: float
    turn: float

    @property
    def chunk_to_world(self) -> np.ndarray:
        """[4, 4] from the cube [-0.5, 0.5]^3 to the room's world."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        matrix = np.eye(4)
        matrix[:3, :3] = self.size * np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        matrix[:3, 3] = self.center
        return matrix

    def to_json(self) -> dict[str, Any]:
        matrix = self.chunk_to_world
        return {
            "crop_size": self.size, "crop_center": list(self.center), "rotation_z": self.turn,
            "M_chunk_to_original": matrix.tolist(), "M_original_to_chunk": np.linalg.inv(matrix).tolist(),
        }  # fmt: skip


def draw_crops(low: np.ndarray, high: np.ndarray, options: CutOptions, rng: np.random.Generator) -> list[Crop]:
    """Random chunks of a room whose box is low..high [3]: they stand on the floor and reach up to 1 m over its sides.

    Source: GenRecon's data toolkit, `create_chunks`.
    """
    crops = []
    for _ in range(options.chunks):
        size = float(rng.uniform(*options.size))
        center = []
        for a, b in zip(low[:2], high[:2]):
            first, last = a + size / 2 - 1, b - size / 2 + 1
            center.append(float(rng.uniform(first, last)) if first < last else float((a + b) / 2))
        center.append(float(low[2] + size / 2 - options.sink * size / options.resolution))
        crops.append(Crop(tuple(center), size, float(rng.uniform(0, 2 * math.pi)) if options.turned else 0.0))
    return crops


def clip_triangles(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Triangles [F, 3, 3] clipped to the cube [-0.5, 0.5]^3.

    Returns the triangle each piece comes from [P] and the barycentric weights of its corners there [P, 3, 3].
    """
    source = torch.arange(len(corners))
    weights = torch.eye(3, dtype=corners.dtype).repeat(len(corners), 1, 1)
    for axis in range(3):
        for sign in (1.0, -1.0):
            height = 0.5 - sign * (weights @ corners[source])[..., axis]
            inside = height >= 0
            count = inside.sum(1)
            pieces = [(source[count == 3], weights[count == 3])]
            for inner in (1, 2):
                row = (count == inner).nonzero().squeeze(1)
                alone = inside[row] if inner == 1 else ~inside[row]
                order = (alone.int().argmax(1)[:, None] + torch.arange(3)) % 3  # the single corner comes first
                w = weights[row].gather(1, order[..., None].expand(-1, -1, 3))
                h = height[row].gather(1, order)
                cut = [h[:, :1] / (h[:, :1] - h[:, k : k + 1]) for k in (1, 2)]
                near = [w[:, 0] + t * (w[:, k] - w[:, 0]) for t, k in zip(cut, (1, 2))]
                if inner == 1:
                    pieces.append((source[row], torch.stack([w[:, 0], near[0], near[1]], 1)))
                else:
                    pieces.append((source[row], torch.stack([near[0], w[:, 1], w[:, 2]], 1)))
                    pieces.append((source[row], torch.stack([near[0], w[:, 2], near[1]], 1)))
            source, weights = (torch.cat(part) for part in zip(*pieces))
    return source, weights


def cut_part(part: Part, vertices: Tensor) -> Part | None:
    """What of a part, its vertices [V, 3] given in a chunk's frame (Z up), lies in the cube; None where nothing does.

    Corners are no longer shared.
    """
    faces = part.faces.long()
    corners = vertices.double()[faces]
    near = ((corners.amax(1) >= -0.5) & (corners.amin(1) <= 0.5)).all(1).nonzero().squeeze(1)
    source, weights = clip_triangles(corners[near])
    if not len(source):
        return None
    face = near[source]

    def read(values: Tensor | None) -> Tensor | None:
        return None if values is None else (weights @ values.double()[faces[face]]).flatten(0, 1).float()

    places = (weights @ corners[face]).flatten(0, 1).clamp(-0.5, 0.5).float()
    return replace(
        part, vertices=places, faces=torch.arange(len(places)).view(-1, 3), uv=read(part.uv), colors=read(part.colors),
        normals=None, tangents=None,
    )  # fmt: skip


def encode_chunk(voxels: MeshVoxels, family: Cascade) -> dict[str, dict[str, np.ndarray]]:
    """The three latents of a chunk by the encoders of a family, as arrays of their files."""
    shape, texture = encode_shape(family, voxels).mean, encode_texture(family, voxels).mean
    tokens = shape.coords[:, 1:].cpu()
    with family.on_device("sparse_structure_encoder") as encoder, torch.no_grad():
        factor = 2 ** (len(encoder.config.channels) - 1)
        side = family.get("sparse_structure_flow_model").config.resolution * factor
        occupied = torch.zeros(1, 1, side, side, side)
        cells = torch.unique(voxels.coords.long().cpu() * side // voxels.resolution, dim=0)
        occupied[(0, 0, *cells.T)] = 1
        structure = encoder(occupied.to(family.device))[0][0].float().cpu().numpy()
    return {
        "ss_latent": {"z": structure},
        "shape_latent": sparse_arrays(tokens, shape.feats),
        "pbr_latent": sparse_arrays(texture.coords[:, 1:].cpu(), texture.feats),
    }


def rooms_in(folder: Path) -> list[Path]:
    """The meshes of a folder that have a transforms.json; raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"`meshes` {folder} is not a folder.")
    found = [p for p in sorted(folder.iterdir()) if p.suffix.lower().lstrip(".") in READABLE]
    rooms = [p for p in found if (p.with_suffix("") / "transforms.json").is_file()]
    if not rooms:
        raise InputError(f"{folder} holds no room; for NAME.glb there must be NAME/transforms.json with its pictures.")
    return rooms


def cut_rooms(
    meshes: str | Path, out: str | Path, *, family: str | Path | Cascade | None = None, seed: int = 0,
    options: CutOptions | None = None, progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> int:  # fmt: skip
    """Cut all rooms of a folder into a data folder; returns how many chunks it holds then.

    family: whose encoders make the latents: a folder of TRELLIS.2, or None for the embedded family. A room that cannot
    be used is named to `tell`, and the rest goes on. Raises InputError for unusable folders.
    """
    from ...models.trellis2.cascade import load_cascade
    from ...models.trellis2.family import embedded_family

    options, out = options or CutOptions(), Path(out)
    if not isinstance(family, Cascade):
        family = embedded_family() if family is None else load_cascade(family)
    rooms = rooms_in(Path(meshes))
    for done, room in enumerate(rooms):
        try:
            cut_room(room, out, family, options, seed)
        except (InputError, ValueError, RuntimeError) as error:
            tell(f"{room.name} skipped: {' '.join(str(error).split())}")
        if progress:
            progress(done + 1, len(rooms))
    return write_metadata(out)


def cut_room(path: Path, out: Path, family: Cascade, options: CutOptions, seed: int = 0) -> int:
    """One room: its chunks that hold something; returns how many."""
    name, part = path.stem, read_mesh(path)
    world = turn_points(part.vertices.double(), "y_up", "z_up")
    rng = np.random.default_rng([seed, *name.encode()])
    crops, kept = draw_crops(world.amin(0).numpy(), world.amax(0).numpy(), options, rng), {}
    for index, crop in enumerate(crops):
        inverse = torch.from_numpy(np.linalg.inv(crop.chunk_to_world))
        chunk = cut_part(part, world @ inverse[:3, :3].T + inverse[:3, 3])
        if chunk is None:
            continue
        voxels = voxelize(as_surface(chunk, chunk.vertices), options.resolution, frame=InPlace())
        for key, arrays in encode_chunk(voxels, family).items():
            write_arrays(out / ROOTS[key] / f"{name}_{index}.npz", arrays)
        upright = replace(chunk, vertices=turn_points(chunk.vertices, "z_up", "y_up"))
        glb = out / "chunks" / f"{name}_{index}.glb"
        with whole(glb) as partial:
            partial.write_bytes(encode_glb([upright]))
        kept[str(index)] = crop.to_json()
    if not kept:
        raise InputError("none of its chunks holds a surface.")
    shutil.copytree(path.with_suffix(""), out / "renders_room" / name, dirs_exist_ok=True)
    write_text(out / "crops" / f"{name}.json", json.dumps({"chunks": kept}, indent=1))
    return len(kept)


def write_metadata(out: Path) -> int:
    """`metadata.csv` of all chunks, and `dataset.json` of the roots; returns the number of chunks."""
    rows = []
    for path in sorted((out / "crops").glob("*.json")):
        for index in json.loads(path.read_text(encoding="utf-8"))["chunks"]:
            stem = f"{path.stem}_{index}"
            with np.load(out / ROOTS["shape_latent"] / f"{stem}.npz") as latent:
                rows.append({"sha256": stem, "scene": path.stem, "chunk": index, "tokens": len(latent["coords"])})
    if not rows:
        raise InputError(f"{out} holds no chunk; none of the rooms could be used.")
    with whole(out / "metadata.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    write_text(out / "dataset.json", json.dumps({out.resolve().name: ROOTS}, indent=1))
    return len(rows)
