import numpy as np
import pytest
import torch

from sightline.kernels.dual_grid import grid_to_mesh
from sightline.models.trellis2.colors import encode_textured_mesh, vertex_attributes
from sightline.models.trellis2.latents import TexturedMesh

trimesh = pytest.importorskip("trimesh", reason="meshes are written with trimesh, which is not installed")
SIZE = 16


def ball():
    """A voxel ball whose base color is the position in the cube, roughness 0.75, metallic 0.25."""
    line = torch.arange(SIZE)
    coords = torch.cartesian_prod(line, line, line).int()
    inside = ((coords + 1 - SIZE / 2).norm(dim=1) < 6).reshape(SIZE, SIZE, SIZE)
    # `inside` is about a voxel's upper corner; it owns the three edges that end there
    near = torch.zeros_like(inside)
    crossing = []
    for axis in range(3):
        crossing.append(inside != inside.roll(1, axis))
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            for dz in (-1, 0, 1):
                near |= inside.roll((dx, dy, dz), (0, 1, 2))
    rows = near.reshape(-1)
    coords = coords[rows]
    flags = torch.stack([c.reshape(-1)[rows] for c in crossing], 1)
    mesh = grid_to_mesh(coords, torch.full((len(coords), 3), 0.5), flags, None, SIZE)
    color = (coords + 0.5) / SIZE
    rest = torch.tensor([0.25, 0.75, 1.0]).expand(len(coords), 3)
    return TexturedMesh(mesh.vertices, mesh.faces, coords, torch.cat([color, rest], 1), SIZE)


def test_attributes_at_the_vertices():
    mesh = ball()
    values = vertex_attributes(mesh)
    torch.testing.assert_close(values[:, :3], mesh.vertices + 0.5, atol=1e-5, rtol=0)  # vertices are voxel centers here
    assert torch.equal(values[:, 3:5], torch.tensor([0.25, 0.75]).expand(len(values), 2))


def test_attributes_are_clamped():
    mesh = ball()
    loud = TexturedMesh(mesh.vertices, mesh.faces, mesh.coords, mesh.attributes * 4 - 1, SIZE)
    values = vertex_attributes(loud)
    assert values.min() == 0 and values.max() == 1


@pytest.mark.parametrize("frame", ["y_up", "z_up"])
def test_the_front_of_the_file(tmp_path, frame):
    """Pixal3D's +z and TRELLIS.2's -y come to lie at +Z; up is +Y."""
    (tmp_path / "a.ply").write_bytes(encode_textured_mesh(ball(), "a.ply", frame))
    found = trimesh.load(tmp_path / "a.ply", process=False)
    colors = found.visual.vertex_colors[:, :3] / 255 - 0.5  # the position in the mesh's own frame
    front, top = found.vertices[:, 2].argmax(), found.vertices[:, 1].argmax()
    if frame == "y_up":
        assert colors[front, 2] > 0.3 and colors[top, 1] > 0.3
    else:
        assert colors[front, 1] < -0.3 and colors[top, 2] > 0.3
    np.testing.assert_allclose(found.vertices[:, 0], colors[:, 0], atol=3e-3)
    assert found.is_watertight and found.volume > 0
    assert b"glTF" in encode_textured_mesh(ball(), "a.glb", frame)[:4]
