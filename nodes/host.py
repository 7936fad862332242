"""The one file that knows ComfyUI: its types, devices, model folders, progress, previews and errors.

What the host has is looked for (`has_splat`), never concluded from its version. Nothing here computes.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
ROOM = 3 << 30  # bytes; the host begins to unload models before its memory is full
SPARSEGEN_FOLDER = "sparsegen"
TRELLIS2_FOLDER = "trellis2"
ENCODER_FOLDER = "clip_vision"  # core's
WEIGHT_SUFFIXES = {".safetensors", ".pth"}

SparseGenModel = io.Custom("SIGHTLINE_SPARSEGEN")
Views = io.Custom("SIGHTLINE_VIEWS")
CamerasType = io.Custom("SIGHTLINE_CAMERAS")
Trellis2Models = io.Custom("SIGHTLINE_TRELLIS2")
PictureConditionType = io.Custom("SIGHTLINE_CONDITION")


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


def has_room(device: torch.device, needed: int) -> bool:
    """Whether `needed` more bytes fit beside everything that is loaded, with much to spare."""
    return comfy.model_management.get_free_memory(device) > 2 * needed + ROOM


def result(tensor: Tensor) -> Tensor:
    """A tensor as the host passes it between nodes."""
    return tensor.to(comfy.model_management.intermediate_device(), torch.float32)


# ---- model folders --------------------------------------------------------------------------------------------------


def register_folders() -> None:
    """Add models/sparsegen and models/trellis2 to the host's model folders (extra_model_paths.yaml may name more)."""
    for name, wanted in ((SPARSEGEN_FOLDER, WEIGHT_SUFFIXES), (TRELLIS2_FOLDER, {".json"})):
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        paths, suffixes = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, set(suffixes) | wanted)


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


# ---- core's own TRELLIS.2 and Pixal3D models ------------------------------------------------------------------------

# All names that core's nodes and models use in conditioning and latents; no other file of ours knows one.
_MODE = "trellis2_generation_mode"
_COORDS = "trellis2_coords"
_FEATURES = "trellis2_proj_feats"
_EMBEDS = "embeds"
_PACK = "proj_feat_pack"
_MODES = {
    "structure_generation": "ss",
    "shape_generation_512": "shape_512",
    "shape_generation": "shape_1024",
    "texture_generation": "tex_1024",
}
_MAPS = {"ss": 512, "shape_512": 512, "shape_1024": 1024, "tex_1024": 1024}  # stage -> which picture its features see
_OURS = "sightline_pictures"  # ours: encoded pictures travel along, so that a later stage need not encode them again


def has_native_trellis2() -> bool:
    """Whether this host has TRELLIS.2 and Pixal3D models of its own (ComfyUI 0.33 and newer)."""
    return importlib.util.find_spec("comfy.ldm.trellis2") is not None


class Steps(Progress):
    """Progress of a known number of units, one after the other."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.total, self.done = total, 0

    def advance(self) -> None:
        """One unit more is done or under way."""
        self.done = min(self.done + 1, self.total)
        self(self.done, self.total)


class CoreDinoV3:
    """Core's DINOv3 of a CLIP_VISION with the interface of `models.trellis2.dinov3.DinoV3`."""

    def __init__(self, clip_vision: Any) -> None:
        kind = getattr(clip_vision, "model_type", type(clip_vision).__name__)
        if kind != "dinov3":
            raise InputError(f"`clip_vision` is a {kind}; load DINOv3 (dino_v3_L_naf_fp32.safetensors) instead.")
        self.clip_vision = clip_vision
        self.patch_size = int(clip_vision.config["patch_size"])
        self.prefix_tokens = 1 + int(clip_vision.config["num_register_tokens"])
        self.device = clip_vision.patcher.load_device

    def __call__(self, images: Tensor) -> Tensor:
        """images [B, 3, S, S] in [0, 1] -> all tokens after a layer norm without weights."""
        stop_if_interrupted()
        mean, std = (
            images.new_tensor(values).view(1, 3, 1, 1)
            for values in (self.clip_vision.image_mean, self.clip_vision.image_std)
        )
        return self.clip_vision.model((images - mean) / std, skip_norm_elementwise=True)[0]


