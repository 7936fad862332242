"""Textures from voxels: what is seen must be what the voxels say, everywhere, without seams or holes."""

import threading

import pytest
import torch
import torch.nn.functional as F
from gltf_validation import check_glb

from sightline.kernels.bake import alpha_mode, find_texels, sample_attributes, vertex_normals
from sightline.kernels.mesh.closest_point import closest_points
from sightline.kernels.mesh_render import render_mesh
from sightline.kernels.surface_sampling import sample_texture
from sightline.kernels.tangents import decode_normals
from sightline.pipelines.mesh_bake import Photo, Voxels, bake_part, unwrap_part
from sightline.scene.cameras import orbit
from sightline.scene.errors import InputError
from sightline.scene.frames import turn_points
from sightline.scene.gltf import Material, Part, encode_glb

R, SIZE = 48, 256


def ball(subdivisions: int):
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    v = torch.tensor(mesh.vertices).float()
    shape = 1 + 0.12 * torch.sin(6 * v).prod(1, keepdim=True) + 0.02 * torch.sin(20 * v).prod(1, keepdim=True)
    return v * 0.4 * shape, torch.tensor(mesh.faces)


def paint(points):
    color = 0.5 + 0.4 * torch.sin(points * 8 + torch.tensor([0.0, 1, 2]))
    rest = [0.5 + 0.5 * torch.sin(7 * points[:, :1]), 0.5 + 0.3 * torch.cos(8 * points[:, 1:2])]
    return torch.cat([color, *rest, torch.ones_like(points[:, :1])], 1)


