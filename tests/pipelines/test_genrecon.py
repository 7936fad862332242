"""A scene from photos with tiny random networks: the same whatever way it is computed, resumed, or divided."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from genrecon_tiny import STEPS, scene_family
from scene_captures import model, write_capture

from sightline.models.genrecon.scene_files import (
    LAYOUT,
    encode_scene_ply,
    import_baker_inputs,
    load_scene_voxels,
    save_scene_voxels,
    world_scene,
)
from sightline.pipelines.genrecon import (
    PlanOptions,
    SampleOptions,
    decode_latents,
    encode_views,
    plan_scene,
    sample_scene,
)
from sightline.pipelines.genrecon_bake import bake_scene, finish_scene, plain_glb, scene_parts
from sightline.scene.captures import PointFilter, read_capture
from sightline.scene.errors import InputError
from sightline.scene.files import Outputs

SAMPLERS = {role: {**steps, "guidance_strength": 2.0} for role, steps in STEPS.items()}
OPTIONS = SampleOptions(samplers=SAMPLERS, occ_threshold=0.0)
PLAN = PlanOptions(
    min_points_per_chunk=20, num_imgs_per_scene=3, points=PointFilter(clean=False), bounds=((-1.5, 2.5), (-0.5, 0.5))
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("capture")
    return plan_scene(read_capture(write_capture(folder, model(5))), PLAN)


@pytest.fixture(scope="module")
def family():
    return scene_family()


@pytest.fixture(scope="module")
def whole(family, plan):
    return sample_scene(family, plan, OPTIONS)


def same(a, b):
    assert len(a.coords) == len(b.coords)
    for name in ("coords", "shape", "texture"):
        for x, y in zip(getattr(a, name), getattr(b, name)):
            assert torch.equal(x, y), name


def test_every_photo_is_encoded_once(family, plan):
    family.image_encoder.runs = 0
    views = encode_views(family, plan, batch=2)
    assert family.image_encoder.runs == -(-len(plan.views) // 2)
    assert views.tokens.shape[0] == len(plan.views) == len(views.extrinsics)


def test_overlaps_agree_and_chunks_differ(whole):
    first, second = (np.asarray(c) for c in whole.coords[:2])
    shift = np.round((whole.relative[1] - whole.relative[0]).numpy() * whole.resolution).astype(int)
    place = {tuple(c): i for i, c in enumerate(first)}
    pairs = [(place[tuple(c + shift)], i) for i, c in enumerate(second) if tuple(c + shift) in place]
    inner = [(i, j) for i, j in pairs if (1 <= second[j][:2]).all() and (second[j][:2] < 15).all()]
    inner = [(i, j) for i, j in inner if (1 <= first[i][:2]).all() and (first[i][:2] < 15).all()]
    assert len(inner) > 5
    i, j = zip(*inner)
    assert torch.equal(whole.shape[0][list(i)], whole.shape[1][list(j)])


def test_batches_and_condition_from_a_file_change_nothing(family, plan, whole):
    found = sample_scene(family, plan, SampleOptions(**{**vars(OPTIONS), "batch": 2}), store_bytes=0)
    assert all(torch.equal(a, b) for a, b in zip(found.coords, whole.coords))
    for a, b in zip(found.shape + found.texture, whole.shape + whole.texture):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("store_bytes", [0, 1 << 30])
def test_shape_and_texture_share_one_projection(family, plan, whole, monkeypatch, store_bytes):
    from sightline.models.genrecon import joint_condition

    project, counts = joint_condition.project_to_patches, []

    def counted(points, *given):
        counts.append(len(points))
        return project(points, *given)

    monkeypatch.setattr(joint_condition, "project_to_patches", counted)
    same(sample_scene(family, plan, OPTIONS, store_bytes=store_bytes), whole)
    once = sum(counts)
    counts.clear()
    monkeypatch.setattr(joint_condition.LatticeProjection, "fits", lambda *given: False)
    same(sample_scene(family, plan, OPTIONS), whole)
    cells = {tuple(c) for i, c in voxels_of(whole)}
    assert sum(counts) - once == len(cells)


def voxels_of(latents):
    """(chunk, voxel on the lattice) of every voxel of every chunk."""
    for i, coords in enumerate(latents.coords):
        shift = np.round(latents.relative[i].numpy() * latents.resolution).astype(int)
        for row in coords.numpy() + shift:
            yield i, row


class Stop(Exception):
    pass


@pytest.mark.parametrize("stage", ["structure", "shape", "texture"])
def test_an_interrupted_run_goes_on(family, plan, whole, tmp_path, stage):
    seen = []

    def stop(name, done, total):
        if name == stage and done == len(plan.layout) + 1:  # in the second step
            raise Stop

    with pytest.raises(Stop):
        sample_scene(family, plan, OPTIONS, folder=tmp_path, progress=stop)
    assert (tmp_path / f"{stage}-step.safetensors").is_file()
    found = sample_scene(family, plan, OPTIONS, folder=tmp_path, progress=lambda name, *_: seen.append(name))
    same(found, whole)
    steps = dict(structure=2, shape=3, texture=2)[stage] - 1
    assert seen.count(stage) == steps * len(plan.layout)
    before = ["structure", "shape", "texture"].index(stage)
    assert not set(seen) & set(["structure", "shape", "texture"][:before])


def test_stages_of_another_run_are_not_taken(family, plan, tmp_path):
    sample_scene(family, plan, OPTIONS, folder=tmp_path)
    other = SampleOptions(**{**vars(OPTIONS), "seed": 7})
    with pytest.raises(InputError, match="of another run"):
        sample_scene(family, plan, other, folder=tmp_path)
    sample_scene(family, plan, other, folder=tmp_path, restart=True)


RANK = """
import sys
sys.path[:0] = {paths!r}
import torch
from genrecon_tiny import scene_family
from test_genrecon import OPTIONS, PLAN
from sightline.models.genrecon.processes import join_processes, leave_processes
from sightline.pipelines.genrecon import plan_scene, sample_scene
from sightline.scene.captures import read_capture
processes = join_processes()
assert processes.world == 2
found = sample_scene(scene_family(), plan_scene(read_capture({folder!r}), PLAN), OPTIONS, processes=processes)
if processes.first:
    torch.save([found.coords, found.shape, found.texture], {target!r})
