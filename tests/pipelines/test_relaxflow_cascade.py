"""Completion with the embedded Pixal3D family: the lower half is hidden, the priors decide it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from trellis2_family import ENCODER, write_encoder, write_family

from sightline.models.relaxflow.settings import RelaxSettings, StageSettings
from sightline.models.trellis2.cascade import load_cascade
from sightline.models.trellis2.family import EMBEDDED_FOLDER, embedded_family, read_encoder
from sightline.models.trellis2.image_condition import FrontCamera
from sightline.models.trellis2.samplers import SamplerSettings
from sightline.pipelines.relaxflow_cascade import complete_projected, stage_size
from sightline.scene.errors import InputError

INPUTS = EMBEDDED_FOLDER.parents[2] / "workflows" / "inputs"
HOLD = StageSettings(schedule="two_stage", schedule_args={"alpha0": 1.0, "warmup": 0.0, "hold": 1.0})
CAMERA = FrontCamera(math.radians(49.1343))


def picture(name):
    rgba = np.asarray(Image.open(INPUTS / f"pixal3d_{name}.png").convert("RGBA")).astype(float)
    return (rgba[..., :3] * rgba[..., 3:] / 255).astype(np.uint8)


@pytest.fixture(scope="module")
def completed():
    """The chair with its lower half hidden, completed by two priors."""
    family, hidden = embedded_family(), picture("chair")
    cut = int(len(hidden) * 0.56)
    hidden[cut:] = 0
    occluder = torch.zeros(hidden.shape[:2])
    occluder[cut:] = 1
    options = dict(occluder=occluder, settings=RelaxSettings(HOLD, HOLD), seed=3, structure_only=True)
    return [complete_projected(family, hidden, [picture(name)], CAMERA, **options) for name in ("chair", "sofa")]


def test_what_is_seen_stays_and_the_priors_decide_the_rest(completed):
    chair, sofa = completed
    assert torch.equal(chair.observed, sofa.observed) and len(chair.observed) > 50
    assert chair.iou() >= 0.95 and sofa.iou() >= 0.95
    grids = []
    for one in completed:
        grid = torch.zeros_like(one.visible, dtype=torch.bool)
        grid[tuple(one.coords.long().T)] = True
        grids.append(grid & (one.visible <= 0.5))
    assert min(int(grid.sum()) for grid in grids) > 50
    overlap = int((grids[0] & grids[1]).sum()) / int((grids[0] | grids[1]).sum())
    assert overlap < 0.8, "the two priors give two completions"
    low = chair.visible.shape[0] // 2
    assert (chair.coords[:, 1] < low).sum() > (chair.observed[:, 1] < low).sum()


def test_no_prior():
    with pytest.raises(InputError, match="no priors"):
        complete_projected(embedded_family(), picture("chair"), [], CAMERA)


@pytest.mark.parametrize(("kind", "prior"), [("mug", "lamp"), ("table", "sofa")])
def test_what_is_seen_is_held_whatever_the_prior_is(kind, prior):
    """Even where the prior is of another kind; without holding, the seen part is only guided."""
    family, hidden = embedded_family(), picture(kind)
    rows = np.nonzero(hidden.max((1, 2)))[0]
    cut = int(rows[0] + rows[-1]) // 2
    hidden[cut:] = 0
    occluder = torch.zeros(hidden.shape[:2])
    occluder[cut:] = 1
    options = dict(occluder=occluder, settings=RelaxSettings(HOLD, HOLD), seed=3, structure_only=True)
    held = complete_projected(family, hidden, [picture(prior)], CAMERA, **options)
    assert held.iou() >= 0.95 and len(held.coords) > len(held.observed) > 50
    visible = held.visible
    given = complete_projected(family, hidden, [picture(prior)], CAMERA, visible=visible, **options)
    assert torch.equal(given.coords, held.coords), "a mask of one's own replaces the depth test"


def test_cameras_of_the_priors():
    with pytest.raises(InputError, match="one each"):
        complete_projected(embedded_family(), picture("chair"), [picture("sofa")], CAMERA, prior_cameras=[CAMERA] * 2)


def test_a_family_laid_out_as_published_is_completed_at_1024(tmp_path):
    """The published Pixal3D has no texture network of 512; its stages of 1024 are used, in one pass each."""
    write_family(tmp_path, True)
    write_encoder(tmp_path / "clip_vision")
    family = load_cascade(tmp_path)
    family.image_encoder, family.naf = read_encoder(tmp_path / "clip_vision" / ENCODER)
    small = np.random.default_rng(0).integers(32, 255, (64, 64, 3), dtype=np.uint8)
    assert stage_size(family) == "512"
    del family.models["tex_slat_flow_model_512"]
    assert stage_size(family) == "1024"
    family.config = dataclasses.replace(
        family.config, samplers={name: SamplerSettings(2, 3.0) for name in family.config.samplers}
    )
    told = []
    done = complete_projected(
        family, small, [small[::-1].copy()], CAMERA, progress=lambda done, total: told.append((done, total))
    )
    assert done.latents.resolution == 64 and done.latents.shape.feats.isfinite().all()
    assert told == [(n, 12) for n in range(1, 13)]
    del family.models["tex_slat_flow_model_1024"]
    with pytest.raises(InputError, match="512 or 1024"):
        complete_projected(family, small, [small], CAMERA)
