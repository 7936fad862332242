"""Latents of one object between sampling and decoding, and what they decode to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.dual_grid import grid_to_mesh
from ...kernels.sparse_resample import Subdivision
from ...scene.errors import InputError
from ...scene.files import writing
from ...scene.sparse import SparseTensor, check_coords
from . import memory as planning
from .cascade import Cascade
from .safetensors_file import SafetensorsFile
from .sc_vae import Decoded, Guide, shape_head, texture_head
from .streaming import stream_decode


@dataclass(frozen=True)
class Latents:
    """What the sampling stages made.

    structure: occupied voxels [N, 4] int32 of the first token grid; low: denormalized shape latent of the low stage
    (None without one); shape, texture: denormalized latents on the same voxels of the grid of the last stage;
    resolution: of the mesh grid they decode to.
    """

    structure: Tensor
    low: SparseTensor | None
    shape: SparseTensor
    texture: SparseTensor
    resolution: int


FORMAT = "sightline-trellis2-latents"


def save_latents(
    latents: Latents,
    path: str | os.PathLike,
    *,
    overwrite: bool = False,
    roots: Iterable[str | os.PathLike] | None = None,
    model_frame: str = "",
) -> None:
    """Writes latents to a safetensors file, whole or not at all; errors as `scene.files.writing`.

    model_frame: "z_up" (TRELLIS.2) or "y_up" (Pixal3D), kept for `read_frame`: their latents look alike.
    """
    from safetensors.torch import save_file

    tensors = {"structure": latents.structure}
    for name in ("low", "shape", "texture"):
        if (latent := getattr(latents, name)) is not None:
            tensors[f"{name}.coords"], tensors[f"{name}.feats"] = latent.coords, latent.feats
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with writing(path, overwrite, roots) as temporary:
        save_file(
            tensors, temporary, {"format": FORMAT, "resolution": str(latents.resolution), "model_frame": model_frame}
        )


def read_frame(path: str | os.PathLike) -> str:
    """The `model_frame` saved latents were written with, empty where they do not say."""
    return SafetensorsFile(os.fspath(path)).metadata.get("model_frame", "")


def load_latents(path: str | os.PathLike, device: torch.device | str = "cpu") -> Latents:
    """Reads what `save_latents` wrote; raises InputError for any other file and for unusable voxels."""
    file = SafetensorsFile(os.fspath(path))
    needed = {"structure", "shape.coords", "shape.feats", "texture.coords", "texture.feats"}
    resolution = file.metadata.get("resolution", "")
    if file.metadata.get("format") != FORMAT or not needed <= set(file) or not resolution.isdecimal():
        raise InputError(f"{path} holds no saved latents; choose a file that was saved as such.")

    def read(name: str) -> Tensor:
        return file[name].to(device, copy=True)

    def latent(name: str) -> SparseTensor | None:
        if f"{name}.coords" not in file:
            return None
        voxels = SparseTensor(read(f"{name}.feats"), read(f"{name}.coords"))
        check_coords(voxels.coords, 1, name=f"{name} in {path}")
        return voxels

    return Latents(read("structure"), latent("low"), latent("shape"), latent("texture"), int(resolution))


@dataclass(frozen=True)
class TexturedMesh:
    """A raw mesh and the PBR voxels around it, both in the frame of the latents, inside [-0.5, 0.5]^3.

    vertices: [V, 3] float32, one per voxel, unreferenced ones included; faces: [F, 3] int32; coords: [V, 3] int32
    voxels of a grid of `resolution`; attributes: [V, 6] float32 base color, metallic, roughness, alpha, nominally in
    [0, 1] but not clamped.
    """

    vertices: Tensor
    faces: Tensor
    coords: Tensor
    attributes: Tensor
    resolution: int


@torch.no_grad()
def decode_latents(
    cascade: Cascade, latents: Latents, *, as_released: bool = False, memory: int | str | None = None
) -> TexturedMesh:
    """Decodes shape, then texture along the shape's subdivisions.

    as_released: leaves the faces in the random winding of the released code; the default winds them consistently and
    outward. memory: None, a limit in bytes, or "auto" for what is free; decodes in blocks where needed to fit. Raises
    InputError where the latents do not belong to the family's decoders, and where nothing fits.
    """
    for name, latent in (("shape", latents.shape), ("texture", latents.texture)):
        if latent.batch_size != 1:
            raise InputError(f"The {name} latent holds {latent.batch_size} items; decode them one at a time.")
    factor = cascade.get("shape_slat_decoder").config.factor
    check_coords(latents.shape.coords, 1, latents.resolution // factor, "latent voxels")
    shape = decode_planned(cascade, "shape_slat_decoder", latents.shape, None, memory)
    margin = cascade.get("shape_slat_decoder").config.voxel_margin
    texture = decode_planned(cascade, "tex_slat_decoder", latents.texture, shape.subdivisions, memory).voxels
    dual, crossing, split = shape_head(shape.voxels.feats, margin)
    coords = shape.voxels.coords[:, 1:].contiguous()
    mesh = grid_to_mesh(coords, dual, crossing, split, latents.resolution, as_released=as_released)
    return TexturedMesh(mesh.vertices, mesh.faces, coords, texture_head(texture.feats), latents.resolution)


def decode_planned(
    cascade: Cascade, role: str, latent: SparseTensor, guide: Guide | None, memory: int | str | None
) -> Decoded:
    """One decoder on one latent, at once or in blocks as `memory` allows (see `memory.plan_decode`)."""
    free = planning.available(memory, cascade.device)
    workspace = None
    if free is not None:
        decoder = cascade.get(role)
        weights = planning.weight_bytes(decoder, cascade.device)
        counts = None
        if guide is not None and all(isinstance(step, Subdivision) for step in guide):
            counts = [len(latent), *[len(step.coords) for step in guide]]
        name = "shape decoder" if role.startswith("shape") else "texture decoder"
        workspace = planning.plan_decode(
            name,
            decoder.config,
            len(latent),
            free,
            weights=weights,
            guided=guide is not None,
            voxels=counts,
            device=cascade.device,
        ).workspace
    with cascade.on_device(role) as decoder:
        if workspace is None:
            return decoder(latent, guide)

        def check(voxels: list[int]) -> None:
            planning.check_levels(
                name,
                decoder.config,
                voxels,
                workspace,
                free - weights,
                guided=guide is not None,
                device=cascade.device,
            )

        return stream_decode(decoder, latent, guide, workspace=workspace, check=check)
