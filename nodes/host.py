"""The one file that knows ComfyUI: its types, devices, model folders, progress, previews and errors.

What the host has is looked for (`has_splat`), never concluded from its version. Nothing here computes.
"""

from __future__ import annotations

import functools
import logging
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import folder_paths
import torch
from comfy_api.v0_0_2 import ComfyExtension, Types, io, ui  # noqa: F401  (for the nodes)
from torch import Tensor

from ..scene.animations import encode_webp
from ..scene.cameras import Cameras
from ..scene.errors import InputError, MissingDependency
from ..scene.files import Outputs
from ..scene.frames import turn_cameras
from ..scene.images import to_pillow
from ..scene.splats import Splats

log = logging.getLogger("sightline")

if not (hasattr(io, "Splat") and hasattr(Types, "SPLAT") and hasattr(io, "Autogrow")):
    raise ImportError("Sightline needs ComfyUI 0.30 or newer: this one has no SPLAT type; update ComfyUI.")

CATEGORY = "Sightline"
PREVIEW_SIZE, PREVIEW_FRAMES = 512, 72  # what nodes show of their own results is no larger or longer
CAMERA_SIZE = 128  # pixels; cameras without a picture carry a size, which whoever draws replaces
SPARSEGEN_FOLDER = "sparsegen"
WEIGHT_SUFFIXES = {".safetensors", ".pth"}

SparseGenModel = io.Custom("SIGHTLINE_SPARSEGEN")
Views = io.Custom("SIGHTLINE_VIEWS")
CamerasType = io.Custom("SIGHTLINE_CAMERAS")


# ---- errors ---------------------------------------------------------------------------------------------------------


def one_sentence(execute: Callable) -> Callable:
    """Let `execute` end with the bare sentence of what a user gave wrong; our own mistakes keep their traceback.

    The host shows the text of the exception and writes its traceback to the log; the frames below this one are
    dropped, since a reader of "`mask` is empty" needs none of them.
    """

    @functools.wraps(execute)
    def wrapped(*args, **kwargs):
        try:
            return execute(*args, **kwargs)
        except InputError as error:
            plain = ValueError(" ".join(str(error).split()))  # the host also shows the type: a plain one reads best
        except MissingDependency as error:
            plain = ImportError(" ".join(str(error).split()))
        except torch.cuda.OutOfMemoryError:
            raise  # the host recognizes it, frees memory and says what to do
        except OSError as error:
            if error.filename is None:
                raise
            plain = OSError(f"{error.filename}: {error.strerror}.")
        raise plain from None

    return wrapped


def answer(check: Callable[[], Any]) -> bool | str:
    """What `validate_inputs` returns: True, or the sentence of the InputError that `check` raises."""
    try:
        check()
    except InputError as error:
        return " ".join(str(error).split())
    return True


def about() -> dict:
    """This host for the self check: found, path, version, origin."""
    from comfyui_version import __version__

    path = str(Path(folder_paths.__file__).parent)
    return {"found": True, "path": path, "version": __version__, "origin": "the one that runs this"}


def new_every_time() -> str:
    """A fingerprint that never repeats: for nodes that look at the machine."""
    return uuid.uuid4().hex


# ---- progress and interruption --------------------------------------------------------------------------------------


class Progress:
    """A library callback(done, total) that moves the node's progress bar and stops when the user interrupts.

    The host's interruption is an exception which passes through the library; nothing is written then.
    """

    def __init__(self, total: int = 1) -> None:
        self.bar = comfy.utils.ProgressBar(total)
        self.shown = None

    def __call__(self, done: int, total: int) -> None:
        stop_if_interrupted()
        self.bar.update_absolute(done, total, self.shown)

    def preview(self, pictures: Tensor) -> None:
        """Show pictures [V, 3, H, W] in [0, 1] side by side on the node, with the next progress."""
        self.shown = ("JPEG", to_pillow(torch.cat(list(pictures), dim=2)), PREVIEW_SIZE)


def stop_if_interrupted() -> None:
    """Raise the host's interruption if the user asked for it."""
    comfy.model_management.throw_exception_if_processing_interrupted()


# ---- devices and models ---------------------------------------------------------------------------------------------