@contextmanager
def lend_core(encoder: CoreDinoV3) -> Iterator[CoreDinoV3]:
    """Core's encoder, on its device."""
    comfy.model_management.load_model_gpu(encoder.clip_vision.patcher)
    yield encoder


def core_naf(clip_vision: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights (float32 copies) and options of the NAF inside a CLIP_VISION; InputError where it has none."""
    patcher = getattr(clip_vision, "naf", None)
    if patcher is None:
        raise InputError("`clip_vision` holds DINOv3 without NAF; load dino_v3_L_naf_fp32.safetensors, which has both.")
    image, upsampler = patcher.model.image_encoder, patcher.model.upsampler
    weights = {k: v.detach().to("cpu", torch.float32, copy=True) for k, v in patcher.model.state_dict().items()}
    return weights, {
        "dim": 2 * weights["image_encoder.encoder.0.weight"].shape[0],
        "heads_attn": upsampler.num_heads,
        "heads_rope": image.rope.num_heads,
        "kernel_size": upsampler.kernel_size[0],
        "img_layers": len(image.encoder) - 1,
        "rope_base": image.rope.base,
    }


@dataclass(frozen=True, eq=False)
class NativeConditioning:
    """Core's conditioning after one of its stage nodes, as far as projection is concerned.

    mode: core's name of the stage; coords: [N, 4] rows (item, x, y, z), None for the structure; grid: voxels per axis.
    """

    positive: list | None
    negative: list | None
    mode: str
    coords: Tensor | None
    grid: int | None

    @classmethod
    def read(cls, positive: list | None, negative: list | None, latent: dict | None) -> NativeConditioning:
        """Raises InputError for what does not belong together or to a Pixal3D model."""
        if not has_native_trellis2():
            raise InputError("This ComfyUI has no Pixal3D models of its own; update it to 0.33 or newer.")
        if (positive is None) != (negative is None):
            raise InputError("Connect `positive` and `negative` of the same stage node, or neither.")
        if positive is None:
            if latent is not None and "coords" in latent:
                raise InputError("`latent` is of a later stage; connect its `positive` and `negative` too.")
            return cls(None, None, "structure_generation", None, None)
        for name, conditioning in (("positive", positive), ("negative", negative)):
            if len(conditioning) != 1:
                raise InputError(f"`{name}` has {len(conditioning)} entries; connect a stage node directly.")
            if _PACK not in conditioning[0][1]:
                raise InputError(
                    f"`{name}` is not a Pixal3D conditioning; begin with this node (its `positive` left open) or with "
                    "core's Pixal3D conditioning."
                )
        values = positive[0][1]
        mode, coords = values.get(_MODE, "structure_generation"), values.get(_COORDS)
        if mode not in _MODES:
            raise InputError(f"`positive` is of the stage {mode!r}, which is not known; {', '.join(_MODES)} are.")
        if mode == "structure_generation":
            return cls(positive, negative, mode, None, None)
        if latent is None or "coord_resolution" not in latent:
            raise InputError("`latent` is missing or has no voxel grid; connect the latent of the same stage node.")
        if coords is None or latent["coords"].shape != coords.shape or not bool((latent["coords"] == coords).all()):
            raise InputError("`latent` has other voxels than `positive`; connect both to the same stage node.")
        return cls(positive, negative, mode, coords, int(latent["coord_resolution"]))

    @property
    def is_new(self) -> bool:
        """Whether there is no conditioning yet."""
        return self.positive is None

    def stage(self, stages: Mapping[str, Any]) -> Any:
        """The entry of `stages` (by our names) with this latent's grid."""
        stage = stages[_MODES[self.mode]]
        return stage if self.grid is None else replace(stage, grid_resolution=self.grid)

    def pictures_of(self, source: tuple) -> Any:
        """What an earlier conditioner encoded of the very same inputs, or None."""
        known = None if self.is_new else self.positive[0][1].get(_OURS)
        return known[1] if known and all(a is b for a, b in zip(known[0], source)) else None

    def check_items(self, items: int) -> None:
        """Raise InputError unless the conditioning is for as many objects as there are pictures of."""
        if not self.is_new and len(self.positive[0][0]) != items:
            found = len(self.positive[0][0])
            objects = f"{found} object" + ("s" if found != 1 else "")
            raise InputError(f"`positive` is for {objects} and there are pictures of {items}; connect the same.")

    def write(
        self,
        features: Tensor,
        tokens: Sequence[Tensor],
        maps: Sequence[Tensor] | None,
        fovs: Sequence[float],
        mesh_scale: float,
        source: tuple,
        pictures: Any,
    ) -> tuple[list, list]:
        """Copies of both conditionings with our features and tokens.

        features: [N, C] or [items, R^3, C]; tokens: [items, M, D] of the small and the large picture; maps: their
        patch features [items, D, h, w], for a new conditioning; fovs: degrees, one per item.
        """
        tokens = [result(one) for one in tokens]
        extras = {_EMBEDS: tokens[1], _FEATURES: result(features), _OURS: (source, pictures)}
        if self.is_new:
            extras[_PACK] = _light_pack([result(one) for one in maps], fovs, mesh_scale)
        old = {} if self.is_new else self.positive[0][1], {} if self.is_new else self.negative[0][1]
        positive = [[tokens[0], {**old[0], **extras}]]
        zeros = {_EMBEDS: torch.zeros_like(tokens[1])}
        return positive, [[torch.zeros_like(tokens[0]), {**old[1], **extras, **zeros}]]


def _light_pack(maps: Sequence[Tensor], fovs: Sequence[float], mesh_scale: float) -> dict:
    """What core's stage nodes look for to know a Pixal3D model; without the raised maps, which ours replace."""
    from comfy.ldm.trellis2.model import build_proj_transform_matrix

    device, items = maps[0].device, len(fovs)
    angle = torch.tensor(fovs, device=device).deg2rad()
    distance = 0.5 / (mesh_scale * torch.tan(angle / 2))
    low, high = ({"feature_map": one, "feature_map_hr": None} for one in maps)
    stages = {name: {**(low if size == 512 else high), "image_resolution": size} for name, size in _MAPS.items()}
    return {
        "stages": stages,
        "transform_matrix": build_proj_transform_matrix(distance, items, device=device),
        "camera_angle_x": angle,
        "mesh_scale": torch.full((items,), mesh_scale, device=device),
        "distance": distance,
        "patch_size": 512 // maps[0].shape[-1],
    }


# ---- our own TRELLIS.2 and Pixal3D models in core's formats ---------------------------------------------------------

STRUCTURE_CHANNELS = 32  # core's structure latents are padded to the width of the others


def pipeline_files(folder: str) -> list[str]:
    """The names of the published pipeline configurations (`pipeline*.json`) in a model folder and below."""
    names = [name.replace(os.sep, "/") for name in weight_files(folder)]
    return [name for name in names if name.split("/")[-1].startswith("pipeline")]


def folders(folder: str) -> list[Path]:
    """Where the files of a model folder lie."""
    return [Path(path) for path in folder_paths.get_folder_paths(folder)]


def model_roots() -> list[Path]:
    """Folders below which models of any kind lie."""
    return [Path(folder_paths.models_dir), *folders(TRELLIS2_FOLDER), *folders(ENCODER_FOLDER)]


def dense_voxels(grid: Tensor) -> Any:
    """Occupancy [B, R, R, R] as the core's VOXEL."""
    return Types.VOXEL(result(grid))


def structure_latent(samples: Tensor) -> dict:
    """A structure latent [B, C, R, R, R] as core's LATENT."""
    room = max(STRUCTURE_CHANNELS - samples.shape[1], 0)
    return {"samples": torch.nn.functional.pad(samples, (0, 0, 0, 0, 0, 0, 0, room)), "type": "trellis2"}


def occupied(voxel: Any) -> list[tuple[Tensor, int]]:
    """Voxels [N, 3] and voxels per axis of every item of a dense VOXEL; InputError for others and for empty ones."""
    grid = voxel.data
    if grid.ndim != 4 or len(set(grid.shape[1:])) != 1:
        raise InputError(f"`voxel` has shape {list(grid.shape)}; the voxels of a structure, [B, R, R, R], are needed.")
    items = [torch.argwhere(one > 0.5).to(torch.int32) for one in grid]
    if not all(map(len, items)):
        raise InputError("`voxel` has an empty item; another seed of the structure may help.")
    return [(one, int(grid.shape[-1])) for one in items]


def sparse_latent(items: Sequence[tuple[Tensor, Tensor]], grid: int, frame: str) -> dict:
    """Normalized features [N, C] on voxels [N, 3] of every object as core's LATENT: padded [B, C, max N, 1]."""
    counts = [len(coords) for _, coords in items]
    samples = torch.zeros(len(items), items[0][0].shape[1], max(counts), 1)
    rows = []
    for i, (feats, coords) in enumerate(items):
        samples[i, :, : len(feats), 0] = feats.detach().cpu().T
        rows.append(torch.nn.functional.pad(coords.cpu().to(torch.int32), (1, 0), value=i))
    return {
        "samples": result(samples),
        "coords": torch.cat(rows),
        "coord_counts": torch.tensor(counts),
        "coord_resolution": grid,
        "type": "trellis2",
        "model_frame": frame,
    }


def read_sparse_latent(latent: dict, name: str) -> tuple[list[tuple[Tensor, Tensor]], int, str]:
    """Features [N, C] and voxels [N, 3] of every object, voxels per axis, and which way is up, of core's LATENT."""
    samples, coords = latent["samples"], latent.get("coords")
    if coords is None or "coord_resolution" not in latent or samples.ndim != 4 or coords.ndim != 2:
        raise InputError(f"`{name}` is no latent on voxels; connect the Shape Sampler or core's sampler of that stage.")
    items = []
    for i in range(samples.shape[0]):
        one = coords[coords[:, 0] == i, 1:]
        if not 0 < len(one) <= samples.shape[2]:
            raise InputError(f"`{name}` has {len(one)} voxels for object {i} and room for {samples.shape[2]}.")
        items.append((samples[i, :, : len(one), 0].T.to(torch.float32), one))
    return items, int(latent["coord_resolution"]), latent.get("model_frame", "y_up")


def mesh_and_voxels(meshes: Sequence[Any], frame: str) -> tuple[Any, Any]:
    """`TexturedMesh`es of latents whose up is `frame` as the core's MESH and sparse VOXEL, both Y up."""
    if "resolution" not in inspect.signature(Types.VOXEL).parameters:
        raise InputError("This ComfyUI has no voxels with colors; update it to 0.33 or newer.")
    vertices, faces, coords, colors = [], [], [], []
    for i, one in enumerate(meshes):
        points, cells = one.vertices.cpu().float(), one.coords.cpu()
        if frame == "z_up":
            points = torch.stack([points[:, 0], points[:, 2], -points[:, 1]], dim=1)
            cells = torch.stack([cells[:, 0], cells[:, 2], one.resolution - 1 - cells[:, 1]], dim=1)
        vertices.append(points)
        faces.append(one.faces.cpu().to(torch.int32))
        coords.append(torch.nn.functional.pad(cells, (1, 0), value=i))
        colors.append(one.attributes.cpu().float().clamp(0, 1))
    counts = [torch.tensor([len(one) for one in parts]) for parts in (vertices, faces)]
    pad = torch.nn.utils.rnn.pad_sequence
    ragged = {} if len(meshes) == 1 else {"vertex_counts": counts[0], "face_counts": counts[1]}
    mesh = Types.MESH(pad(vertices, batch_first=True), pad(faces, batch_first=True), **ragged)
    return mesh, Types.VOXEL(torch.cat(coords), torch.cat(colors), meshes[0].resolution)
