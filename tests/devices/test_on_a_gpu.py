"""Every pipeline on a pretended GPU: no tensor is left on the CPU, and the results are those of the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("on_a_gpu.py")
STAY = ("sparsegen", "pixal3d", "pixal3d_views", "trellis2", "texturing", "control_render", "logit_blur")
ALL = (*STAY, "embedded_family", "relaxflow", "trellis1", "sam3d", "genrecon", "seethrough3d")
PRECISION = {"sam3d": 5e-4}  # its poses are far from 1


@pytest.fixture(scope="module")
def found() -> dict:
    backends = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch cannot register a device from Python (2.9 can)")
    pytest.importorskip("diffusers", reason="one of the pipelines needs diffusers (pip install diffusers)")
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, env=variables)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ALL)
def test_pipelines_run_on_a_gpu(found, name):
    case = found[name]
    assert "error" not in case, case["error"]
    assert case["apart"] < PRECISION.get(name, 1e-4) and not case["other shapes"]
    if name in STAY:
        assert not case["elsewhere"]


def test_every_case_was_judged(found):
    assert set(found) == {*ALL, "forgotten_tensors"}


def test_what_cuda_refuses_is_refused(found):
    assert found["forgotten_tensors"]["apart"] == 0
