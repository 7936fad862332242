"""Completion with the embedded Pixal3D family: the lower half is hidden, the priors decide it."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.models.relaxflow.settings import RelaxSettings, StageSettings
from sightline.models.trellis2.family import EMBEDDED_FOLDER, embedded_family
from sightline.models.trellis2.image_condition import FrontCamera
from sightline.pipelines.relaxflow_cascade import complete_projected
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
