"""Our condition branch on core's own FLUX: identity, batches, neighbours, memory, and what wrong uses are told."""

import pytest


def ask(core_flux, name):
    return core_flux.ask("case", name=name)


def test_the_base_model_stays_bit_identical(core_flux):
    found = ask(core_flux, "identity")
    assert found["without_conditions"] and found["strength_0"] and found["after"] and found["repeats"]
    assert found["moved"] > 1e-3 and found["lora_matters"] > 1e-3 and found["keys_stay"]


def test_condition_tokens_are_in_the_memory_estimate(core_flux):
    found = ask(core_flux, "memory")
    pixels, condition = 8 * 8, 16 * 4  # of the latent; four a token
    for name, conditions in {"plain": 0, "one": 1, "two": 2, "base_again": 0}.items():
        assert found[name] == pytest.approx([1 + conditions * condition / pixels] * 2), name


def test_batches_with_different_spans(core_flux):
    found = ask(core_flux, "batches")
    assert found["passes"] == [2, 1, 1]  # two layouts in one pass; positive and plain negative in two
    assert found["joined"] < 1e-5 and found["batch"] < 1e-5
    assert found["different"] > 1e-3 and found["guided"]


def test_several_conditions_each_with_its_own_adapter(core_flux):
    found = ask(core_flux, "several")
    assert found["difference"] < 1e-5
    assert (found["post_inputs"], found["wrappers"], found["models"]) == (1, 1, 2)
    assert "adapter 2" in found["too_few"] and "has 1" in found["too_few"]


def test_any_kind_of_base_weights(core_flux):
    found = ask(core_flux, "base_changes")
    assert found["lora_before"] < 1e-6 and found["lora_after"] < 1e-6 and found["lora_moved"] > 1e-4
    assert found["lora_undone"]
    assert "torch.float8_e4m3fn" in found["fp8_stored"] and found["fp8"] < 1e-5
    all_low, patched_as_used, difference = found["offloaded"]
    assert all_low and patched_as_used and difference < 1e-6
    # core's own quantized layers, as exact as in core's own blocks
    assert "QuantizedTensor" in found["quantized_kinds"]
    assert found["quantized"] < max(2 * found["quantized_base"], 1e-5)
    assert found["opaque"] == 0
    assert found["own_memory"] and found["nested"]


def test_other_nodes_patches(core_flux):
    found = ask(core_flux, "neighbours")
    assert found["watched"] < 1e-5
    words, image, condition = 16, 16, 16
    everything = words + image + condition
    assert found["seen"] == [
        [kind, everything, everything, everything, [words, everything]] for kind in ("double", "single")
    ]
    assert found["half_moved"] > 1e-3 and found["mask_moved"] > 1e-4
    assert found["override"] == 0
    # in each of four blocks one call without a mask, and one with, except in the last: nothing reads its rows
    assert found["calls"] == [7, 3]
    assert found["replaced"] == 1 and "last" in found["behind"]
    assert found["kontext"]


def test_an_interrupted_sampling_gives_memory_back(core_flux):
    found = ask(core_flux, "interrupted")
    assert found == {"kept": 0, "again": True}


def test_conditioning_node(core_flux):
    found = ask(core_flux, "conditioning")
    assert found["text"] == "a photo of red car and (blue) dog (old) in a park"
    assert found["length"] == [512, 512, 77]
    assert found["weights"] == [1.0] and found["decoded"].strip() == found["text"]
    assert found["words"] == ["red car", "(blue) dog (old)"]
    assert found["guidance"] == 3.0
    assert found["cells"] == [512, 320] and found["tokens"] == [1024, 16]
    assert found["drawn"] < 1e-5
    assert found["adapters"] == [0, 1]


EXPECTED = {
    "not flux": "FLUX.1 only",
    "flux 2": "FLUX.2",
    "fill": "384 channels",
    "node, not flux": "FLUX.1 only",
    "no file": "models/loras",
    "file gone": "gone.safetensors",
    "partial": "lacks 5 of 28 keys",
    "ordinary": "Load LoRA",
    "broken": "not a whole safetensors file",
    "other width": "width 48",
    "other depth": "has foreign 8 of 28",
    "too long": "reads 512; shorten",
    "no subjects": "no objects",
    "masks": "3 masks and the prompt 2",
    "wrong clip": "DualCLIPLoader",
    "wrong vae": "ae.safetensors",
    "no latent": "connect the empty latent",
    "no distribution": "set `condition_latent` to mean",
    "alpha": "colour picture",
    "size": "multiples of 16",
    "other latents": "other latent channels",
    "short text": "token 40 of 16",
    "no lora": "connect Occlusion LoRA Loader",
}


@pytest.fixture(scope="module")
def said(core_flux):
    return ask(core_flux, "refusals")


def test_no_case_is_forgotten(said):
    assert set(said) == set(EXPECTED)


@pytest.mark.parametrize("case", EXPECTED)
def test_refusals_are_one_sentence(said, case):
    assert EXPECTED[case] in said[case] and "\n" not in said[case]


def test_a_partial_lora_names_its_missing_keys(said):
    assert "transformer_blocks.0.attn.processor.q_loras.0.down.weight" in said["partial"]
    assert "and 2 more" in said["partial"]