def shell(vertices, faces, resolution=R, reach=1):
    """The voxels that a finely cut surface touches, and those around them."""
    cells = ((vertices[faces].mean(1) + 0.5) * resolution).floor().long()
    steps = torch.stack(torch.meshgrid(*[torch.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    coords = torch.unique((cells[:, None] + steps).reshape(-1, 3), dim=0)
    coords = coords[((coords >= 0) & (coords < resolution)).all(1)]
    return Voxels(coords, paint((coords + 0.5) / resolution - 0.5), resolution)


@pytest.fixture(scope="module")
def high():
    return ball(5)


@pytest.fixture(scope="module")
def voxels(high):
    return shell(*high)


@pytest.fixture(scope="module")
def low():
    return unwrap_part(Part(*ball(3)), SIZE, 3, method="box")[0]


@pytest.fixture(scope="module")
def baked(low, high, voxels):
    return bake_part(low, voxels, SIZE, reference=high, occlusion=False)


def seen(part, texture, **options):
    """Texture as a renderer shows it, without light, and the points seen (Y up)."""
    cameras = orbit([10, 130, 250, 40], [15, -20, 40, -70], 1.5, 45, 96, 96)
    uv = torch.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    place = turn_points(part.vertices, "y_up", "z_up")
    view = render_mesh(place, part.faces, cameras, uv=uv, texture=texture, shading="flat", **options)
    face, weights = view.face[view.mask], view.weights[view.mask]
    return view.rgb[view.mask], (part.vertices[part.faces[face]] * weights[..., None]).sum(1)


def test_it_looks_like_its_voxels(baked, high, voxels):
    material = baked.part.material
    shown, points = seen(baked.part, material.base_color)
    points = closest_points(points, *high)[0]
    wanted, _ = sample_attributes(voxels.sparse(points.device), R, points)
    assert (shown - wanted[:, :3]).abs().mean() * 255 < 2
    assert (shown - paint(points)[:, :3]).abs().mean() * 255 < 2
    metal = F.pad(material.metallic_roughness, (0, 1))
    assert (seen(baked.part, metal)[0][:, :2] - wanted[:, 3:5]).abs().mean() * 255 < 2
    assert material.alpha_mode == "OPAQUE" and baked.far == 0


def test_the_mesh_comes_back_as_it_was(baked, low):
    for name in ("vertices", "faces", "uv"):
        assert getattr(baked.part, name) is getattr(low, name)


def test_no_texel_is_black(baked, low):
    image = baked.part.material.base_color
    assert image.shape == (SIZE, SIZE, 3)
    assert image.amax(-1).min() > 0.05, "the gutter is filled to the last corner"
    # every place of every face, read as a renderer reads it, is a written texel or next to one
    g = torch.Generator().manual_seed(0)
    weights = torch.distributions.Dirichlet(torch.ones(3)).sample((len(low.faces), 4))
    place = (low.uv[low.faces][:, None] * weights[..., None]).sum(2).reshape(-1, 2) * SIZE
    written = F.max_pool2d(baked.texels.mask[None, None].float(), 3, 1, 1)[0, 0]
    column, row = place.floor().long().clamp(max=SIZE - 1).unbind(1)
    assert written[row, column].min() == 1 and g is not None


def test_a_checkered_plane_shows_no_seam():
    line = torch.linspace(-0.45, 0.45, 13)
    x, z = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, 0.011 + 0 * x, z], -1).reshape(-1, 3)
    i = torch.arange(156).reshape(12, 13)[:, :12].reshape(-1)
    faces = torch.cat([torch.stack([i, i + 1, i + 13], 1), torch.stack([i + 1, i + 14, i + 13], 1)])
    # cut into strips that lie apart and turned in the texture
    part, _ = unwrap_part(Part(vertices, faces), SIZE, 4, method="xatlas", patch_faces=40, workers=2)
    x, z = torch.meshgrid(torch.arange(R), torch.arange(R), indexing="ij")
    layer = [torch.stack([x, torch.full_like(x, y), z], -1).reshape(-1, 3) for y in (23, 24, 25)]
    coords = torch.cat(layer)
    black = ((coords[:, 0] // 6 + coords[:, 2] // 6) % 2 == 0).float()[:, None]
    made = bake_part(part, Voxels(coords, black.expand(-1, 6) * 0.8 + 0.1, R), SIZE).part
    cameras = orbit(0, 90, 1.6, 40, 128, 128)
    uv = torch.stack([part.uv[:, 0], 1 - part.uv[:, 1]], 1)
    place = turn_points(part.vertices, "y_up", "z_up")
    view = render_mesh(place, part.faces, cameras, uv=uv, texture=made.material.base_color, shading="flat")
    points = (part.vertices[part.faces[view.face[view.mask]]] * view.weights[view.mask][..., None]).sum(1)
    field = (points[:, [0, 2]] + 0.5) * R
    inner = ((field % 6 - 3).abs() < 1.8).all(1)  # away from the borders of the squares, where colors mix
    wanted = ((field // 6).long().sum(1) % 2 == 0) * 0.8 + 0.1
    error = (view.rgb[view.mask][:, 0] - wanted).abs()
    assert inner.sum() > 1000 and error[inner].max() < 0.02
    texture_error = error[~inner].mean()
    assert texture_error < 0.15


def test_a_normal_map_brings_the_fine_shape_back(baked, high):
    part, texels = baked.part, baked.texels
    normal = texels.interpolate(part.normals, part.faces)
    tangent = texels.interpolate(part.tangents, part.faces)
    picture = part.material.normal.view(-1, 3)[texels.index]
    points = texels.interpolate(part.vertices, part.faces)
    _, face, _, weights = closest_points(points, *high)
    wanted = F.normalize((vertex_normals(*high)[high[1][face]] * weights[..., None]).sum(1), dim=1)
    shown = decode_normals(picture, normal, tangent)
    assert (shown * wanted).sum(1).clamp(-1, 1).acos().rad2deg().median() < 0.1
    rough = (F.normalize(normal, dim=1) * wanted).sum(1).clamp(-1, 1).acos().rad2deg().median()
    assert rough > 2, "there was something to bring back"


def test_occlusion_darkens_a_cave():
    """The inside of an open box sees less sky than the outside."""
    import trimesh

    box = trimesh.creation.box().subdivide().subdivide()
    vertices, faces = torch.tensor(box.vertices).float() * 0.6, torch.tensor(box.faces)
    faces = faces[(vertices[faces][:, :, 1] < 0.299).any(1)]  # without its lid
    inside = Part(torch.cat([vertices, vertices * 0.9]), torch.cat([faces, faces.flip(1) + len(vertices)]))
    part, _ = unwrap_part(inside, 128, 2, method="box")
    made = bake_part(part, shell(vertices, faces, 16, 3), 128, occlusion=True)
    points = made.texels.interpolate(part.vertices, part.faces)
    sky = made.part.material.occlusion.view(-1)[made.texels.index]
    floor = (points[:, 1] < -0.26) & (points[:, [0, 2]].abs().amax(1) < 0.1) & (points[:, 1] > -0.28)
    wall = (points[:, 0] > 0.29) & (points[:, 1:].abs().amax(1) < 0.1)
    assert sky[wall].min() > 0.97 and floor.sum() > 20
    assert 0.2 < sky[floor].mean() < 0.55


def test_a_photo_is_laid_on_what_it_shows(low, voxels):
    camera = orbit(-90, 10, 1.5, 45, 128, 128)  # at -Y in the scene's frame: the front, +Z in the file's
    mask = render_mesh(turn_points(low.vertices, "y_up", "z_up"), low.faces, camera).mask[0]
    image = torch.zeros(128, 128, 4)
    image[..., 0], image[..., 3] = 1.0, mask.float()
    made = bake_part(low, voxels, SIZE, photo=Photo(image, camera))
    plain = bake_part(low, voxels, SIZE)
    texels = made.texels
    normal = F.normalize(texels.interpolate(made.part.normals, low.faces), dim=1)
    color = made.part.material.base_color.view(-1, 3)[texels.index]
    before = plain.part.material.base_color.view(-1, 3)[texels.index]
    assert (color[normal[:, 2] > 0.95] - torch.tensor([1.0, 0, 0])).abs().mean() < 0.05
    assert torch.equal(color[normal[:, 2] < 0], before[normal[:, 2] < 0])


def test_the_file_is_valid(baked):
    check_glb(encode_glb([baked.part], extras={"license": "CC0-1.0"}))


@pytest.mark.parametrize(
    ("alpha", "mode"),
    [
        (torch.ones(1000), "OPAQUE"),
        (torch.cat([torch.ones(900), torch.zeros(100)]), "MASK"),
        (torch.linspace(0.2, 0.8, 1000), "BLEND"),
        (torch.cat([torch.ones(500), torch.full((500,), 0.5)]), "BLEND"),
        (torch.cat([torch.ones(9990), torch.zeros(10)]), "OPAQUE"),
    ],
)
def test_alpha_is_chosen_from_the_data(alpha, mode):
    assert alpha_mode(alpha)[0] == mode


def test_a_small_face_has_a_texel():
    uv = torch.tensor([[0.1, 0.1], [0.11, 0.1], [0.1, 0.11], [0.5, 0.5], [0.9, 0.5], [0.5, 0.9]])
    texels = find_texels(uv, torch.arange(6).view(2, 3), 16)
    assert (texels.face == 0).sum() == 1 and (texels.face == 1).sum() > 10
    image = torch.zeros(16, 16, 1)
    image[texels.mask] = 1
    assert sample_texture(image, torch.tensor([[0.1, 0.9]])) > 0.1


@pytest.mark.parametrize("at", [0, 150, 500, 640, 960])
def test_stopping_leaves_no_thread(low, high, voxels, at):
    def stop(done, total):
        if done >= at:
            raise KeyboardInterrupt

    running = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        bake_part(low, voxels, SIZE, reference=high, progress=stop)
    for thread in set(threading.enumerate()) - running:  # waited for nobody, but has little left to do
        thread.join(10)
    assert set(threading.enumerate()) <= running


def test_bad_input(low, voxels):
    from dataclasses import replace

    for part, options, text in (
        (replace(low, uv=None), {}, "unwrap it first"),
        (replace(low, uv=low.uv * 3), {}, "one texture holds 0 to 1"),
        (replace(low, vertices=low.vertices + 2), {}, "resolution 48"),
        (low, {"size": 40000}, "40000 texels"),
        (low, {"alpha": "GLASS"}, "GLASS"),
        (low, {"reference": (low.vertices, low.faces[:0])}, "no faces"),
    ):
        with pytest.raises(InputError, match=text):
            bake_part(part, voxels, **{"size": 64, **options})
    for bad, text in (
        (lambda: Voxels(voxels.coords, voxels.attributes, 16), "resolution of 16"),
        (lambda: Voxels(voxels.coords, voxels.attributes[:, :3], R), "6"),
        (lambda: Voxels(voxels.coords[:0], voxels.attributes[:0], R), "at least 1"),
        (lambda: Voxels(voxels.coords, voxels.attributes * torch.nan, R), "not finite"),
    ):
        with pytest.raises(InputError, match=text):
            bad()


def test_colors_and_normals_follow_their_vertices():
    vertices, faces = ball(2)
    part = Part(
        vertices,
        faces,
        Material("Skin", roughness_factor=0.3),
        "Head",
        vertex_normals(vertices, faces),
        colors=vertices + 0.5,
    )
    done, text = unwrap_part(part, 128, 2, method="box")
    assert torch.equal(done.colors, done.vertices + 0.5) and len(done.vertices) > len(vertices)
    assert done.material.name == "Skin" and done.name == "Head" and "charts" in text
