"""The SRN dataset layout: reading, the published training items, and writing.

``<root>/srn_<category>/<category>_{train,val,test}/<object>/`` with ``intrinsics.txt``, ``rgb/NNNNNN.png``,
``pose/NNNNNN.txt`` and ``opc/NNNNNN.png``.
Pose files: camera (x right, y down, z forward) to world (Z up), 16 numbers. Pictures on white; ``opc`` silhouettes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.sparsegen import SparseGenConfig, pose_channels
from ...scene.cameras import Cameras
from ...scene.errors import InputError
from ...scene.frames import cameras_from_srn_pose, parse_srn_pose, pytorch3d_rt, srn_pose
from .draws import choose, rng
from .recipe import Recipe
from .step import TrainingViews

SPLITS = ("train", "val", "test")
# Frames of the published evaluation: given views by their number, virtual cameras by their number.
SOURCE_FRAMES = {0: (64,), 1: (64,), 2: (64, 104)}
SOURCE_POOL = (80, 104, 198, 64, 1, 33)
VIRTUAL_FRAMES = {
    2: (90, 115),
    3: (90, 104, 120),
    4: (30, 90, 104, 115),
    5: (0, 20, 40, 80, 100),
    6: (0, 15, 30, 45, 75, 90),
}


@dataclass
class SrnObject:
    """Frames of one object: ``rgb`` uint8 [n, H, W, 3], ``occupancy`` uint8 [n, H, W] or None, n ``cameras``."""

    rgb: Tensor
    occupancy: Tensor | None
    cameras: Cameras

    def __len__(self) -> int:
        return len(self.rgb)

    def above_ground(self) -> list[int]:
        """Frames whose camera is above the ground; training uses only those."""
        return torch.nonzero(self.cameras.centers[:, 2] > 0).squeeze(1).tolist()


def object_folders(root: Path | str, category: str, split: str) -> list[Path]:
    """The object folders of a split, sorted. Raises InputError when there are none."""
    if split not in SPLITS:
        raise InputError(f"`split` is {split!r}; use one of {', '.join(SPLITS)}.")
    base = Path(root) / f"srn_{category}" / f"{category}_{split}"
    if "chair" in category and split == "train" and (base / "chairs_2.0_train").is_dir():
        base = base / "chairs_2.0_train"  # how the public archive unpacks
    folders = sorted(p.parent for p in base.glob("*/intrinsics.txt"))
    if not folders:
        raise InputError(
            f"`folder` {base} holds no object with an intrinsics.txt; give the folder above srn_{category}."
        )
    return folders


def read_object(folder: Path | str, frames: list[int] | None = None, occupancy: bool = True) -> SrnObject:
    """Read an object folder (or only some frames, by their place in sorted order).

    Raises InputError when pictures, poses and silhouettes do not match in number, or a file is unusable.
    """
    from PIL import Image

    folder = Path(folder)
    focal, size = read_intrinsics(folder / "intrinsics.txt")
    names = {kind: sorted((folder / kind).glob("*")) for kind in ("rgb", "pose", "opc")}
    if not occupancy:
        names.pop("opc")
    counts = {kind: len(files) for kind, files in names.items()}
    if len(set(counts.values())) != 1 or not counts["rgb"]:
        raise InputError(
            f"`folder` {folder} holds {counts}; every picture needs a pose{' and a silhouette' if occupancy else ''}."
        )
    chosen = range(counts["rgb"]) if frames is None else frames

    def picture(path: Path) -> np.ndarray:
        return np.asarray(Image.open(path))

    rgb = torch.from_numpy(np.stack([picture(names["rgb"][k])[..., :3] for k in chosen]))
    poses = torch.stack([parse_srn_pose(names["pose"][k].read_text(encoding="utf-8")) for k in chosen])
    masks = None
    if occupancy:
        loaded = [picture(names["opc"][k]) for k in chosen]
        masks = torch.from_numpy(np.stack([m if m.ndim == 2 else m[..., 0] for m in loaded]))
    return SrnObject(rgb, masks, cameras_from_srn_pose(poses, size, size, focal))


def read_intrinsics(path: Path) -> tuple[float, int]:
    """Focal length in pixels and image side of an intrinsics.txt. Raises InputError unless the picture is square."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    try:
        focal, height, width = float(lines[0][0]), int(float(lines[-1][0])), int(float(lines[-1][1]))
    except (IndexError, ValueError):
        raise InputError(
            f"`intrinsics` {path} is unreadable; it needs a line `f cx cy 0` and a last line `height width`."
        ) from None
    if height != width:
        raise InputError(f"`intrinsics` {path} says {width}x{height}; SparseGen needs square pictures.")
    return focal, width


