"""Reading data folders: objects by their sha256, their records in `metadata.csv`, latents, grids and pictures.

The layout is that of TRELLIS.2's and Pixal3D's data: a table of roots, {"name": {"base": DIR, "ss_latent": DIR, ...}},
every root with a `metadata.csv` whose records are joined by `sha256`.

| key | file below its root | holds |
|---|---|---|
| ss_latent | SHA.npz | z [C, R, R, R] |
| shape_latent, pbr_latent | SHA.npz | coords [N, 3], feats [N, C] |
| the same, view-aligned | SHA/viewXX.npz, SHA/viewXX_scale.json | the same for view XX, and its `total_scale` |
| render_cond | SHA/transforms.json and pictures with alpha | frames with `camera_angle_x` and `transform_matrix` |
| dual_grid | SHA.npz | coords [N, 3], vertices [N, 3] uint8 (of 255), intersected [N] uint8 (bits x, y, z) |
| pbr_voxel | SHA.npz | coords, base_color [N, 3], metallic, roughness, alpha [N] uint8 |
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models.trellis2.image_condition import FrontCamera
from ...models.trellis2.preprocess import image_tensor
from ...scene.errors import InputError
from .recipe import Recipe

NEEDED = {
    "structure_vae": ("shape_latent",),
    "shape_vae": ("dual_grid",),
    "texture_vae": ("pbr_voxel",),
    "structure_flow": ("ss_latent", "render_cond"),
    "shape_flow": ("shape_latent", "render_cond"),
    "texture_flow": ("shape_latent", "pbr_latent", "render_cond"),
}
DONE = {  # the record that says a file is there
    "ss_latent": "ss_latent_encoded", "shape_latent": "shape_latent_encoded", "pbr_latent": "pbr_latent_encoded",
    "dual_grid": "dual_grid_converted", "pbr_voxel": "pbr_voxelized", "render_cond": "cond_rendered",
}  # fmt: skip
SIZES = {"dual_grid": "dual_grid_size", "pbr_voxel": "num_pbr_voxels"}
FALSE = ("", "false", "0", "nan", "none")


@dataclass(frozen=True)
class View:
    """A picture [3, S, S] in [0, 1] on black, and the camera in front of a view-aligned object."""

    picture: Tensor
    camera: FrontCamera


def read_roots(text: str | Path) -> dict[str, dict[str, Path]]:
    """The roots of a data set: JSON, a file of it, or a folder with `dataset.json`.

    Paths in a file are relative to it. Raises InputError for anything else and for folders that are not there.
    """
    where, path = Path(), Path(text)
    try:
        if str(text).lstrip().startswith("{"):
            table = json.loads(str(text))
        else:
            file = path / "dataset.json" if path.is_dir() else path
            table, where = json.loads(file.read_text(encoding="utf-8")), file.parent
    except (OSError, ValueError) as error:
        raise InputError(f"`data` {text} is no data set ({error}); give a folder with dataset.json, or JSON.") from None
    if not isinstance(table, dict) or not all(isinstance(roots, dict) for roots in table.values()):
        raise InputError(f"`data` {text} is no table of roots: {{name: {{base: folder, ...}}}}.")
    found = {name: {key: where / value for key, value in roots.items()} for name, roots in table.items()}
    for roots in found.values():
        for key, folder in roots.items():
            if not folder.is_dir():
                raise InputError(f"The data root `{key}` {folder} is not a folder.")
    return found


def read_records(roots: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """The records of all `metadata.csv` below the roots, joined by sha256; the first that says something wins."""
    records: dict[str, dict[str, str]] = {}
    for folder in roots.values():
        path = folder / "metadata.csv"
        if not path.is_file():
            continue
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if not row.get("sha256"):
                    raise InputError(f"{path} has a record without `sha256`.")
                known = records.setdefault(row["sha256"], {})
                for key, value in row.items():
                    if key and value and not known.get(key):
                        known[key] = value
    return records


class ObjectFolders:
    """The objects of a data set that a recipe can be trained on; `report` says how many every filter left.

    Raises InputError where no object is left, naming the filter that took the last.
    """

    def __init__(self, data: str | Path, recipe: Recipe):
        self.recipe, self.report = recipe, []
        self.objects: list[tuple[dict[str, Path], str]] = []
        for roots in read_roots(data).values():
            missing = [key for key in NEEDED[recipe.stage] if key not in roots]
            if missing:
                raise InputError(f"The data set has no root `{missing[0]}`, which {recipe.stage} reads.")
            self.objects += [(roots, sha) for sha in self._filter(read_records(roots))]
        if not self.objects:
            raise InputError(f"No object of the data set is left for {recipe.stage}: {'; '.join(self.report)}.")

    def __len__(self) -> int:
        return len(self.objects)

    def _filter(self, records: dict[str, dict[str, str]]) -> list[str]:
        options, left = self.recipe.data, dict(records)
        self.report.append(f"{len(left)} records")

        def keep(what: str, test) -> None:
            nonlocal left
            left = {sha: record for sha, record in left.items() if test(record)}
            self.report.append(f"{len(left)} {what}")

        for key in NEEDED[self.recipe.stage]:
            keep(f"with {DONE[key]}", lambda record, name=DONE[key]: record.get(name, "").lower() not in FALSE)
        if options.min_aesthetic_score is not None:
            limit = options.min_aesthetic_score
            keep(f"with an aesthetic score of {limit}", lambda r: number(r, "aesthetic_score", -math.inf) >= limit)
        for limit, names in (
            (options.max_tokens, [f"{k}_tokens" for k in ("shape_latent", "pbr_latent")]),
            (options.max_voxels, [SIZES[k] for k in NEEDED[self.recipe.stage] if k in SIZES]),
            (options.max_faces, ["num_faces"]),
        ):
            if limit is not None:
                what = f"of at most {limit} {' and '.join(names)}"
                keep(what, lambda r, at=limit, of=names: all(number(r, name, 0) <= at for name in of))
        return sorted(left)

    def draw(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """What the recipe's stage reads of an object; the view is drawn. Raises InputError naming an unusable file."""
        roots, sha = self.objects[index]
        try:
            return getattr(self, f"_{self.recipe.stage}")(roots, sha, generator)
        except (OSError, ValueError, KeyError, IndexError, EOFError) as error:
            raise InputError(f"The object {sha} cannot be read ({error}); remove its record or make it anew.") from None

    def _structure_flow(self, roots, sha, generator):
        stem, view = self._view(roots["ss_latent"], roots, sha, generator)
        return {"latent": torch.from_numpy(load_npz(stem)["z"]).float(), "view": view}

    def _shape_flow(self, roots, sha, generator):
        stem, view = self._view(roots["shape_latent"], roots, sha, generator)
        coords, feats = sparse_latent(stem)
        return {"coords": coords, "latent": normalized(feats, self.recipe.normalization()), "view": view}

    def _texture_flow(self, roots, sha, generator):
        stem, view = self._view(roots["shape_latent"], roots, sha, generator)
        coords, shape = sparse_latent(stem)
        other, feats = sparse_latent(roots["pbr_latent"] / stem.relative_to(roots["shape_latent"]))
        if not torch.equal(coords, other):
            raise ValueError("shape and texture latents lie on different voxels")
        return {
            "coords": coords, "latent": normalized(feats, self.recipe.normalization()),
            "concat": normalized(shape, self.recipe.normalization("shape_normalization")), "view": view,
        }  # fmt: skip

    def _structure_vae(self, roots, sha, generator):
        coords, _ = sparse_latent(self._any_view(roots["shape_latent"], sha, generator))
        side = self.recipe.data.resolution
        occupied = torch.zeros(1, side, side, side)
        occupied[(0, *coords.long().T)] = 1
        return {"occupied": occupied}

    def _shape_vae(self, roots, sha, generator):
        grid = load_npz(self._any_view(roots["dual_grid"], sha, generator))
        bits = torch.from_numpy(grid["intersected"]).long().view(-1, 1) >> torch.arange(3)
        return {
            "coords": torch.from_numpy(grid["coords"].astype(np.int32)), "intersected": (bits & 1).bool(),
            "vertices": torch.from_numpy(grid["vertices"]).float() / 255,
        }  # fmt: skip

    def _texture_vae(self, roots, sha, generator):
        voxels = load_npz(self._any_view(roots["pbr_voxel"], sha, generator))
        parts = [voxels[name].reshape(len(voxels["coords"]), -1) for name in ATTRIBUTES]
        attributes = torch.from_numpy(np.concatenate(parts, axis=1)).float() / 255
        return {"coords": torch.from_numpy(voxels["coords"].astype(np.int32)), "attributes": attributes}

    def _any_view(self, root: Path, sha: str, generator: torch.Generator) -> Path:
        """`root`/SHA.npz, or one of its views."""
        if (root / f"{sha}.npz").is_file():
            return root / f"{sha}.npz"
        views = sorted((root / sha).glob("view*.npz"))
        if not views:
            raise OSError(f"there is neither {sha}.npz nor a view of it in {root.name}")
        return views[draw_one(len(views), generator)]

    def _view(self, latents: Path, roots, sha, generator) -> tuple[Path, View]:
        """The latent's file and the picture that goes with it."""
        options, folder = self.recipe.data, roots["render_cond"] / sha
        frames = json.loads((folder / "transforms.json").read_text(encoding="utf-8"))["frames"]
        if options.view_aligned:
            files = sorted((latents / sha).glob("view[0-9][0-9].npz"))
            stem = files[draw_one(len(files), generator)]
            index = int(stem.stem.removeprefix("view"))
            scale = float(json.loads(stem.with_name(f"{stem.stem}_scale.json").read_text())["total_scale"])
        else:
            stem, index, scale = latents / f"{sha}.npz", draw_one(len(frames), generator), 1.0
        frame = frames[index]
        name = Path(frame["file_path"]).name  # never a path out of the folder
        distance = math.sqrt(sum(row[3] ** 2 for row in frame["transform_matrix"][:3]))
        picture = read_picture(folder / name, options.image_size, options.crop)
        return stem, View(picture, FrontCamera(float(frame["camera_angle_x"]), distance, scale))


