import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_meshes import ball, join, volume

from sightline.kernels.mesh import clean
from sightline.kernels.mesh.topology import Counts, Edges
from sightline.pipelines.mesh_finish import FinishOptions, finish_mesh
from sightline.scene.errors import InputError
from sightline.scene.gltf import Material, Part


def part(vertices, faces, **more):
    return Part(torch.from_numpy(np.asarray(vertices)).float(), torch.from_numpy(np.asarray(faces)), **more)


def arrays(mesh):
    return mesh.vertices.double().numpy(), mesh.faces.numpy()


def checked(mesh):
    """What must hold of every finished mesh; its vertices and faces, seams closed."""
    vertices, faces = arrays(mesh)
    faces = clean.equal_rows(vertices)[faces]
    edges = Edges.of(mesh.faces.numpy() if mesh.uv is None else faces)
    assert not edges.conflicts.any() and not edges.crowded.any()
    assert not clean.degenerate(vertices, mesh.faces.numpy()).any()
    assert not clean.duplicates(mesh.faces.numpy()).any()
    return vertices, faces


def same(one, other):
    assert torch.equal(one.faces, other.faces) and torch.equal(one.vertices, other.vertices)
    for name in ("uv", "colors"):
        first, second = getattr(one, name), getattr(other, name)
        assert first is second is None or torch.equal(first, second)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.integers(6, 14),
    bumps=st.floats(0, 0.25),
    seed=st.integers(0, 10**6),
    holes=st.integers(0, 12),
    flips=st.floats(0, 1),
    duplicates=st.integers(0, 30),
    soup=st.booleans(),
    keep=st.sampled_from([0, 0.5]),
)
def test_a_torn_surface_is_whole_again(steps, bumps, seed, holes, flips, duplicates, soup, keep):
    rng = np.random.default_rng(seed)
    vertices, faces = ball(steps, bumps=bumps, seed=seed)
    whole = volume(vertices, faces)
    torn = np.delete(faces, rng.choice(len(faces), holes, replace=False), 0)
    torn = np.concatenate([torn, torn[rng.integers(0, len(torn), duplicates)]])
    turn = rng.random(len(torn)) < flips
    torn[turn] = torn[turn][:, ::-1]
    torn = np.roll(torn[rng.permutation(len(torn))], int(rng.integers(3)), 1)
    given_vertices = vertices
    if soup:
        given_vertices, torn = vertices[torn].reshape(-1, 3), np.arange(3 * len(torn)).reshape(-1, 3)
    options = FinishOptions(faces=int(keep * len(faces)), holes=10.0, dust=0.01)
    mesh, report = finish_mesh(part(given_vertices, torn), options)
    found, closed = checked(mesh)
    assert report.after.border_edges == 0 and report.after.euler == 2 and report.after.components == 1
    if keep:
        assert len(closed) <= options.faces
    assert volume(found, closed) == pytest.approx(whole, rel=0.01 if not keep else 0.06)
    again, second = finish_mesh(mesh, options)
    same(mesh, again)
    assert second.before == second.after == report.after and not second.done


def torn_soup(seed, share, steps=12):
    """A bumpy ball in single triangles, of which a share is gone, some are there twice, and many are turned."""
    rng = np.random.default_rng(seed)
    vertices, faces = ball(steps, bumps=0.15, seed=seed)
    whole = volume(vertices, faces)
    faces = faces[rng.random(len(faces)) > share]
    faces = np.concatenate([faces, faces[rng.integers(0, len(faces), 30)]])
    turn = rng.random(len(faces)) < 0.4
    faces[turn] = faces[turn][:, ::-1]
    faces = np.roll(faces[rng.permutation(len(faces))], int(rng.integers(3)), 1)
    return part(vertices[faces].reshape(-1, 3), np.arange(3 * len(faces)).reshape(-1, 3)), whole


@pytest.mark.parametrize("seed", (1, 4, 5, 7, 10))
def test_a_soup_with_every_seventh_face_gone_is_closed(seed):
    given_mesh, whole = torn_soup(seed, 0.15)
    options = FinishOptions(holes=10.0, dust=0.01)
    mesh, report = finish_mesh(given_mesh, options)
    found, closed = checked(mesh)
    assert report.after.border_edges == 0 and report.after.components == 1
    assert volume(found, closed) == pytest.approx(whole, rel=0.01)
    same(mesh, finish_mesh(mesh, options)[0])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.1, 0.45), steps=st.integers(5, 8))
def test_whatever_is_left_of_a_soup_becomes_a_surface(seed, share, steps):
    options = FinishOptions(holes=10.0, dust=0.01)
    mesh, report = finish_mesh(torn_soup(seed, share, steps)[0], options)
    edges = Edges.of(mesh.faces.numpy())
    assert not edges.conflicts.any() and not edges.crowded.any()
    again, second = finish_mesh(mesh, options)
    assert torch.equal(mesh.vertices[mesh.faces], again.vertices[again.faces]) and second.after == report.after


def test_the_report_counts_and_tells():
    big, speck, inner = ball(8), ball(3, 0.002), ball(5, 0.2)
    vertices, faces = join(big, (speck[0] + 1, speck[1]), inner)
    faces = np.concatenate([faces[1:], faces[5:6]])
    steps = []
    mesh, report = finish_mesh(part(vertices, faces), FinishOptions(holes=1.0, shells=True),
                               progress=lambda *at: steps.append(at))  # fmt: skip
    assert report.before == Counts(len(faces), 594, 3, 3, 0, 5, report.before.euler)
    assert report.after == Counts(768, 386, 0, 0, 0, 1, 2)
    text = report.text()
    for said in ("border edges", "Euler", "dust", "hidden shells", "duplicate", "holes"):
        assert said in text
    assert steps[-1][0] == steps[-1][1] and sorted(steps) == steps
    assert torch.allclose(mesh.normals, torch.nn.functional.normalize(mesh.vertices, dim=1), atol=0.06)


