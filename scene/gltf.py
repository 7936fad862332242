"""glTF 2.0 binary files (GLB): meshes with physically based materials, written part by part.

World frame of the file: Y up, meters, the front toward +Z. uv (0, 0) is the outer corner of the first texel of the
first row. Base color is as seen (sRGB); metallic, roughness, occlusion and normals are plain numbers; vertex colors
are linear. A file is put together from slices, so that no second copy of the whole is ever in memory.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import InputError

GENERATOR = "ComfyUI-Sightline"
MAX_TEXTURE = 16384
SLICE = 1 << 22  # rows turned into bytes at once
LIMIT = (1 << 32) - 1  # a GLB counts its bytes in 32 bits
FLOAT, UINT, USHORT = 5126, 5125, 5123
VERTICES, INDICES = 34962, 34963
LINEAR, MIPMAPS, CLAMP = 9729, 9987, 33071


@dataclass(frozen=True)
class Material:
    """How a part looks; textures are [H, W, C] in [0, 1], float or uint8.

    base_color: C = 3 or 4 (alpha). metallic_roughness: C = 2, in that order. occlusion: C = 1. normal: C = 3, tangent
    space, +Y up. emissive: C = 3. The factors multiply them; where there is no texture they stand alone. alpha_mode:
    OPAQUE, MASK (with alpha_cutoff) or BLEND.
    """

    name: str = "Material"
    base_color: Tensor | None = None
    metallic_roughness: Tensor | None = None
    occlusion: Tensor | None = None
    normal: Tensor | None = None
    emissive: Tensor | None = None
    base_color_factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    metallic_factor: float = 1.0
    roughness_factor: float = 1.0
    emissive_factor: tuple[float, float, float] = (0.0, 0.0, 0.0)
    normal_scale: float = 1.0
    occlusion_strength: float = 1.0
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    double_sided: bool = True
    unlit: bool = False

    def __post_init__(self) -> None:
        for name, channels in (
            ("base_color", (3, 4)), ("metallic_roughness", (2,)), ("occlusion", (1,)), ("normal", (3,)),
            ("emissive", (3,)),
        ):  # fmt: skip
            texture = getattr(self, name)
            if texture is None:
                continue
            wanted = " or ".join(map(str, channels))
            if texture.ndim != 3 or texture.shape[2] not in channels:
                raise InputError(f"`{name}` has shape {list(texture.shape)}; a texture must be [H, W, {wanted}].")
            if not 1 <= max(texture.shape[:2]) <= MAX_TEXTURE or not texture.numel():
                raise InputError(
                    f"`{name}` has {texture.shape[1]}x{texture.shape[0]} texels; files hold up to {MAX_TEXTURE}."
                )
        if self.alpha_mode not in ("OPAQUE", "MASK", "BLEND"):
            raise InputError(f"`alpha_mode` is {self.alpha_mode!r}; glTF knows OPAQUE, MASK and BLEND.")

    @property
    def textures(self) -> bool:
        """Whether it has any."""
        names = ("base_color", "metallic_roughness", "occlusion", "normal", "emissive")
        return any(getattr(self, name) is not None for name in names)


@dataclass(frozen=True)
class Part:
    """A mesh with one material: vertices [V, 3] and faces [F, 3], and per vertex, where there are any, normals [V, 3],
    tangents [V, 4], uv [V, 2], colors [V, 3 or 4] (linear). Raises InputError for what does not fit together."""

    vertices: Tensor
    faces: Tensor
    material: Material = Material()
    name: str = "Mesh"
    normals: Tensor | None = None
    tangents: Tensor | None = None
    uv: Tensor | None = None
    colors: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.vertices)
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise InputError(f"`vertices` has shape {list(self.vertices.shape)}; a mesh needs [V, 3].")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3 or self.faces.is_floating_point():
            raise InputError(f"`faces` is {self.faces.dtype} {list(self.faces.shape)}; a mesh needs integers [F, 3].")
        if not len(self.faces):
            raise InputError("The mesh has no faces; there is nothing to write.")
        low, high = int(self.faces.min()), int(self.faces.max())
        if low < 0 or high >= count:
            raise InputError(f"The faces name vertices {low} to {high}, but the mesh has {count}; it is damaged.")
        for name, widths in (
            ("vertices", (3,)), ("normals", (3,)), ("tangents", (4,)), ("uv", (2,)), ("colors", (3, 4)),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is None:
                continue
            if value.ndim != 2 or len(value) != count or value.shape[1] not in widths:
                raise InputError(
                    f"`{name}` has shape {list(value.shape)}; {count} vertices need [{count}, {widths[-1]}]."
                )
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"`{name}` holds values that are not finite numbers; the mesh is damaged.")
        if self.material.textures and self.uv is None:
            raise InputError("The material has textures, but the mesh no texture coordinates; unwrap it first.")
        if self.tangents is not None and self.normals is None:
            raise InputError("The mesh has tangents without normals; give both.")


def write_glb(
    stream: BinaryIO,
    parts: Sequence[Part],
    *,
    image_format: str = "png",
    quality: int = 92,
    extras: dict[str, Any] | None = None,
    copyright: str | None = None,
) -> int:
    """Write a GLB to a binary stream; returns how many bytes.

    image_format: "png", or "jpeg" (of `quality`) for base colors without alpha, emission, occlusion, metallic and
    roughness; normals stay PNG. extras: of the asset, such as {"license": "CC0-1.0"}. copyright: glTF's own field.
    Raises InputError for no parts, an unknown format, and more than 4 GiB.
    """
    if not parts:
        raise InputError("There is no mesh to write.")
    if image_format not in ("png", "jpeg"):
        raise InputError(f"`image_format` is {image_format!r}; choose 'png' or 'jpeg'.")
    body = _Body(image_format, quality)
    meshes = [body.mesh(part) for part in parts]
    tree: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": GENERATOR},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(parts)))}],
        "nodes": [{"name": part.name, "mesh": i} for i, part in enumerate(parts)],
        "meshes": meshes,
        "materials": body.materials,
        "accessors": body.accessors,
        "bufferViews": body.views,
    }
    if copyright:
        tree["asset"]["copyright"] = copyright
    if extras:
        tree["asset"]["extras"] = extras
    for name, value in (("images", body.images), ("textures", body.textures), ("samplers", body.samplers)):
        if value:
            tree[name] = value
    if body.extensions:
        tree["extensionsUsed"] = sorted(body.extensions)
    tree["buffers"] = [{"byteLength": body.length}]
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    total = 12 + 8 + len(text) + 8 + body.length
    if total > LIMIT:
        raise InputError(
            f"The file would have {total / 2**30:.1f} GiB, a GLB holds 4; use fewer faces or smaller textures."
        )
    stream.write(struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON") + text)
    stream.write(struct.pack("<I4s", body.length, b"BIN\0"))
    for piece in body.pieces():
        stream.write(piece)
    return total


def encode_glb(parts: Sequence[Part], **options: Any) -> bytes:
    """The bytes of `write_glb`."""
    stream = io.BytesIO()
    write_glb(stream, parts, **options)
    return stream.getvalue()


def encode_image(texture: Tensor, image_format: str = "png", quality: int = 92) -> bytes:
    """A texture [H, W, 1, 3 or 4], float in [0, 1] or uint8, as the bytes of a PNG or JPEG file."""
    if texture.dtype != torch.uint8:
        texture = (texture.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    array = texture.cpu().numpy()
    stream = io.BytesIO()
    picture = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    if image_format == "jpeg":
        picture.save(stream, "JPEG", quality=quality, subsampling=0)
    else:
        picture.save(stream, "PNG", compress_level=4)
    return stream.getvalue()


def pack_orm(material: Material) -> Tensor | None:
    """glTF's texture [H, W, 3] of occlusion (R), roughness (G) and metallic (B); None without any of them."""
    given, open_sky = material.metallic_roughness, material.occlusion
    if given is None and open_sky is None:
        return None
    size = max((x.shape[:2] for x in (given, open_sky) if x is not None), key=lambda s: s[0] * s[1])

    def fit(texture: Tensor | None, channels: int) -> Tensor:
        if texture is None:
            return torch.ones(*size, channels)
        texture = texture.float() / 255 if texture.dtype == torch.uint8 else texture.float()
        if texture.shape[:2] == size:
            return texture.cpu()
        picture = texture.cpu().movedim(-1, 0)[None]
        return torch.nn.functional.interpolate(picture, size, mode="bilinear")[0].movedim(0, -1)

    plain = fit(given, 2)
    return torch.cat([fit(open_sky, 1), plain[..., 1:], plain[..., :1]], -1)


