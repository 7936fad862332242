"""Drawn views: deterministic shards, disjoint held-out objects, and the pose rule."""

import json

import numpy as np
import pytest
import torch

from sightline.scene.errors import InputError
from sightline.training.procedural.pictures import PICTURES, write_input_pictures
from sightline.training.sparsegen.procedural_data import (
    HELD_OUT_START,
    MAX_FIRST_ELEVATION,
    draw_views,
    prepare,
    read_shards,
    sample_batch,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    assert list(prepare(folder, 6, 4, 16, held_out=4, shard=4))[-1] == (4, 4)
    return folder


def test_shards_hold_what_was_drawn(folder):
    shard = read_shards(folder, "train-16")
    assert shard.rgba.shape == (6, 4, 16, 16, 4) and shard.indices == list(range(6))
    rgba, azimuth, elevation = draw_views(4, 4, 16)
    assert np.array_equal(shard.rgba[4], rgba)
    assert np.array_equal(shard.azimuth[4], azimuth) and np.array_equal(shard.elevation[4], elevation)


def test_finished_shards_are_kept_and_parts_share_the_work(folder, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    list(prepare(folder, 6, 4, 16, held_out=4, shard=4))
    assert before == {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    for k in range(2):
        list(prepare(tmp_path, 6, 4, 16, held_out=4, shard=4, part=(k, 2)))
    for path in folder.iterdir():
        with np.load(path) as ours, np.load(tmp_path / path.name) as theirs:
            assert np.array_equal(ours["rgba"], theirs["rgba"])


def test_evaluated_objects_are_never_trained_on(folder):
    train, held_out, unseen = (read_shards(folder, f"{p}-16") for p in ("train", "heldout", "unseen"))
    assert max(train.indices) < HELD_OUT_START <= min(held_out.indices + unseen.indices)
    assert not set(unseen.kinds) & set(train.kinds)
    assert all(seed >= HELD_OUT_START and seed not in held_out.indices + unseen.indices for _, seed, *_ in PICTURES)


def test_first_view_stands_at_azimuth_zero(folder):
    shard = read_shards(folder, "train-16")
    batch = sample_batch(shard, np.random.default_rng(0), 5, 3)
    assert batch.images.shape == (5, 3, 3, 16, 16) and batch.alpha.shape == (5, 3, 1, 16, 16)
    assert torch.equal(batch.azimuth[:, 0], torch.zeros(5))
    assert float(batch.elevation[:, 0].max()) <= MAX_FIRST_ELEVATION
    centers = torch.linalg.inv(batch.world_to_camera())[:, :, :3, 3]
    assert torch.allclose(centers[:, 0, 1], torch.zeros(5), atol=1e-5) and bool((centers[:, 0, 0] > 0).all())
    assert torch.equal(batch.images[batch.alpha.expand_as(batch.images) == 0].unique(), torch.ones(1))


def test_missing_shards_are_named(tmp_path):
    with pytest.raises(InputError, match="train-64"):
        read_shards(tmp_path, "train-64")


def test_shipped_input_pictures_are_drawn_by_this_code(repository, tmp_path):
    from PIL import Image

    shipped = repository / "workflows" / "inputs"
    written = write_input_pictures(tmp_path)
    assert json.loads((shipped / "sparsegen_inputs.json").read_text()) == json.loads(written[-1].read_text())
    assert sum(p.stat().st_size for p in written) < 400_000
    for path in written[:-1]:
        ours, theirs = (np.asarray(Image.open(f / path.name)).astype(int) for f in (tmp_path, shipped))
        assert np.abs(ours - theirs).max() <= 2 and ours.shape == (256, 256, 3)
        assert (ours[0] == 255).all() and (ours[:, 0] == 255).all()
