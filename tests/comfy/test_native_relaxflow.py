"""RelaxFlow's nodes on core's own TRELLIS.2, in a ComfyUI that has it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.cli import headless

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    run = subprocess.run(
        [sys.executable, str(HERE / "native_relaxflow.py"), str(tree.path), str(tmp_path_factory.mktemp("base"))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("FOUND ")]
    assert run.returncode == 0 and lines, run.stderr[-4000:]
    result = json.loads(lines[0].removeprefix("FOUND "))
    if result.get("absent"):
        pytest.skip(f"ComfyUI {tree.version_text} has no TRELLIS.2 models of its own (0.33 has)")
    return result


BLURS = ["structure", "both all zero", "both all replicate", "self negative reflect", "cross positive renormalised"]


@pytest.mark.parametrize("case", BLURS)
def test_the_blur_node_is_blurring_the_matrix_of_logits(found, case):
    error, effect = found["blurred"][case]
    assert error < 1e-5 < 1e-4 < effect


def test_without_the_blur_nothing_is_left_of_it(found):
    assert found["blurred"]["after removal"] and found["blurred"]["sigma 0"]


def test_alpha_0_is_cfg_bit_for_bit(found):
    guiders = found["guiders"]
    assert guiders["structure, alpha 0"] and guiders["alpha 0"] and guiders["weight 0"]


def test_a_prior_that_is_the_observation_and_a_mask_over_all_change_nothing(found):
    assert found["guiders"]["prior is the observation"] < 1e-5
    assert found["guiders"]["all visible"] < 1e-5
    assert found["guiders"]["half visible"] > 1e-3 and found["guiders"]["moved"] > 1e-3


def test_nothing_is_evaluated_in_vain(found):
    """25 guided steps; the prior counts in 6 (paper) or 11 (0.4) of them, in the first alone."""
    assert found["guiders"]["evaluations"] == {
        "paper": 2 * 25 + 6 - 1,
        "cross": 2 * 25 + 11 - 1,
        "masked": 2 * 25 + 11,
        "as released": 2 * 25 + 2 * 11 - 2,
        "self": 2 * 25 + 2 * 11 - 2,
        "cfg 1": 25 + 11 - 1,
    }
    assert found["guiders"]["shared"] == 0.0


def test_priors_of_several_conditionings_and_of_a_batch(found):
    sparse = found["sparse_guider"]
    assert sparse["tokens"][1] == sparse["embeds"][1] == 2 * sparse["mean"][1]
    assert sparse["batch"][1] == 3 * sparse["mean"][1] and sparse["batch"][0] == 1
    assert sparse["moved"] > 1e-3 and sparse["finite"] and sparse["mode"] == "shape_generation_512"


def test_visibility(found):
    seen = found["visibility"]
    assert seen["shape"] == [16, 16, 16] and seen["preview"] == [1, 384, 768, 3]
    assert seen["front"] == seen["air"] == seen["upper"] == seen["z front"] == 1.0
    assert seen["back"] < 0.01 and seen["z back"] < 0.01 and seen["lower"] == 0.0
    assert seen["override"]


SAID = {
    "sigma negative": "from 0 (no blur) to 50",
    "sigma 51": "from 0 (no blur) to 50",
    "unreachable": "could not be blurred",
    "no priors": "There are no priors",
    "unequal priors": "'concat' does not",
    "alpha": "0 to 2",
    "weight": "prior_weight",
    "empty voxel": "empty item",
    "two voxels": "2 objects",
    "fov": "between 0 and 180",
}


@pytest.mark.parametrize("case", SAID)
def test_wrong_use_is_told_in_one_sentence(found, case):
    said = found["refusals"][case]
    assert SAID[case] in said and said.endswith(".") and "\n" not in said


def test_every_refusal_was_judged(found):
    assert set(found["refusals"]) == set(SAID)