class _Hosted(torch.nn.Module):
    """A room around a network for the attributes (device, loaded memory) that the host writes on its models."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network under the host's memory management: on the device while it works, offloaded when others need room."""

    patcher: Any
    info: Any

    @classmethod
    def wrap(cls, network: torch.nn.Module, info: Any) -> LoadedModel:
        """Hand a network (on the CPU, eval mode) over to the host."""
        patcher = comfy.model_patcher.CoreModelPatcher(
            _Hosted(network),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
        return cls(patcher, info)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.patcher.load_device

    def on_device(self, memory: int = 0) -> torch.nn.Module:
        """The network on its device, after the host made room for it and for `memory` bytes of work."""
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)
        return self.patcher.model.network


def render_device() -> torch.device:
    """Where pictures are drawn."""
    return comfy.model_management.get_torch_device()


def result(tensor: Tensor) -> Tensor:
    """A tensor as the host passes it between nodes."""
    return tensor.to(comfy.model_management.intermediate_device(), torch.float32)


# ---- model folders --------------------------------------------------------------------------------------------------


def register_folders() -> None:
    """Add models/sparsegen to the host's model folders (users may name more in extra_model_paths.yaml)."""
    place = os.path.join(folder_paths.models_dir, SPARSEGEN_FOLDER)
    folder_paths.add_model_folder_path(SPARSEGEN_FOLDER, place)
    paths, suffixes = folder_paths.folder_names_and_paths[SPARSEGEN_FOLDER]
    folder_paths.folder_names_and_paths[SPARSEGEN_FOLDER] = (paths, set(suffixes) | WEIGHT_SUFFIXES)


def weight_files(folder: str) -> list[str]:
    """The names of the weights in a model folder."""
    return folder_paths.get_filename_list(folder)


def weight_path(folder: str, name: str) -> Path:
    """The path of a weights file the user chose; InputError where it is not (or no longer) there."""
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        places = " or ".join(folder_paths.get_folder_paths(folder))
        raise InputError(f"The weights {name!r} are not in {places}; put the file there or choose another.")
    return Path(path)


def file_state(path: Path) -> str:
    """What changes when a file changes."""
    stat = path.stat()
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"


# ---- core types <-> ours --------------------------------------------------------------------------------------------


def pictures(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, C] -> [B, C, H, W] float32 on the CPU; a view, never the host's own tensor changed."""
    if image.ndim != 4:
        raise InputError(f"An image has shape {list(image.shape)}; IMAGE is [batch, height, width, channels].")
    return image.to("cpu", torch.float32).permute(0, 3, 1, 2)


def masks(mask: Tensor) -> Tensor:
    """MASK [H, W] or [B, H, W] -> [B, H, W] float32 on the CPU."""
    mask = mask.to("cpu", torch.float32)
    return mask.reshape(-1, *mask.shape[-2:])


def splat(splats: Splats) -> Any:
    """Our splats (Z up, front at azimuth 0) as the core's SPLAT (3D Gaussian Splatting's frame, front to us)."""
    turned = splats.turned("z_up", "y_down_front")
    fields = (turned.means, turned.scales, turned.quats, turned.opacities[:, None], turned.sh)
    return Types.SPLAT(*(result(field)[None] for field in fields))


def splats(splat: Any) -> list[Splats]:
    """The items of a core SPLAT as our splats (Z up, front at azimuth 0), float32, where they lie."""
    items = []
    for i in range(splat.positions.shape[0]):
        count = int(splat.counts[i]) if splat.counts is not None else splat.positions.shape[1]
        fields = (splat.positions, splat.scales, splat.rotations, splat.opacities, splat.sh)
        means, scales, quats, opacities, sh = (field[i, :count].to(torch.float32) for field in fields)
        if not count:
            raise InputError("`splat` holds no Gaussians; connect a splat that has some.")
        item = Splats(means, scales, quats, opacities.reshape(-1), sh).turned("y_down_front", "z_up")
        items.append(item.check_finite())
    return items


def front_cameras(cameras: Cameras) -> Cameras:
    """Cameras of the host's 3D views, read as Y up (`cameras_from_load3d`), with its front at azimuth 0."""
    return turn_cameras(turn_cameras(cameras, "z_up", "y_up"), "y_up_front", "z_up")


# ---- what a node shows and saves ------------------------------------------------------------------------------------


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
