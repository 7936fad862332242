"""A mesh and its colors to a finished, textured mesh: unwrap, find the texels, snap, sample, fill the gutter.

Colors come from PBR voxels, or from another mesh (its vertex colors or textures), such as the one before simplifying.

Frame: Y up (glTF). The voxels lie in the cube [-0.5, 0.5]^3 of the same frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels.bake import (
    Texels,
    alpha_mode,
    check_uv,
    find_texels,
    sample_attributes,
    seen_from,
    surface_attributes,
    texture_image,
    vertex_normals,
)
from ..kernels.mesh.closest_point import ClosestPoint
from ..kernels.patience import Later, patiently
from ..kernels.tangents import encode_normals, vertex_tangents
from ..kernels.uv.unwrap import check_surface, check_texture_size, unwrap
from ..kernels.visibility import ambient_occlusion, project_photo
from ..scene.cameras import Cameras
from ..scene.errors import InputError
from ..scene.frames import turn_cameras
from ..scene.gltf import Part
from ..scene.sparse import SparseTensor

Progress = Callable[[int, int], None]
FAR = 3.0  # voxels from the nearest one, beyond which a texel does not belong to the voxels
CHANNELS = ("red", "green", "blue", "metallic", "roughness", "alpha")


@dataclass(frozen=True)
class Voxels:
    """PBR voxels: coords [N, 3] int, attributes [N, 6] in [0, 1] (base color, metallic, roughness, alpha), in a grid of
    `resolution` over the cube [-0.5, 0.5]^3, Y up. Raises InputError for what does not fit together."""

    coords: Tensor
    attributes: Tensor
    resolution: int

    def __post_init__(self) -> None:
        if self.coords.ndim != 2 or self.coords.shape[1] != 3 or not len(self.coords):
            raise InputError(
                f"`voxels` has coordinates {list(self.coords.shape)}; a texture needs [N, 3], N at least 1."
            )
        if self.attributes.shape != (len(self.coords), len(CHANNELS)):
            found = list(self.attributes.shape)
            raise InputError(
                f"`voxels` has attributes {found}; a texture needs [{len(self.coords)}, 6]: {', '.join(CHANNELS)}."
            )
        if not bool(torch.isfinite(self.attributes).all()):
            raise InputError("`voxels` holds attributes that are not finite numbers; decode it again.")
        low, high = int(self.coords.min()), int(self.coords.max())
        if low < 0 or high >= self.resolution:
            raise InputError(
                f"`voxels` has coordinates {low} to {high}, but a resolution of {self.resolution}; they must lie in"
                f" 0 to {self.resolution - 1}: connect voxels with their own resolution."
            )

    def sparse(self, device: torch.device) -> SparseTensor:
        """Rows in the order of their coordinates, each once."""
        coords = torch.cat([torch.zeros_like(self.coords[:, :1]), self.coords], 1).to(device, torch.int32)
        return SparseTensor(self.attributes.to(device).float(), coords)


@dataclass(frozen=True)
class Photo:
    """A picture [H, W, 3 or 4] in [0, 1] of the object, and its camera (Z up, as everywhere in `scene`)."""

    image: Tensor
    camera: Cameras
    strength: float = 1.0


@dataclass(frozen=True)
class Baked:
    """What came out: a part ready for `scene.gltf`, its texels, and how many of them the voxels do not reach."""

    part: Part
    texels: Texels
    far: int


def unwrap_part(
    part: Part,
    size: int = 2048,
    padding: float = 4,
    *,
    method: str = "xatlas",
    progress: Progress | None = None,
    **options,
) -> tuple[Part, str]:
    """The same surface with texture coordinates, and a line about them; see `kernels.uv.unwrap`.

    Normals and colors follow their vertices; tangents and textures belonged to the old coordinates and go.
    """
    done = unwrap(part.vertices, part.faces, size, padding, method=method, progress=progress, **options)

    def follow(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[done.source.to(values.device)]

    plain = replace(part.material, base_color=None, metallic_roughness=None, occlusion=None, normal=None, emissive=None)
    text = f"{done.charts} charts, {done.fill:.0%} of the texture"
    if done.boxes:
        text += f", {done.boxes} patches as boxes"
    faces = done.faces.to(part.faces.dtype)
    out = Part(follow(part.vertices), faces, plain, part.name, follow(part.normals), None, done.uv, follow(part.colors))
    return out, text


def bake_part(
    part: Part,
    colors: Voxels | Part,
    size: int = 2048,
    *,
    reference: tuple[Tensor, Tensor] | None = None,
    normal_map: bool = True,
    occlusion: bool = False,
    photo: Photo | None = None,
    alpha: str = "auto",
    progress: Progress | None = None,
) -> Baked:
    """Textures for a mesh that has texture coordinates; vertices, faces and uv come back bit-identical.

    part: Y up. colors: voxels in the same frame, or a mesh there with colors of its own. size: texels along a side.
    reference: vertices [V, 3] and faces [F, 3] of the surface before it was simplified (by default the mesh of
    `colors`): texels are snapped to its closest point, and with normal_map its finer shape goes into a normal map.
    occlusion: how open the sky is, from the reference or the mesh itself. photo: laid over what it shows, by viewing
    angle. alpha: "auto" chooses OPAQUE, MASK or BLEND by the colors, or one of these. progress(done, total):
    thousandths. Raises InputError for meshes, uv, sizes and voxels that cannot be used.
    """
    tell = progress or (lambda done, total: None)
    check_surface(part.vertices, part.faces)
    check_texture_size(size)
    if part.uv is None:
        raise InputError("The mesh has no texture coordinates; unwrap it first.")
    if alpha not in ("auto", "OPAQUE", "MASK", "BLEND"):
        raise InputError(f"`alpha` is {alpha!r}; choose auto, OPAQUE, MASK or BLEND.")
    check_uv(part.uv)

    def share(start: int, end: int) -> Progress:
        return lambda done, total: tell(start + (end - start) * done // max(total, 1), 1000)

    def beat(at: int) -> Callable[[], None]:
        return lambda: tell(at, 1000)

    def closest(surface: tuple[Tensor, Tensor], start: int, end: int):
        return ClosestPoint(*surface, beat(start))(points, callback=share(start, end))

    texels = find_texels(part.uv, part.faces, size, progress=share(0, 100))
    later_nearest = Later(texels.nearest)  # one core can do it while the other begins
    if not len(texels):
        later_nearest.result()  # says that nothing is written
    vertices = part.vertices.float()
    points = texels.interpolate(vertices, part.faces)
    tell(140, 1000)
    normals = part.normals
    normals = patiently(lambda: vertex_normals(vertices, part.faces), beat(150)) if normals is None else normals.float()
    later_tangents = Later(lambda: vertex_tangents(vertices, part.faces, part.uv, normals)) if normal_map else None
    mixed_normals = texels.interpolate(normals, part.faces)
    tell(170, 1000)
    own_normals = F.normalize(mixed_normals, dim=1, eps=1e-30)
    tell(200, 1000)
    wanted, found, values, far = None, None, None, 0
    if isinstance(colors, Part):
        check_surface(colors.vertices, colors.faces)
        own = colors.vertices.float(), colors.faces
        found = closest(own, 200, 500)
        values = surface_attributes(colors, found.face, found.barycentric)
        same = reference is None
        reference = own if same else reference
        found = found if same else None
    if reference is not None:
        reference = reference[0].float(), reference[1]
        check_surface(*reference)
        if found is None:
            found = closest(reference, 500, 640)
        points = found.points
        if normal_map:
            # the reference may be wound at random, as raw decoder meshes are: the mesh says what is outside
            hits = Texels(texels.index, found.face, found.barycentric, size)
            facing = patiently(lambda: seen_from(hits, own_normals, *reference), beat(640))
            smooth = patiently(lambda: vertex_normals(*reference, facing), beat(640))
            wanted = hits.interpolate(smooth, reference[1])
            del hits
    del found
    if values is None:
        values, distance = sample_attributes(colors.sparse(points.device), colors.resolution, points, share(650, 800))
        far = int((distance > FAR).sum())
        if far > 0.5 * len(texels):
            raise InputError(
                f"{far / len(texels):.0%} of the surface lies more than {FAR:g} voxels from the voxels (resolution"
                f" {colors.resolution}); connect the voxels that were decoded with this mesh."
            )
    values = values.clamp_(0, 1)
    blocks = (vertices, part.faces) if reference is None else reference
    if photo is not None:
        camera = turn_cameras(photo.camera, "z_up", "y_up")
        color, trust = project_photo(points, own_normals, camera, photo.image, vertices, part.faces)
        values[:, :3].lerp_(color.to(values), (trust * photo.strength)[:, None].to(values))
    nearest = later_nearest.result(beat(800))
    open_sky = None
    if occlusion:
        open_sky = ambient_occlusion(points, own_normals, *blocks, progress=share(800, 950))[:, None]
        open_sky = texture_image(texels, open_sky, nearest)
    mode, cutoff = alpha_mode(values[:, 5])
    mode = mode if alpha == "auto" else alpha
    image = texture_image(texels, values, nearest)
    tell(955, 1000)
    normal_texture = tangents = None
    if wanted is not None:
        tangents = later_tangents.result(beat(960))
        mixed_tangents = texels.interpolate(tangents, part.faces)
        local = patiently(lambda: encode_normals(wanted, mixed_normals, mixed_tangents), beat(970))
        tell(990, 1000)
        normal_texture = texture_image(texels, local, nearest)
    tell(1000, 1000)
    material = replace(
        part.material,
        base_color=image[..., :3] if mode == "OPAQUE" else image[..., [0, 1, 2, 5]],
        metallic_roughness=image[..., 3:5],
        occlusion=open_sky,
        normal=normal_texture,
        base_color_factor=(1.0, 1.0, 1.0, 1.0),
        metallic_factor=1.0,
        roughness_factor=1.0,
        alpha_mode=mode,
        alpha_cutoff=cutoff,
    )
    # colors of vertices would tint the texture, which holds them already
    return Baked(replace(part, material=material, normals=normals, tangents=tangents, colors=None), texels, far)