class _Body:
    """The binary part: what has been promised so far, and where."""

    def __init__(self, image_format: str, quality: int) -> None:
        self.image_format, self.quality = image_format, quality
        self.views, self.accessors, self.images, self.textures = [], [], [], []
        self.samplers, self.materials, self.extensions = [], [], set()
        self.sources: list[tuple[Any, np.dtype | None]] = []
        self.length = 0
        self._known: dict[int, int] = {}

    def view(self, source: Any, length: int, dtype=None, **more: Any) -> int:
        self.views.append({"buffer": 0, "byteOffset": self.length, "byteLength": length, **more})
        self.sources.append((source, dtype))
        self.length += length + -length % 4
        return len(self.views) - 1

    def pieces(self) -> Iterator[bytes]:
        for (source, dtype), view in zip(self.sources, self.views):
            if isinstance(source, bytes):
                yield source
            else:
                for part in source.split(SLICE):
                    yield np.ascontiguousarray(part.detach().cpu().numpy().astype(dtype, copy=False)).tobytes()
            yield b"\0" * (-view["byteLength"] % 4)

    def accessor(self, values: Tensor, kind: str, *, bounds: bool = False, indices: bool = False) -> int:
        code, dtype = (UINT, np.dtype("<u4")) if indices else (FLOAT, np.dtype("<f4"))
        size = values.numel() * dtype.itemsize
        number = self.view(values, size, dtype, target=INDICES if indices else VERTICES)
        entry = {"bufferView": number, "componentType": code, "count": len(values), "type": kind}
        if indices:
            entry["count"] = values.numel()
        if bounds:
            entry["min"], entry["max"] = (
                [float(v) for v in np.asarray(x.float().cpu().numpy(), np.float32)]
                for x in (values.amin(0), values.amax(0))
            )
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def mesh(self, part: Part) -> dict:
        attributes = {"POSITION": self.accessor(part.vertices, "VEC3", bounds=True)}
        if part.normals is not None:
            attributes["NORMAL"] = self.accessor(_unit(part.normals, (0.0, 1.0, 0.0)), "VEC3")
        if part.tangents is not None and part.material.normal is not None:
            tangent = _unit(part.tangents[:, :3], (1.0, 0.0, 0.0))
            sign = torch.where(part.tangents[:, 3:] < 0, -1.0, 1.0).to(tangent)
            attributes["TANGENT"] = self.accessor(torch.cat([tangent, sign], 1), "VEC4")
        if part.uv is not None and part.material.textures:
            attributes["TEXCOORD_0"] = self.accessor(part.uv, "VEC2")
        if part.colors is not None:
            attributes["COLOR_0"] = self.accessor(part.colors.clamp(0, 1), f"VEC{part.colors.shape[1]}")
        indices = self.accessor(part.faces, "SCALAR", indices=True)
        primitive = {"attributes": attributes, "indices": indices, "mode": 4, "material": self.material(part.material)}
        return {"name": part.name, "primitives": [primitive]}

    def material(self, material: Material) -> int:
        if id(material) in self._known:
            return self._known[id(material)]
        pbr: dict[str, Any] = {
            "baseColorFactor": [float(v) for v in material.base_color_factor],
            "metallicFactor": float(material.metallic_factor),
            "roughnessFactor": float(material.roughness_factor),
        }
        entry: dict[str, Any] = {"name": material.name, "pbrMetallicRoughness": pbr}
        if material.base_color is not None:
            alpha = material.base_color.shape[2] == 4
            shown = material.base_color
            if alpha and material.alpha_mode == "OPAQUE":
                shown, alpha = shown[..., :3], False  # what is ignored is not written
            pbr["baseColorTexture"] = {
                "index": self.texture(shown, "base color", self.image_format if not alpha else "png")
            }
        orm = pack_orm(material)
        if orm is not None:
            number = self.texture(orm, "occlusion roughness metallic", self.image_format)
            if material.metallic_roughness is not None:
                pbr["metallicRoughnessTexture"] = {"index": number}
            if material.occlusion is not None:
                entry["occlusionTexture"] = {"index": number, "strength": float(material.occlusion_strength)}
        if material.normal is not None:
            number = self.texture(material.normal, "normal", "png")
            entry["normalTexture"] = {"index": number, "scale": float(material.normal_scale)}
        if material.emissive is not None:
            entry["emissiveTexture"] = {"index": self.texture(material.emissive, "emission", self.image_format)}
        if any(material.emissive_factor):
            entry["emissiveFactor"] = [min(1.0, float(v)) for v in material.emissive_factor]
        if material.alpha_mode != "OPAQUE":
            entry["alphaMode"] = material.alpha_mode
        if material.alpha_mode == "MASK":
            entry["alphaCutoff"] = float(material.alpha_cutoff)
        if material.double_sided:
            entry["doubleSided"] = True
        if material.unlit:
            entry["extensions"] = {"KHR_materials_unlit": {}}
            self.extensions.add("KHR_materials_unlit")
        self.materials.append(entry)
        self._known[id(material)] = len(self.materials) - 1
        return len(self.materials) - 1

    def texture(self, texture: Tensor, name: str, image_format: str) -> int:
        data = encode_image(texture, image_format, self.quality)
        number = self.view(data, len(data))
        self.images.append({"name": name, "bufferView": number, "mimeType": f"image/{image_format}"})
        if not self.samplers:
            self.samplers.append({"magFilter": LINEAR, "minFilter": MIPMAPS, "wrapS": CLAMP, "wrapT": CLAMP})
        self.textures.append({"sampler": 0, "source": len(self.images) - 1, "name": name})
        return len(self.textures) - 1


def _unit(vectors: Tensor, spare: tuple[float, float, float]) -> Tensor:
    """Vectors [V, 3] of length 1, `spare` where there is no direction; validators accept no other length."""
    vectors = vectors.detach().double()
    length = vectors.norm(dim=1, keepdim=True)
    return torch.where(length > 1e-12, vectors / length.clamp(min=1e-30), vectors.new_tensor(spare)).float()