leave_processes()
"""


def test_two_processes_give_what_one_gives(plan, whole, tmp_path):
    write_capture(tmp_path, model(5))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [p for p in sys.path if p] + [str(Path(__file__).parent)]
    code = RANK.format(paths=paths, folder=str(tmp_path), target=str(tmp_path / "found.pt"))
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([sys.executable, "-c", code], env={**shared, "RANK": str(r)}) for r in (0, 1)]
    assert [rank.wait(timeout=300) for rank in ranks] == [0, 0]
    coords, shape, texture = torch.load(tmp_path / "found.pt", weights_only=True)
    for mine, theirs in ((whole.coords, coords), (whole.shape, shape), (whole.texture, texture)):
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(b, a, atol=1e-6, rtol=1e-6)


def test_empty_chunks_are_dropped(family, plan, whole):
    counts = sorted(len(c) for c in whole.coords)
    assert counts[0] > 0
    with pytest.raises(InputError, match="No chunk has an occupied voxel"):
        sample_scene(family, plan, SampleOptions(**{**vars(OPTIONS), "occ_threshold": 99.0}))


@pytest.fixture(scope="module")
def scene(family, whole):
    mesh = decode_latents(family, whole)
    return world_scene(mesh, whole.joint_to_world, torch.from_numpy(whole.layout.centers), whole.layout.names)


def test_groups_and_blocks_decode_the_same(family, whole):
    mesh = decode_latents(family, whole)
    for options in (dict(max_chunks_per_group=1), dict(max_voxels_per_group=300), dict(memory=400 << 20)):
        other = decode_latents(family, whole, **options)
        assert torch.equal(other.faces, mesh.faces) and torch.equal(other.coords, mesh.coords)
        torch.testing.assert_close(other.vertices, mesh.vertices, atol=1e-5, rtol=1e-5)


def test_the_scene_lies_in_its_world(scene, plan):
    low = plan.layout.centers.min(0) - plan.layout.size / 2
    high = plan.layout.centers.max(0) + plan.layout.size / 2
    reach = 0.6 * scene.voxel_size
    assert (scene.vertices.numpy() >= low - reach).all() and (scene.vertices.numpy() <= high + reach).all()
    assert scene.voxel_size == pytest.approx(plan.layout.size / 64)


def test_scene_voxels_come_back(scene, tmp_path):
    with Outputs() as outputs:
        save_scene_voxels(scene, tmp_path / "a.safetensors", outputs)
    back = load_scene_voxels(tmp_path / "a.safetensors")
    for name in ("vertices", "faces", "coords", "attributes", "chunk_centers"):
        assert torch.equal(getattr(back, name), getattr(scene, name)), name
    assert back.names == scene.names and back.voxel_size == scene.voxel_size
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match="no scene voxels"):
        load_scene_voxels(tmp_path / "a.safetensors")


def test_the_old_baker_inputs_are_read_without_being_executed(scene, tmp_path):
    layout = {name: slice(*span) for name, span in LAYOUT.items()}
    data = {
        "vertices": scene.vertices, "faces": scene.faces, "attr_volume": scene.attributes, "coords": scene.coords,
        "attr_layout": layout, "aabb": scene.aabb.tolist(), "voxel_size": scene.voxel_size,
    }  # fmt: skip
    chunks = {"chunk_centers_world": scene.chunk_centers, "chunk_size_world": scene.chunk_size, "chunk_indices": [0, 1]}
    torch.save(data, tmp_path / "to_glb_inputs.pt")
    torch.save(chunks, tmp_path / "chunk_inputs.pt")
    back = import_baker_inputs(tmp_path / "to_glb_inputs.pt", tmp_path / "chunk_inputs.pt")
    assert torch.equal(back.vertices, scene.vertices) and back.chunk_size == scene.chunk_size

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    torch.save({**data, "extra": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="no file of plain tensors"):
        import_baker_inputs(tmp_path / "evil.pt")
    assert not (tmp_path / "owned").exists()


def test_ply_and_glb(scene):
    ply = encode_scene_ply(scene)
    assert ply.startswith(b"ply\nformat binary_little_endian") and b"property uchar roughness" in ply[:600]
    finished = finish_scene(scene, smooth_iterations=1)
    parts = scene_parts(finished)
    assert sum(len(faces) for _, _, faces in parts) == len(finished.faces)
    for glb in (plain_glb(finished), bake_scene(finished, 128, method="box")):
        document = json.loads(glb[20 : 20 + int.from_bytes(glb[12:16], "little")])
        names = {node.get("name", "") for node in document["nodes"]} | {m.get("name", "") for m in document["meshes"]}
        assert len(document["meshes"]) == len(parts) and any(name.startswith("chunk_00") for name in names)


def test_plans_that_cannot_work():
    scene = read_bad()
    for options, complaint in [
        (PlanOptions(num_imgs_per_scene=0), "0 photos"),
        (PlanOptions(num_imgs_per_scene=10_000), "10000 photos"),
    ]:
        with pytest.raises(InputError, match=complaint):
            plan_scene(scene, options)
    with pytest.raises(InputError, match="no points; give the bounds"):
        plan_scene(scene)


def read_bad():
    from sightline.scene.scene_photos import photos_from_cameras

    pictures = [np.zeros((8, 8, 3), np.uint8)]
    return photos_from_cameras(pictures, np.eye(4)[None], np.array([[[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]]))
