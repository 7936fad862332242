"""Pictures of meshes against closed forms and the twin that tries every face."""

import pytest
import torch

from sightline.kernels.mesh_render import render_mesh, trace_mesh
from sightline.scene.cameras import look_at, orbit
from sightline.scene.errors import InputError


def soup(seed: int, count: int = 40):
    g = torch.Generator().manual_seed(seed)
    vertices = (torch.rand(count, 1, 3, generator=g) - 0.5 + torch.randn(count, 3, 3, generator=g) * 0.15).reshape(
        -1, 3
    )
    return vertices, torch.arange(3 * count).reshape(-1, 3)


def square():
    vertices = torch.tensor([[0.0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]])
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("radius", [2.0, 0.3])  # the second stands inside: faces cross the camera plane
def test_the_twin_sees_the_same(radius):
    vertices, faces = soup(2)
    camera = orbit(30, 20, radius, 60, 33, 27)
    for ours, twin in zip(trace_mesh(vertices, faces, camera), trace_mesh(vertices, faces, camera, dense=True)):
        assert torch.equal(ours, twin)


@pytest.mark.parametrize("radius", [2.0, 0.3])
def test_the_nearest_point_on_every_ray(radius):
    vertices, faces = soup(4)
    camera = orbit(70, -10, radius, 60, 25, 20)
    mask, depth, face, weights = trace_mesh(vertices, faces, camera)
    row, column = torch.meshgrid(torch.arange(20), torch.arange(25), indexing="ij")
    pixels = torch.stack([column + 0.5, row + 0.5], -1).reshape(1, -1, 2)
    origin = camera.centers[0].double()
    rays = camera.unproject(pixels, torch.ones(1, 500))[0].double() - origin
    a, b, c = vertices.double()[faces].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    t = ((a - origin) * normal).sum(1) / (rays @ normal.mT)
    hit = origin + t[..., None] * rays[:, None]
    edges = ((a, b), (b, c), (c, a))
    sides = torch.stack([(torch.linalg.cross((q - p).expand_as(hit), hit - p) * normal).sum(-1) for p, q in edges])
    t = torch.where((sides > -1e-12).all(0) & (t > 1e-3 * 2), t, torch.inf).amin(1)
    seen = mask.flatten()
    assert (seen == t.isfinite()).float().mean() > 0.99
    both = seen & t.isfinite()
    assert both.sum() > 80
    assert (depth.flatten()[both] - t[both]).abs().median() < 1e-5
    place = (vertices[faces[face[mask]]] * weights[mask][..., None]).sum(1)
    back, along = camera.project(place)
    assert (back[0] - pixels[0][seen]).abs().max() < 2e-2
    assert (along[0] - depth[mask]).abs().max() < 1e-4


def test_a_texture_lies_the_right_way():
    vertices, faces = square()
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    texture = torch.zeros(2, 2, 3)
    texture[0, 0, 0], texture[0, 1, 1], texture[1, 0, 2] = 1, 1, 1  # red top left, green top right, blue bottom left
    camera = look_at([4.0, 0, 0], [0.0, 0, 0], 2 * 14.04, 40, 40)
    rgb = render_mesh(vertices, faces, camera, uv=uv, texture=texture, shading="flat").rgb[0]
    for (row, column), channel in {(8, 8): 0, (8, 31): 1, (31, 8): 2}.items():
        assert int(rgb[row, column].argmax()) == channel and rgb[row, column, channel] > 0.5
    assert rgb[31, 31].max() < 0.5


def test_vertex_colors_are_interpolated_in_perspective():
    vertices, faces = square()
    colors = vertices * 0.5 + 0.5
    camera = look_at([1.5, 1.0, 0.4], [0.0, 0, 0], 70, 30, 30)
    view = render_mesh(vertices, faces, camera, vertex_colors=colors, shading="flat")
    row, column = torch.nonzero(view.mask[0], as_tuple=True)
    pixels = torch.stack([column + 0.5, row + 0.5], -1)[None]
    place = camera.unproject(pixels, view.depth[0][row, column][None])[0]
    assert (view.rgb[0][row, column] - (place * 0.5 + 0.5)).abs().max() < 1e-4


def test_samples_smooth_the_border_and_keep_sizes():
    vertices, faces = square()
    camera = orbit([10, 60], 0, 5, 60, 32, 24)
    view = render_mesh(vertices, faces, camera, samples=3, background=(1.0, 1.0, 1.0))
    assert view.rgb.shape == (2, 24, 32, 3) and view.depth.shape == (2, 24, 32) and view.weights.shape == (2, 24, 32, 3)
    assert len(view.rgb[0, ..., 0].unique()) > 10
    assert (
        render_mesh(vertices, faces, camera, shading="normal").rgb[0][view.mask[0]] - torch.tensor([1, 0.5, 0.5])
    ).abs().max() < 1e-5


def test_bad_input():
    vertices, faces = square()
    camera = orbit(0, 0, 3, 60, 8, 8)
    for options, text in (
        ({"texture": torch.zeros(2, 2, 3)}, "needs `uv`"),
        ({"shading": "toon"}, "toon"),
        ({"samples": 0}, "at least 1"),
    ):
        with pytest.raises(InputError, match=text):
            render_mesh(vertices, faces, camera, **options)
    with pytest.raises(InputError, match="F at least 1"):
        render_mesh(vertices, faces[:0], camera)


def test_bytes_and_numbers_of_a_texture_look_the_same():
    vertices, faces = square()
    uv = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    texture = torch.randint(0, 256, (4, 4, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    camera = orbit(20, 10, 4, 45, 24, 24)
    one, two = (render_mesh(vertices, faces, camera, uv=uv, texture=t).rgb for t in (texture, texture.float() / 255))
    assert torch.allclose(one, two, atol=1e-5) and one.std() > 0.05
