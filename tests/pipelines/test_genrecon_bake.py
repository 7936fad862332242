"""Scenes to GLB: parts that are simplified one by one stay joined, remeshing, colors."""

import io

import numpy as np
import pytest
import torch
import trimesh

from sightline.models.genrecon.scene_files import WorldScene
from sightline.pipelines.genrecon_bake import bake_scene, finish_scene, plain_glb, remesh_cells, scene_parts
from sightline.scene.errors import InputError
from sightline.scene.frames import turn_points

VOXEL = 0.05


@pytest.fixture(scope="module")
def scene():
    """A wavy floor of 4 m x 2 m over two chunks of 2 m, in voxels of 5 cm."""
    x, y = np.meshgrid(np.linspace(0.02, 3.98, 100), np.linspace(0.02, 1.98, 50), indexing="ij")
    vertices = np.stack([x, y, 0.5 + 0.1 * np.sin(3 * x) * np.cos(2 * y)], -1).reshape(-1, 3)
    i, j = (a.reshape(-1) for a in np.meshgrid(np.arange(99), np.arange(49), indexing="ij"))
    a, b, c, d = i * 50 + j, (i + 1) * 50 + j, (i + 1) * 50 + j + 1, i * 50 + j + 1
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    near = np.floor(vertices / VOXEL).astype(int)
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    coords = np.unique((near[:, None] + steps).reshape(-1, 3).clip(0), axis=0)
    attributes = torch.full((len(coords), 6), 0.5)
    attributes[:, 0] = torch.from_numpy(coords[:, 0] / 80.0)
    centers = torch.tensor([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
    aabb = torch.tensor([[0.0, 0.0, 0.0], [4.0, 4.0, 4.0]])
    return WorldScene(
        torch.from_numpy(vertices).float(), torch.from_numpy(faces).int(), torch.from_numpy(coords).int(), attributes,
        aabb, VOXEL, centers, 2.0, (0, 1),
    )  # fmt: skip


def parts_of(data):
    """vertices and faces of every part of a GLB."""
    loaded = trimesh.load(io.BytesIO(data), file_type="glb", process=False)
    assert sorted(loaded.geometry) == ["chunk_000", "chunk_001"]
    found = [loaded.geometry[name] for name in sorted(loaded.geometry)]
    return [(np.asarray(m.vertices, np.float32), np.asarray(m.faces)) for m in found]


def common(first, second):
    """The places that both have, to the bit."""
    return {tuple(v) for v in first.tolist()} & {tuple(v) for v in second.tolist()}


@pytest.mark.parametrize("target", [0, 600])
def test_parts_stay_joined_to_the_bit(scene, target):
    finished = finish_scene(scene, hole_perimeter=0.0)
    whole = scene_parts(finished)
    seam = common(*(turn_points(vertices, "z_up", "y_up") for _, vertices, _ in whole))
    assert len(seam) == 98
    for glb in (
        plain_glb(finished, target=target, workers=2),
        bake_scene(finished, 128, method="box", target=target, workers=2),
    ):
        found = parts_of(glb)
        assert common(found[0][0], found[1][0]) == seam
        for (_, faces), (_, _, before) in zip(found, whole, strict=True):
            assert len(faces) <= 700 if target else len(faces) == len(before)


def test_workers_change_nothing(scene):
    finished = finish_scene(scene, hole_perimeter=0.0)
    assert plain_glb(finished, target=600, workers=2) == plain_glb(finished, target=600)


def test_a_scene_is_remeshed_as_a_whole(scene):
    assert remesh_cells(scene) == round(3.96 / VOXEL)
    finished = finish_scene(scene, hole_perimeter=0.0, remesh_cells=60)
    edges = np.sort(finished.faces.numpy()[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), 1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all(), "the shell around a sheet is closed"
    height = 0.5 + 0.1 * torch.sin(3 * finished.vertices[:, 0]) * torch.cos(2 * finished.vertices[:, 1])
    assert (finished.vertices[:, 2] - height).abs().max() < 0.03
    found = parts_of(plain_glb(finished))
    assert common(found[0][0], found[1][0])


def test_what_a_remesh_moved_off_the_voxels_keeps_a_color(scene):
    from sightline.pipelines.genrecon_bake import _values

    points = scene.vertices[:5] + torch.tensor([0.0, 0.0, 0.4])
    assert not scene.sample(points).any()
    assert (_values(scene, points)[:, 1] == 0.5).all()


def test_stopping_stops_the_rest(scene):
    class Stop(Exception):
        pass

    def stop(stage, done, total):
        raise Stop

    with pytest.raises(Stop):
        plain_glb(scene, progress=stop)


def test_a_scene_without_a_face_is_refused(scene):
    from dataclasses import replace

    with pytest.raises(InputError, match="no face"):
        plain_glb(replace(scene, faces=scene.faces[:0]))