def sheet(steps=24):
    """A square with texture coordinates, cut in two charts along its middle."""
    line = np.linspace(0, 1, steps + 1)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    i, j = np.meshgrid(np.arange(steps), np.arange(steps), indexing="ij")
    a = (i * (steps + 1) + j).reshape(-1)
    faces = np.concatenate([np.stack([a, a + steps + 1, a + steps + 2], 1), np.stack([a, a + steps + 2, a + 1], 1)])
    right = grid[faces].mean(1)[:, 0] > 0.5
    faces = np.where(right[:, None], faces + len(grid), faces)
    bend = 0.05 * np.sin(3 * grid[:, :1])
    vertices = np.concatenate([grid, bend], 1)
    uv = np.concatenate([grid * 0.45, grid * 0.45 + 0.5])
    colors = np.concatenate([grid, grid[:, :1]], 1)
    return part(np.concatenate([vertices, vertices]), faces, uv=torch.from_numpy(uv).float(),
                colors=torch.from_numpy(np.concatenate([colors, colors])).float(),
                material=Material(base_color=torch.rand(4, 4, 3)))  # fmt: skip


def test_texture_coordinates_and_colors_survive():
    mesh = sheet()
    kept, _ = finish_mesh(mesh)
    assert len(kept.vertices) == len(torch.unique(mesh.faces)) and kept.material.base_color is not None
    assert torch.equal(kept.vertices[kept.faces], mesh.vertices[mesh.faces])
    assert torch.equal(kept.uv[kept.faces], mesh.uv[mesh.faces])
    assert torch.equal(kept.colors[kept.faces], mesh.colors[mesh.faces])
    small, report = finish_mesh(mesh, FinishOptions(faces=400))
    assert len(small.faces) < 0.6 * len(mesh.faces)
    assert report.after.border_edges == 4 * 24 and report.after.components == 1  # no crack along the seam
    where = torch.where(small.uv[:, :1] > 0.475, small.uv - 0.5, small.uv) / 0.45
    assert (where - small.vertices[:, :2]).abs().max() < 1e-4
    assert (small.colors[:, :2] - small.vertices[:, :2]).abs().max() < 1e-4
    same(*(finish_mesh(one, FinishOptions(faces=len(small.faces)))[0] for one in (small, small)))
    bare, _ = finish_mesh(mesh, FinishOptions(keep_uv=False))
    assert bare.uv is None and bare.material.base_color is None and len(bare.vertices) == 25 * 25


def test_flat_sides_stay_flat_and_closed():
    vertices, faces = ball(16)
    vertices = vertices / np.abs(vertices).max(1, keepdims=True)  # back to the cube
    vertices[:, 2] /= 4
    mesh, report = finish_mesh(part(vertices, faces), FinishOptions(faces=300))
    found, closed = checked(mesh)
    assert report.after.border_edges == 0 and report.after.euler == 2 and len(closed) <= 300
    assert volume(found, closed) == pytest.approx(volume(vertices, faces), rel=1e-5)


def test_colors_of_a_decimated_ball():
    vertices, faces = ball(24)
    mesh = part(vertices, faces, colors=torch.from_numpy(vertices + 0.5).float())
    small, _ = finish_mesh(mesh, FinishOptions(faces=600))
    checked(small)
    assert len(small.faces) <= 600 and (small.colors - small.vertices - 0.5).abs().max() < 0.01


def test_remeshed_what_was_torn_is_closed():
    mesh = sheet(12)
    new, report = finish_mesh(mesh, FinishOptions(remesh=30, project_back=0.5))
    checked(new)
    assert report.after.border_edges == 0 and report.after.components == 1 and new.uv is None
    assert new.material.base_color is None and (new.colors[:, :2] - new.vertices[:, :2]).abs().max() < 0.05
    vertices, faces = ball(16)
    new, report = finish_mesh(part(vertices, np.delete(faces, slice(0, 900, 40), 0)), FinishOptions(holes=0, remesh=30))
    assert report.after.border_edges == 0
    assert "remeshed" in report.text()


def test_it_can_be_stopped():
    class Stop(Exception):
        pass

    def stop(done, total):
        if done > 30:
            raise Stop

    with pytest.raises(Stop):
        finish_mesh(part(*ball(4)), progress=stop)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(faces=3), "needs 4"),
        (dict(faces=-1), "between 0"),
        (dict(weld=float("nan")), "`weld`"),
        (dict(holes=-1.0), "`holes`"),
        (dict(dust=2.0), "`dust`"),
    ],
)
def test_options_out_of_range(change, sentence):
    with pytest.raises(InputError, match=sentence):
        FinishOptions(**change)


def test_a_mesh_without_area():
    with pytest.raises(InputError, match="area"):
        finish_mesh(part(np.zeros((3, 3)), np.array([[0, 1, 2]])))
    with pytest.raises(InputError, match="not finite"):
        part(np.full((3, 3), np.nan), np.array([[0, 1, 2]]))
    with pytest.raises(InputError, match="no face"):
        part(np.zeros((3, 3)), np.zeros((0, 3), np.int64))
