"""What a node shows and saves."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import folder_paths
import torch
from torch import Tensor

from ...scene.animations import encode_webp
from ...scene.errors import InputError
from ...scene.files import Outputs
from .base import PREVIEW_FRAMES, PREVIEW_SIZE, io, ui


def show_animation(frames: Tensor, fps: float) -> dict:
    """UI of a node that plays frames [F, H, W, 3] in [0, 1] in a loop, in a file in the host's temporary folder.

    Of long turns it shows every second frame, or fewer, and of large pictures a smaller copy: it is only a preview.
    """
    step = -(-len(frames) // PREVIEW_FRAMES)
    shown = frames[::step].permute(0, 3, 1, 2)
    shrink = PREVIEW_SIZE / max(shown.shape[2:])
    if shrink < 1:
        shown = torch.nn.functional.interpolate(shown, scale_factor=shrink, mode="area")
    name = f"sightline_{uuid.uuid4().hex}.webp"
    save(Path(folder_paths.get_temp_directory()), name, encode_webp(shown, max(fps / step, 1)))
    return {"images": [ui.SavedResult(name, "", io.FolderType.temp)], "animated": (len(frames) > 1,)}


def show_images(images: Tensor) -> Any:
    """UI of a node that shows pictures [B, H, W, 3]."""
    return ui.PreviewImage(images)


def show_text(text: str) -> dict:
    """UI of a node that shows a text."""
    return ui.PreviewText(text).as_dict()


def tell(text: str) -> None:
    """Write a line on the running node."""
    from comfy_execution.utils import get_executing_context
    from server import PromptServer

    server, running = getattr(PromptServer, "instance", None), get_executing_context()
    if server is not None and running is not None:
        server.send_progress_text(text, running.node_id)


def check_prefix(prefix: str) -> None:
    """Raise InputError unless `prefix` names a place inside the host's output folder."""
    _save_place(prefix)


def _save_place(prefix: str) -> tuple[Path, str]:
    root = Path(folder_paths.get_output_directory())
    name = os.path.basename(os.path.normpath(prefix)) if prefix.strip() else ""
    folder = root / os.path.dirname(os.path.normpath(prefix))
    if not name or name in (os.curdir, os.pardir) or "\0" in prefix:
        raise InputError(f"`filename_prefix` is {prefix!r}; give a file name, with a folder before it if you like.")
    if not folder_paths.is_within_directory(str(root), str(folder)):
        hint = "leave out '..' and leading slashes"
        raise InputError(f"`filename_prefix` {prefix!r} is outside the output folder; {hint}.")
    return folder, name


def save_output(prefix: str, suffix: str, data: bytes) -> tuple[Path, Any]:
    """Write `data` under the host's next free number of `prefix` in the output folder; the path and its UI entry."""
    check_prefix(prefix)
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    file = f"{name}_{counter:05}_{suffix}"
    save(Path(folder), file, data)
    return Path(folder) / file, ui.SavedResult(file, subfolder, io.FolderType.output)


def save(folder: Path, name: str, data: bytes) -> None:
    """Write a whole file in one of the host's folders, or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with Outputs(roots=[folder]) as outputs:
        outputs.file(str(folder / name)).write(data)
