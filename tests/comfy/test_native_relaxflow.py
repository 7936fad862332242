"""RelaxFlow's nodes on core's own TRELLIS.2, in a ComfyUI that has it."""

import pytest
from inside_comfyui import ask


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    return ask("native_relaxflow.py", tmp_path_factory.mktemp("base"))


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


def test_what_is_held_ends_where_the_picture_alone_ends(found):
    seen, hidden = found["guiders"]["held"]
    assert seen < 1e-6 and hidden > 1e-3 and found["guiders"]["held twice"]


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


def test_visibility_from_a_depth_map_a_camera_of_ones_own_and_a_known_layout(found):
    seen = found["visibility"]
    assert seen["near wall"] < 0.01 and seen["far measured"] == 1.0
    assert seen["own camera"][0] == 1.0 and seen["own camera"][1] < 0.01
    assert seen["layout"][0] < 0.01 and seen["layout"][1] == 1.0


def test_a_mask_over_nothing_and_over_all_is_a_mask(found):
    assert found["visibility"]["nothing"] == 0.0 and found["visibility"]["whole"] == 1.0


def test_true_axes_and_priors_apart_are_blurring_the_matrix_of_logits(found):
    axes = found["axes"]
    assert max(axes["cross"], axes["apart"], axes["self, voxels"]) < 1e-5
    assert axes["structure"] > 1e-5 and axes["ragged"] > 1e-5


SAID = {
    "true axes": "fill a square",
    "priors": "do not divide",
    "subject": "1 vase, 2 wall",
    "scene and depth": "a camera and depths of its own",
    "settings": "from 0 (no blur) to 50",
    "hold without a mask": "connect Visibility Mask",
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
