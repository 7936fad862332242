"""The SparseGen benchmark at a size that takes no time: contenders agree, absent opponents are named."""

import pytest
import torch
from sparsegen_tiny import tiny

from sightline.cli.bench import sparsegen as bench
from sightline.cli.bench.op import Missing
from sightline.models.sparsegen import SparseGen, initialize

SMALL = tiny(num_query=8, num_gs_per_query=3, vit_grid=2, patch_size=64, image_size=128, input_size=128)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench, "_model", lambda device: initialize(SparseGen(SMALL), "short_run", seed=0).eval())


def test_contenders_agree():
    steps, case = bench.OPS[1], {"clean": 2, "virtual": 1, "steps": 2, "device": "cpu"}
    ours, uncached = (contender.prepare(case)() for contender in steps.contenders[:2])
    assert set(ours) == set(bench.OUTPUTS)
    for name in ours:
        torch.testing.assert_close(ours[name], uncached[name], rtol=0, atol=1e-5)
    once = bench.OPS[0].contenders[0].prepare({"clean": 2, "virtual": 0, "device": "cpu"})()
    assert once["box"].shape == (1, SMALL.num_gaussians, 3)


def test_every_size_is_complete():
    for op in bench.OPS:
        for case in op.sizes.values():
            assert case["clean"] >= 1 and case["virtual"] >= 0 and ("steps" in case) == (op.name == "sparsegen_steps")


@pytest.mark.parametrize("folder, words", [(None, "set SPARSEGEN_PATH"), ("empty", "no model/spgen_model.py")])
def test_absent_checkout_is_named(monkeypatch, tmp_path, folder, words):
    monkeypatch.delenv("SPARSEGEN_PATH", raising=False)
    if folder:
        monkeypatch.setenv("SPARSEGEN_PATH", str(tmp_path))
    with pytest.raises(Missing, match=words):
        bench._official_pass({"clean": 1, "virtual": 0, "device": "cpu"})
