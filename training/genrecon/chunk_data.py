"""Reading data folders as `cutting` and the released toolkit lay them out: a chunk, and views of its room."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...models.trellis2.cascade import CascadeConfig
from ...scene.errors import InputError
from ..trellis2.folders import number, read_records, read_roots
from .recipe import ChunkSample, choose_views

TURN = np.diag([1.0, -1.0, -1.0, 1.0])  # between Blender's camera axes and OpenCV's


@dataclass(frozen=True, eq=False)
class RoomView:
    """picture file; pose [4, 4] room's world -> camera (OpenCV axes); focal length in picture widths."""

    picture: Path
    pose: np.ndarray
    focal: float


def square_crop(picture, size: int) -> tuple[Tensor, tuple[float, float, float]]:
    """A picture cut to the square around what its alpha shows, on black, [3, S, S] in [0, 1]; and (left, top, side) of
    the square in pixels of the picture."""
    from PIL import Image

    rgba = picture.convert("RGBA")
    box = rgba.getchannel("A").getbbox() or (0, 0, *rgba.size)
    side = max(box[2] - box[0], box[3] - box[1])
    left, top = (box[0] + box[2] - side) // 2, (box[1] + box[3] - side) // 2
    cut = rgba.crop((left, top, left + side, top + side)).resize((size, size), Image.LANCZOS)
    values = torch.from_numpy(np.asarray(cut, dtype=np.float32) / 255).permute(2, 0, 1)
    return values[:3] * values[3:], (float(left), float(top), float(side))


def seen_area(pose: np.ndarray, focal: float, aspect: float) -> float:
    """Area, in parts of the picture, of the box around a chunk's corners and center, clamped to the picture.

    pose: chunk's cube -> camera; 0 where no point lies in front of it. Source: GenRecon, specification 9 and 14.
    """
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)] + [[0, 0, 0]])
    seen = corners @ pose[:3, :3].T + pose[:3, 3]
    seen = seen[seen[:, 2] > 1e-6]
    if not len(seen):
        return 0.0
    uv = np.clip(focal * seen[:, :2] / seen[:, 2:] * [1, aspect] + 0.5, 0, 1)
    return float(np.prod(uv.max(0) - uv.min(0)))


class ChunkFolders:
    """The chunks of a data folder for one stage. Raises InputError where none is left, and for unusable files.

    config: whose normalization the latents get; min_tokens: chunks with fewer are left out.
    """

    def __init__(self, data: str | Path, stage: str, config: CascadeConfig, min_tokens: int | None = None):
        self.stage, self.config, self.chunks = stage, config, []
        self.rooms: dict[tuple[Path, str], tuple[list[RoomView], dict[str, Any]]] = {}
        needed = {"structure": ("ss_latent",), "shape": ("shape_latent",), "texture": ("shape_latent", "pbr_latent")}
        for roots in read_roots(data).values():
            if missing := [key for key in ("base", *needed[stage]) if key not in roots]:
                raise InputError(f"The data set has no root `{missing[0]}`, which the {stage} stage reads.")
            for name, record in sorted(read_records(roots).items()):
                if min_tokens is None or number(record, "tokens", math.inf) >= min_tokens:
                    self.chunks.append((roots, name, *name.rpartition("_")[::2]))
        if not self.chunks:
            raise InputError(f"{data} has no chunk for the {stage} stage (at least {min_tokens or 0} tokens).")

    def __len__(self) -> int:
        return len(self.chunks)

    def room(self, base: Path, scene: str) -> tuple[list[RoomView], dict[str, Any]]:
        """The views and the chunks of a room."""
        if (base, scene) not in self.rooms:
            folder = base / "renders_room" / scene
            try:
                document = json.loads((folder / "transforms.json").read_text(encoding="utf-8"))
                chunks = json.loads((base / "crops" / f"{scene}.json").read_text(encoding="utf-8"))["chunks"]
                views = []
                for frame in document["frames"]:
                    angle = float(frame.get("camera_angle_x", document.get("camera_angle_x", math.nan)))
                    name = Path(frame["file_path"])
                    if name.is_absolute() or ".." in name.parts:
                        raise InputError(f"The picture {name} does not lie inside {folder}.")
                    pose = TURN @ np.linalg.inv(np.asarray(frame["transform_matrix"], dtype=np.float64))
                    views.append(RoomView(folder / name, pose, 0.5 / math.tan(angle / 2)))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"The room {scene} cannot be used ({error}).") from None
            self.rooms[base, scene] = views, chunks
        return self.rooms[base, scene]

    def draw(self, index: int, encoder: nn.Module, rng: np.random.Generator) -> ChunkSample:
        """A chunk and 1 to 16 random views of its room, encoded."""
        from PIL import Image

        roots, name, scene, number_ = self.chunks[index]
        views, chunks = self.room(roots["base"], scene)
        place = np.asarray(chunks[number_]["M_chunk_to_original"], dtype=np.float64)
        poses = [view.pose @ place for view in views]
        chosen = choose_views([seen_area(p, v.focal, 1.0) for p, v in zip(poses, views)], rng)
        pictures, lenses = [], []
        for i in chosen:
            with Image.open(views[i].picture) as picture:
                width, height = picture.size
                square, (left, top, side) = square_crop(picture, encoder_size(encoder, self.config))
            pictures.append(square)
            focal = views[i].focal * width / side
            lenses.append([[focal, 0, (width / 2 - left) / side], [0, focal, (height / 2 - top) / side], [0, 0, 1]])
        with torch.no_grad():
            tokens = encoder(torch.stack(pictures)).float()
        extrinsics = torch.tensor(np.stack([poses[i] for i in chosen])).float()
        x0, coords, concat, side = self._latents(roots, name)
        return ChunkSample(x0, tokens, extrinsics, torch.tensor(lenses).float(), coords, side, concat)

    def _latents(self, roots, name: str):
        if self.stage == "structure":
            z = torch.from_numpy(np.load(roots["ss_latent"] / f"{name}.npz")["z"]).float()
            return z, None, None, z.shape[-1]
        shape = np.load(roots["shape_latent"] / f"{name}.npz")
        coords = torch.from_numpy(shape["coords"].astype(np.int64))
        code = self.config.shape_normalization.normalize(torch.from_numpy(shape["feats"]).float())
        side = self.config.lr_resolution // self.factor
        if self.stage == "shape":
            return code, coords, None, side
        texture = np.load(roots["pbr_latent"] / f"{name}.npz")
        if not np.array_equal(texture["coords"], shape["coords"]):
            raise InputError(f"Shape and texture latents of {name} have different voxels.")
        return self.config.tex_normalization.normalize(torch.from_numpy(texture["feats"]).float()), coords, code, side

    factor = 16  # voxels behind one latent voxel; the run sets its family's


def encoder_size(encoder: nn.Module, config: CascadeConfig) -> int:
    """Side of the pictures an encoder takes."""
    own = getattr(getattr(encoder, "config", None), "image_size", None)
    return int(own) if own else config.token_image_sizes[0]
