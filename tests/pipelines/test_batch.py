"""Batches: an item does not know of its neighbors, and the progress says how much is left."""

import numpy as np
import pytest
import torch
from trellis2_tiny import STEPS, cascade, picture

from sightline.models.trellis2.image_condition import FrontCamera
from sightline.pipelines import pixal3d, trellis2
from sightline.pipelines.batch import sample_batch, sampling_steps
from sightline.scene.errors import InputError

OPTIONS = dict(samplers=STEPS, pipeline_type="1024_cascade")


def assert_equal(one, other):
    assert one.resolution == other.resolution and torch.equal(one.structure, other.structure)
    for name in ("low", "shape", "texture"):
        a, b = getattr(one, name), getattr(other, name)
        assert torch.equal(a.coords, b.coords) and torch.equal(a.feats, b.feats)


@pytest.mark.parametrize("projected", [False, True], ids=["trellis2", "pixal3d"])
def test_an_item_equals_its_solo_run(projected):
    family = cascade(projected)
    pipeline = pixal3d if projected else trellis2
    cameras = [(FrontCamera(fov),) if projected else () for fov in (0.4, 0.6, 0.9)]
    items = [(pipeline.prepare_picture(picture(i, 40 + 8 * i)), *camera) for i, camera in enumerate(cameras)]
    found = sample_batch(pipeline.sample_latents, family, items, seed=[3, 4, 3], **OPTIONS)
    for item, seed, latents in zip(items, (3, 4, 3), found):
        assert_equal(latents, pipeline.sample_latents(family, *item, seed=seed, **OPTIONS))
    turned = sample_batch(pipeline.sample_latents, family, items[::-1], seed=[3, 4, 3], **OPTIONS)
    for one, other in zip(found, turned[::-1]):
        assert_equal(one, other)
    assert not torch.equal(found[0].low.feats[:9], found[2].low.feats[:9])  # the same seed, another picture


def test_one_seed_counts_up():
    family, items = cascade(False), [(trellis2.prepare_picture(picture()),)] * 2
    found = sample_batch(trellis2.sample_latents, family, items, seed=7, **OPTIONS)
    again = sample_batch(trellis2.sample_latents, family, items, seed=[7, 8], **OPTIONS)
    for one, other in zip(found, again):
        assert_equal(one, other)


@pytest.mark.parametrize("kind, steps", [("512", 6), ("1024_cascade", 8)])
def test_progress_counts_every_step_of_every_item(kind, steps):
    family, seen, stages = cascade(False), [], []
    items = [(trellis2.prepare_picture(picture(i)),) for i in range(2)]
    sample_batch(
        trellis2.sample_latents,
        family,
        items,
        callback=lambda *step: seen.append(step),
        progress=lambda stage, *rest: stages.append(stage),
        samplers=STEPS,
        pipeline_type=kind,
    )
    assert sampling_steps(family, kind, STEPS) == steps
    assert seen == [(i + 1, 2 * steps) for i in range(2 * steps)] and len(stages) == 2 * steps

    def stop(done, total):
        if done == steps + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_batch(trellis2.sample_latents, family, items, callback=stop, samplers=STEPS, pipeline_type=kind)


def test_refusals_name_the_item():
    family, good = cascade(False), (trellis2.prepare_picture(picture()),)
    bad = (np.zeros((5, 5), np.uint8),)
    with pytest.raises(InputError, match="no object"):
        sample_batch(trellis2.sample_latents, family, [])
    with pytest.raises(InputError, match="2 objects and 1 seeds"):
        sample_batch(trellis2.sample_latents, family, [good, good], seed=[1])
    with pytest.raises(InputError, match="^Object 2 of 2: "):
        sample_batch(trellis2.sample_latents, family, [good, bad], **OPTIONS)
    with pytest.raises(InputError, match="^(?!Object)"):
        sample_batch(trellis2.sample_latents, family, [bad], **OPTIONS)
