"""Loading SAM 3D Objects: Lightning checkpoints (`.ckpt`) or `.safetensors` beside the published `.yaml` files."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ..trellis1.config import LatentDecoderConfig, LatentFlowConfig
from ..trellis1.dinov2 import DinoEncoder, DinoV2Config
from ..trellis1.gaussians import GaussianDecoder
from ..trellis1.mesh import MeshDecoder
from ..trellis1.slat_flow import LatentFlow
from ..trellis2.checkpoint import assign_weights
from ..trellis2.config import StructureVaeConfig, parse_dtype
from ..trellis2.safetensors_file import SafetensorsFile
from ..trellis2.sparse_structure_vae import SparseStructureDecoder
from .fuser import IMAGES, MASKS, POINTS, EmbedderFuser
from .mot_flow import MotFlow, MotFlowConfig
from .point_patch import PointPatchEmbed
from .sizes import EMBEDDER, GENERATOR, gaussian_reach, parts_in, sizes

FLOW_ARGS = dict(
    model_channels=1024, cond_channels=1024, num_blocks=24, num_heads=16, mlp_ratio=4, in_channels=8, out_channels=8
)
STRUCTURE_ARGS = dict(FLOW_ARGS, resolution=16, qk_rms_norm=True, is_shortcut_model=True)
LATENT_ARGS = dict(
    FLOW_ARGS,
    resolution=64,
    patch_size=2,
    num_io_res_blocks=2,
    io_block_channels=[128],
    qk_rms_norm=True,
    use_fp16=True,
)
STRUCTURE_DECODER_ARGS = dict(
    out_channels=1, latent_channels=8, num_res_blocks=2, num_res_blocks_middle=2, channels=[512, 128, 32]
)
DECODER_ARGS = dict(
    resolution=64, model_channels=768, latent_channels=8, num_blocks=12, num_heads=12, mlp_ratio=4, attn_mode="swin",
    window_size=8, use_fp16=True,
)  # fmt: skip
GAUSSIANS = {
    "lr": {"_xyz": 1.0, "_features_dc": 1.0, "_opacity": 1.0, "_scaling": 1.0, "_rotation": 0.1},
    "perturb_offset": True, "voxel_size": 1.5, "num_gaussians": 32, "2d_filter_kernel_size": 0.1,
    "3d_filter_kernel_size": 0.0009, "scaling_bias": 0.004, "opacity_bias": 0.1, "scaling_activation": "softplus",
}  # fmt: skip


VIT_LARGE = DinoV2Config()


def structure_embedder(dino: DinoV2Config = VIT_LARGE, points: PointPatchEmbed | None = None) -> EmbedderFuser:
    """The condition of the structure stage: picture, mask and point map."""
    encoders = [(DinoEncoder(dino), IMAGES), (DinoEncoder(dino), MASKS), (points or PointPatchEmbed(), POINTS)]
    return EmbedderFuser(encoders)


def latent_embedder(dino: DinoV2Config = VIT_LARGE) -> EmbedderFuser:
    """The condition of the latent stage: picture and mask, tokens before the last norm."""
    return EmbedderFuser([(DinoEncoder(dino, prenorm=True), IMAGES), (DinoEncoder(dino, prenorm=True), MASKS)])


def gaussian_decoder(args: Mapping[str, Any], count: int) -> GaussianDecoder:
    """count: Gaussians of a voxel where `args` do not say."""
    rep = {**GAUSSIANS, "num_gaussians": count, **dict(args.get("representation_config") or {})}
    return GaussianDecoder(LatentDecoderConfig.from_args({**DECODER_ARGS, **args, "representation_config": rep}))


# Part -> (how it is built from arguments, prefix of its keys in the file)
PARTS: dict[str, tuple[Callable[[Mapping[str, Any]], nn.Module], str]] = {
    "ss_generator": (lambda a: MotFlow(MotFlowConfig.from_args({**STRUCTURE_ARGS, **a})), GENERATOR),
    "ss_condition_embedder": (
        lambda a: structure_embedder(DinoV2Config(**a.get("dino", {})), PointPatchEmbed(**a.get("points", {}))),
        EMBEDDER,
    ),
    "slat_generator": (lambda a: LatentFlow(LatentFlowConfig.from_args({**LATENT_ARGS, **a})), GENERATOR),
    "slat_condition_embedder": (lambda a: latent_embedder(DinoV2Config(**a.get("dino", {}))), EMBEDDER),
    "ss_decoder": (
        lambda a: SparseStructureDecoder(StructureVaeConfig.from_args({**STRUCTURE_DECODER_ARGS, **a})),
        "",
    ),
    "slat_decoder_gs": (lambda a: gaussian_decoder(a, 32), ""),
    "slat_decoder_gs_4": (lambda a: gaussian_decoder(a, 4), ""),
    "slat_decoder_mesh": (
        lambda a: MeshDecoder(
            LatentDecoderConfig.from_args({**DECODER_ARGS, "representation_config": {"use_color": True}, **a})
        ),
        "",
    ),
}


def build_part(part: str, args: Mapping[str, Any] | None = None, dtype: torch.dtype | str | None = None) -> nn.Module:
    """An uninitialized network on the meta device, with the published arguments where `args` gives no others."""
    if part not in PARTS:
        raise InputError(f"SAM 3D has no part {part!r}; known are {', '.join(PARTS)}.")
    args = dict(args or {})
    if dtype is not None:
        args.update(dtype=parse_dtype(dtype), use_fp16=False)
    with torch.device("meta"):
        return PARTS[part][0](args)


def read_weights(path: str | Path) -> Mapping[str, Tensor]:
    """Tensors by name from a `.safetensors` file or a checkpoint (plain, or with a `state_dict`), mapped, not copied.

    Nothing is executed. Raises InputError for a file that holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no {path}; give the published checkpoint.")
    if path.suffix == ".safetensors":
        return SafetensorsFile(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{path} is no file of plain tensors ({str(error).splitlines()[0][:120]}).") from None
    found = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise InputError(f"{path} is no table of tensors; give a published checkpoint.")
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def shapes_of(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Shape of every tensor whose name begins so, the beginning taken off; nothing is read of a mapped file."""
    read = weights.shape if isinstance(weights, SafetensorsFile) else lambda name: weights[name].shape
    return {name.removeprefix(prefix): tuple(read(name)) for name in weights if name.startswith(prefix)}


def parts_of(path: str | Path) -> list[str]:
    """The parts of SAM 3D that a file holds, whatever it is called."""
    weights = read_weights(path)
    return parts_in(weights, shapes_of(weights))


def load_part(
    part: str,
    path: str | Path,
    args: Mapping[str, Any] | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str | None = None,
) -> nn.Module:
    """One network from its checkpoint, other parts of the same file passed over.

    Its size follows from the tensors, whatever `args` say; these give the rest (dtype, resolution, activations), the
    published values stand in for what is in neither. Raises InputError naming every missing, foreign and misshapen key.
    """
    weights = read_weights(path)
    if part not in PARTS:
        raise InputError(f"SAM 3D has no part {part!r}; known are {', '.join(PARTS)}.")
    prefix = PARTS[part][1]
    chosen = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
    try:
        found = sizes(part, shapes_of(weights, prefix))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    given = dict(args or {})
    args = {**given, **found}
    if "representation_config" in found:
        rep = {**dict(given.get("representation_config") or {}), **found["representation_config"]}
        reach = gaussian_reach(chosen["offset_perturbation"]) if "offset_perturbation" in chosen else None
        args["representation_config"] = rep if reach is None else {**rep, "voxel_size": reach}
    return assign_weights(build_part(part, args, dtype), chosen, str(path), device=device)


def published_names(part: str, model: nn.Module) -> dict[str, Tensor]:
    """The network's tensors under the names of the published file."""
    return {PARTS[part][1] + name: value for name, value in model.state_dict().items()}
