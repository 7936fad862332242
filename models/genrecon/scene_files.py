"""A decoded scene in its world, in files: PLY with PBR attributes, voxels for the baker, and the old baker's inputs.

World: that of the photos, Z up. The voxels are written as safetensors with JSON beside them; the released code pickles
them (`to_glb_inputs.pt`), which is read here without executing anything, and never written.
"""

from __future__ import annotations

import builtins
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.grid_sample import sample_voxels
from ...scene.errors import InputError
from ...scene.files import Outputs, read_bytes
from ...scene.sparse import SparseTensor
from ..trellis2.safetensors_file import SafetensorsFile
from .joint_decode import SceneMesh
from .scene_frame import halving_friendly, to_world

FORMAT_VERSION = 1
LAYOUT = {"base_color": (0, 3), "metallic": (3, 4), "roughness": (4, 5), "alpha": (5, 6)}
CHANNELS = ("red", "green", "blue", "metallic", "roughness", "alpha")


@dataclass(frozen=True, eq=False)
class WorldScene:
    """A scene in its world.

    vertices [V, 3] float32; faces [F, 3] int32; coords [M, 3] int32 voxels from the corner aabb[0], of `voxel_size`;
    attributes [M, 6]; chunk_centers [K, 3]; chunk_size; names: of the chunks; to_original: [4, 4] or None, the frame of
    a single validation chunk.
    """

    vertices: Tensor
    faces: Tensor
    coords: Tensor
    attributes: Tensor
    aabb: Tensor
    voxel_size: float
    chunk_centers: Tensor
    chunk_size: float
    names: tuple[int, ...] = ()
    to_original: Tensor | None = field(default=None)

    def sample(self, points: Tensor) -> Tensor:
        """Attributes [P, 6] at points [P, 3] of the world, trilinear, zero where there is no voxel."""
        voxels = torch.nn.functional.pad(self.coords, (1, 0)).int()
        place = (points - self.aabb[0].to(points)) / self.voxel_size
        return sample_voxels(SparseTensor(self.attributes.float(), voxels), place)


def world_scene(mesh: SceneMesh, joint_to_world: Tensor, centers: Tensor, names: tuple[int, ...] = ()) -> WorldScene:
    """A mesh of the joint frame in its world; joint_to_world [4, 4]; centers [K, 3] of the chunks in the world."""
    size = float(joint_to_world[0, 0])
    low = to_world(mesh.aabb[:1], joint_to_world)[0]
    voxel = size / mesh.resolution
    grid = torch.tensor([halving_friendly(n) for n in mesh.grid], dtype=torch.float32)
    aabb = torch.stack([low, low + grid * voxel])
    vertices = to_world(mesh.vertices.cpu(), joint_to_world)
    return WorldScene(
        vertices, mesh.faces.cpu(), mesh.coords.cpu(), mesh.attributes.cpu().float(), aabb, voxel,
        centers.float(), size, names,
    )  # fmt: skip


def encode_scene_ply(scene: WorldScene) -> bytes:
    """mesh.ply: binary, world frame, per vertex the six attributes as bytes (clipped, truncated), int32 triangles."""
    values = (scene.sample(scene.vertices) * 255).clamp(0, 255).to(torch.uint8).numpy()
    rows = np.zeros(len(scene.vertices), [*((a, "<f4") for a in "xyz"), *((c, "u1") for c in CHANNELS)])
    for axis, name in enumerate("xyz"):
        rows[name] = scene.vertices[:, axis].numpy()
    for i, name in enumerate(CHANNELS):
        rows[name] = values[:, i]
    faces = np.zeros(len(scene.faces), [("n", "u1"), ("v", "<i4", 3)])
    faces["n"], faces["v"] = 3, scene.faces.numpy()
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    head += [f"property float {a}" for a in "xyz"] + [f"property uchar {c}" for c in CHANNELS]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(head).encode() + rows.tobytes() + faces.tobytes()


def save_scene_voxels(scene: WorldScene, path: str | Path, outputs: Outputs) -> None:
    """`path` (.safetensors) and the JSON beside it, as outputs of a run."""
    from safetensors.torch import save

    path = Path(path)
    tensors = {
        "vertices": scene.vertices, "faces": scene.faces.int(), "attr_volume": scene.attributes,
        "coords": scene.coords.int(), "chunk_centers_world": scene.chunk_centers,
    }  # fmt: skip
    metadata: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "attr_layout": {name: list(span) for name, span in LAYOUT.items()},
        "aabb": scene.aabb.double().tolist(),
        "voxel_size": scene.voxel_size,
        "chunk_size_world": scene.chunk_size,
        "chunk_indices": list(scene.names),
    }
    if scene.to_original is not None:
        metadata["M_chunk_to_original"] = scene.to_original.tolist()
    outputs.file(path).write(save({name: value.contiguous() for name, value in tensors.items()}))
    outputs.file(path.with_suffix(".json")).write(json.dumps(metadata, indent=1).encode())