def write_object(folder: Path | str, rgb: Tensor, cameras: Cameras, occupancy: Tensor | None = None) -> Path:
    """Write views in the SRN layout: ``rgb`` uint8 [n, S, S, 3], ``occupancy`` uint8 [n, S, S] or None, n cameras.

    The folder must not exist yet; it appears complete or not at all. Raises InputError for other shapes.
    """
    from PIL import Image

    folder = Path(folder)
    side = cameras.width
    if rgb.shape != (len(cameras), side, side, 3) or cameras.height != side:
        raise InputError(
            f"`rgb` is {tuple(rgb.shape)} for {len(cameras)} cameras of {cameras.width}x{cameras.height}; "
            "they must match and be square."
        )
    if folder.exists():
        raise InputError(f"`folder` {folder} exists; name a new one.")
    partial = folder.with_name(folder.name + ".part")
    for kind in ("rgb", "pose") + (("opc",) if occupancy is not None else ()):
        (partial / kind).mkdir(parents=True)
    focal = float(cameras.intrinsics[0, 0, 0])
    half = side / 2
    text = f"{focal:.9g} {half} {half} 0.\n0. 0. 0.\n1.\n{side} {side}\n"
    (partial / "intrinsics.txt").write_text(text, encoding="utf-8")
    for k, pose in enumerate(srn_pose(cameras)):
        Image.fromarray(rgb[k].numpy()).save(partial / "rgb" / f"{k:06d}.png")
        if occupancy is not None:
            Image.fromarray(occupancy[k].numpy()).save(partial / "opc" / f"{k:06d}.png")
        numbers = " ".join(f"{value:.9g}" for value in pose.flatten().tolist())
        (partial / "pose" / f"{k:06d}.txt").write_text(numbers + "\n", encoding="utf-8")
    partial.rename(folder)
    return folder


def resize_pictures(pictures: Tensor, size: int) -> Tensor:
    """Bilinear, antialiased resize of [n, C, S, S] to ``size``."""
    if pictures.shape[-1] == size:
        return pictures
    return F.interpolate(pictures, (size, size), mode="bilinear", align_corners=False, antialias=True)


@dataclass
class TrainingItem:
    """One item as published, clean views first: see ``training_item`` for the shapes and ranges."""

    x_cond: Tensor
    x_in: Tensor
    training_imgs: Tensor
    training_occs: Tensor | None
    pose_embed: Tensor
    target_Rs: Tensor
    target_Ts: Tensor
    world_to_camera: Tensor


def training_item(item: SrnObject, order: list[int], clean: int, config: SparseGenConfig) -> TrainingItem:
    """The published training item of views ``order`` of an object, of which the first ``clean`` are clean.

    ``x_cond`` [Nc, 3, S, S] in [-1, 1], ``x_in`` [Nn, 3, S, S] in [0, 1], ``training_imgs`` [V, 3, S, S] in [-1, 1],
    ``training_occs`` [V, 1, S, S] in [0, 1], ``pose_embed`` [V, 6, S, S], PyTorch3D ``target_Rs`` [V, 3, 3] and
    ``target_Ts`` [V, 3], and the same cameras as OpenCV matrices [V, 4, 4]. S is ``config.input_size``.
    """
    size = config.input_size
    pictures = resize_pictures(item.rgb[order].permute(0, 3, 1, 2).float() / 255, size)
    masks = None
    if item.occupancy is not None:
        masks = resize_pictures(item.occupancy[order][:, None].float() / 255, size)
    cameras = item.cameras[order]
    rotation, translation = pytorch3d_rt(cameras)
    return TrainingItem(
        x_cond=pictures[:clean] * 2 - 1,
        x_in=pictures[clean:],
        training_imgs=pictures * 2 - 1,
        training_occs=masks,
        pose_embed=pose_channels(cameras.world_to_camera, config),
        target_Rs=rotation,
        target_Ts=translation,
        world_to_camera=cameras.world_to_camera,
    )


def evaluation_frames(clean: int, virtual: int) -> tuple[list[int], list[int]]:
    """Given frames and virtual cameras of the published evaluation. Raises InputError for numbers it does not have."""
    sources = SOURCE_FRAMES.get(clean) or SOURCE_POOL[:clean]
    if clean > len(SOURCE_POOL) or virtual not in (0, *VIRTUAL_FRAMES):
        raise InputError(f"`clean` is {clean} and `virtual` is {virtual}; use 0..6 given and 0 or 2..6 virtual views.")
    return list(sources), list(VIRTUAL_FRAMES.get(virtual, ()))


class SrnSource:
    """Training batches from an SRN split; objects in a new order every epoch, frames drawn anew every time."""

    KEEP = 256  # objects held in memory

    def __init__(self, recipe: Recipe, split: str = "train"):
        self.recipe = recipe
        self.folders = object_folders(recipe.data.folder, recipe.data.category, split)
        self.cache: OrderedDict[int, SrnObject] = OrderedDict()

    def load(self, index: int) -> SrnObject:
        if index not in self.cache:
            self.cache[index] = read_object(self.folders[index])
            if len(self.cache) > self.KEEP:
                self.cache.popitem(last=False)
        return self.cache[index]

    def batch(self, step: int, rank: int) -> TrainingViews:
        recipe = self.recipe
        counts = rng(recipe, 1, step)
        clean, noisy = choose(recipe.data.clean, counts), choose(recipe.data.noisy, counts)
        if recipe.data.views <= clean + noisy - 1:
            raise InputError(
                f"`data.views` is {recipe.data.views}; it must be at least the {clean + noisy} views of a step."
            )
        draw = rng(recipe, 2, step, rank)
        items = []
        for index in draw.integers(len(self.folders), size=recipe.batch_size):
            item = self.load(int(index))
            frames = item.above_ground()
            if len(frames) < clean + noisy:
                raise InputError(
                    f"`folder` {self.folders[index]} has {len(frames)} frames above the ground; "
                    f"{clean + noisy} are needed."
                )
            order = draw.permutation(frames)[: clean + noisy].tolist()
            items.append(training_item(item, order, clean, recipe.model))
        masks = [i.training_occs for i in items]
        return TrainingViews(
            torch.stack([i.training_imgs for i in items]),
            None if any(m is None for m in masks) else torch.stack(masks),
            torch.stack([i.world_to_camera for i in items]),
            clean,
            noisy,
        )