ATTRIBUTES = ("base_color", "metallic", "roughness", "alpha")


def draw_one(count: int, generator: torch.Generator) -> int:
    if not count:
        raise IndexError("it has no view")
    return int(torch.randint(count, (), generator=generator))


def number(record: Mapping[str, str], name: str, default: float) -> float:
    """A number of a record; raises InputError for what is none."""
    text = record.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise InputError(f"The record of {record.get('sha256')} has {name} {text!r}, which is no number.") from None


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def sparse_latent(path: Path) -> tuple[Tensor, Tensor]:
    """coords [N, 3] int32 and feats [N, C] float32 of a latent's file."""
    arrays = load_npz(path)
    return torch.from_numpy(arrays["coords"].astype(np.int32)), torch.from_numpy(arrays["feats"]).float()


def normalized(feats: Tensor, normalization) -> Tensor:
    return feats if normalization is None else normalization.normalize(feats)


def read_picture(path: Path, size: int, crop: bool) -> Tensor:
    """A picture with alpha as [3, size, size] in [0, 1] on black: cut to its opaque box (TRELLIS.2), or whole."""
    from PIL import Image

    with Image.open(path) as file:
        rgba = np.asarray(file.convert("RGBA"))
    if crop:
        rows, columns = np.nonzero(rgba[..., 3])
        if not len(rows):
            raise ValueError(f"{path.name} is transparent everywhere")
        middle = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
        half = max(columns.max() - columns.min(), rows.max() - rows.min()) / 2
        box = [int(middle[0] - half), int(middle[1] - half), int(middle[0] + half), int(middle[1] + half)]
        rgba = np.asarray(Image.fromarray(rgba).crop(box))
    resized = np.asarray(Image.fromarray(rgba).resize((size, size), Image.Resampling.LANCZOS))
    rgb = image_tensor(np.ascontiguousarray(resized[..., :3]), size)[0]
    return rgb * torch.from_numpy(resized[..., 3].astype(np.float32) / 255)