def load_scene_voxels(path: str | Path) -> WorldScene:
    """What `save_scene_voxels` wrote; raises InputError for anything else."""
    path = Path(path)
    file = SafetensorsFile(path)
    try:
        data = json.loads(read_bytes(path.with_suffix(".json"), 1 << 20, "the JSON beside the voxels"))
        if data["format_version"] != FORMAT_VERSION:
            raise InputError(f"{path} is of format {data['format_version']}; this version reads {FORMAT_VERSION}.")
        original = data.get("M_chunk_to_original")
        tensors = {name: file[name].clone() for name in ("vertices", "faces", "coords", "attr_volume")}
        scene = WorldScene(
            tensors["vertices"], tensors["faces"], tensors["coords"], tensors["attr_volume"],
            torch.tensor(data["aabb"], dtype=torch.float32), float(data["voxel_size"]),
            file["chunk_centers_world"].clone(), float(data["chunk_size_world"]), tuple(data["chunk_indices"]),
            None if original is None else torch.tensor(original),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} and the JSON beside it are no scene voxels ({error!r}).") from None
    return check_scene(scene, str(path))


def check_scene(scene: WorldScene, source: str) -> WorldScene:
    """Raises InputError for a scene whose parts do not fit together."""
    counts = len(scene.vertices), len(scene.coords)
    fits = scene.vertices.shape == (counts[0], 3) and scene.coords.shape == (counts[1], 3)
    fits = fits and scene.attributes.shape == (counts[1], 6) and scene.faces.ndim == 2 and scene.faces.shape[1] == 3
    if not fits or not len(scene.faces) or not counts[1]:
        raise InputError(f"{source} holds no whole scene: vertices, faces, voxels and attributes do not fit together.")
    if int(scene.faces.min()) < 0 or int(scene.faces.max()) >= counts[0]:
        raise InputError(f"{source} has faces that name vertices that are not there.")
    if not bool(torch.isfinite(scene.vertices).all() and torch.isfinite(scene.attributes).all()):
        raise InputError(f"{source} holds numbers that are not finite.")
    if not scene.voxel_size > 0 or int(scene.coords.min()) < 0:
        raise InputError(f"{source} has a voxel size that is not above 0, or voxels below 0.")
    return scene


def import_baker_inputs(glb_inputs: str | Path, chunk_inputs: str | Path | None = None) -> WorldScene:
    """The released code's `to_glb_inputs.pt` and `chunk_inputs.pt`, read without executing anything.

    Only tensors, plain values and `slice` are let through. Raises InputError for anything else.
    """
    data = _read_pt(glb_inputs)
    chunks = _read_pt(chunk_inputs) if chunk_inputs else {}
    try:
        layout = {name: (s.start, s.stop) for name, s in data["attr_layout"].items()}
        if layout != LAYOUT:
            raise InputError(f"{glb_inputs} has the attributes {layout}; {LAYOUT} are understood.")
        low, high = (torch.as_tensor(v, dtype=torch.float32).reshape(3) for v in data["aabb"])
        voxel = float(data["voxel_size"])
        centers = chunks.get("chunk_centers_world", (low + high)[None] / 2)
        original = chunks.get("M_chunk_to_original")
        scene = WorldScene(
            torch.as_tensor(data["vertices"]).float(), torch.as_tensor(data["faces"]).int(),
            torch.as_tensor(data["coords"]).int()[:, -3:], torch.as_tensor(data["attr_volume"]).float(),
            torch.stack([low, high]), voxel, torch.as_tensor(centers).float().reshape(-1, 3),
            float(chunks.get("chunk_size_world", float((high - low).max()))),
            tuple(int(i) for i in chunks.get("chunk_indices", range(len(torch.as_tensor(centers).reshape(-1, 3))))),
            None if original is None else torch.as_tensor(original).float(),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{glb_inputs} is not what GenRecon's baker reads ({error!r}).") from None
    return check_scene(scene, str(glb_inputs))


def _read_pt(path: str | Path) -> dict:
    if not Path(path).is_file():
        raise InputError(f"There is no file {path}.")
    allow = getattr(torch.serialization, "safe_globals", None)
    if allow is None:
        raise InputError("This version of torch cannot read such files safely; version 2.5 or newer can.")
    try:
        with allow([builtins.slice]):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} is no file of plain tensors ({str(error).splitlines()[0][:100]}).") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no table.")
    return found
