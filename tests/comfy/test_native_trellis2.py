"""Projection Conditioner for Native Models, in a ComfyUI that has them: beside core's nodes, and sampled by core."""

import pytest
from inside_comfyui import ask


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    return ask("native_trellis2.py", tmp_path_factory.mktemp("base"))


def test_structure_equals_core_begun_by_core_or_by_us(found):
    structure = found["structure"]
    assert structure["shape"][:2] == [1, 16**3]
    for name in ("core", "tokens", "embeds", "sampled"):
        assert max(structure[name]) < 1e-5, name
    assert structure["moved"] > 0.1


def test_without_the_raised_maps(found):
    heavy, light = found["structure"]["map_elements"]
    assert light < heavy / 100


@pytest.mark.parametrize("index", range(3), ids=["shape_512", "shape_1024", "tex_1024"])
def test_raised_features_equal_core_except_at_the_border(found, index):
    """Core pads NAF's windows with zeros at the picture's border; elsewhere both are the same."""
    stage = found["stages"][index]
    assert 100 < stage["inside"] < stage["tokens"] - 100
    assert stage["low"] < 1e-3 and stage["raised_inside"] < 1e-3
    assert stage["raised_border"] > 0.05


@pytest.mark.parametrize("index", range(3), ids=["shape_512", "shape_1024", "tex_1024"])
def test_core_samples_with_our_features(found, index):
    stage = found["stages"][index]
    assert stage["finite"] and stage["changed"] > 1e-3
    assert stage["kept"] and stage["input_untouched"]


def test_core_stage_nodes_go_on_from_our_first_stage(found):
    begun = found["begun_by_us"]
    assert begun["frame"] == "y_up" and begun["finite"]
    assert begun["difference"] == 0 and begun["encoded_once"]


def test_posed_views(found):
    views = found["views"]
    assert views["front"] < 1e-3, "one posed view in front is the single view"
    assert views["mean"] < 1e-5 and views["views_differ"] > 0.05
    assert views["mask"] > 0.05 and views["finite"]


def test_every_object_of_a_batch_as_if_alone(found):
    assert max(found["batch"]["solo"]) < 1e-5 and found["batch"]["finite"]


def test_interrupt_in_our_node_and_in_core_sampling(found):
    assert found["interrupts"] == [True, True]


def test_latents_are_in_the_format_of_core(found):
    latents = found["latents"]
    assert latents["fields"] and all(latents["kinds"])
    assert latents["shapes"] == [[2, 32, 7, 1], [12, 4]]
    assert latents["split"] and latents["back"] and latents["structure"] and latents["empty_structure"]
    assert latents["decoded"] < 1e-6 and latents["resolution"] == 32 * 16
    assert latents["theirs"] == [1, 32, "y_up", 32, "y_up"]


SAID = {
    "neither": "either `image` or `views`",
    "both": "either `image` or `views`",
    "black": "black or transparent everywhere",
    "empty mask": "nothing is selected",
    "nan": "not finite numbers",
    "one conditioning": "`positive` and `negative` of the same stage node",
    "no latent": "connect the latent of the same stage node",
    "other voxels": "other voxels than `positive`",
    "trellis2": "not a Pixal3D conditioning",
    "no naf": "DINOv3 without NAF",
    "other encoder": "load DINOv3",
    "two objects": "for 1 object and there are pictures of 2",
    "late latent": "of a later stage",
    "fov": "between 0 and pi (180 degrees)",
}


@pytest.mark.parametrize("case", SAID)
def test_wrong_use_is_told_in_one_sentence(found, case):
    said = found["refusals"][case]
    assert said.startswith("ValueError: ") and SAID[case] in said
    assert said.endswith(".") and "\n" not in said


def test_every_refusal_was_judged(found):
    assert set(found["refusals"]) == set(SAID)
