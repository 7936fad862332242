"""Core's own TRELLIS.2 and Pixal3D models: the only file that knows their conditioning."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from ...scene.errors import InputError
from .devices import result
from .progress import Progress, stop_if_interrupted

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
