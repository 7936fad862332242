"""A full-size model (112 M synthesized weights) runs on a CPU within 1.2 GB, the whole process counted."""

import json
import os
import subprocess
import sys

import pytest
import torch

from sightline.models.sparsegen import SparseGen, SparseGenConfig
from sightline.models.sparsegen.checkpoint import METADATA_KEY

LIMIT_MB = 1200

# The peak comes from /proc where there is one: `getrusage` counts the parent's memory at the fork as the child's.
PROGRAM = """
import sys
import torch
from sightline.cli.bench.runner import peak_resident
from sightline.models.sparsegen import load_sparsegen
from sightline.pipelines.sparsegen import clean_cameras, render_splats, sample_sparsegen

torch.set_num_threads(1)
model, info = load_sparsegen(sys.argv[1])
splats = sample_sparsegen(model, torch.rand(1, 3, 128, 128), steps=1)
render_splats(splats, clean_cameras([0.0, 90.0], model.config.fov, 128))
print(info.parameters, len(splats), peak_resident())
"""


def synthesize(path):
    """Write random full-size weights tensor by tensor, so that this process does not hold them."""
    config = SparseGenConfig()
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in SparseGen(config).state_dict().items()}
    header, offset = {"__metadata__": {METADATA_KEY: json.dumps(config.to_dict())}}, 0
    for key, shape in shapes.items():
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + 4 * shape.numel()]}
        offset += 4 * shape.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values():
            file.write((0.02 * torch.randn(shape.numel(), generator=generator)).numpy().tobytes())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process its peak memory")
def test_full_size_one_step_within_bounds(tmp_path):
    path = tmp_path / "full.safetensors"
    try:
        synthesize(path)
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(path)],
            capture_output=True,
            text=True,
            timeout=600,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )
    finally:
        path.unlink(missing_ok=True)
    assert result.returncode == 0, result.stderr
    parameters, count, peak = map(int, result.stdout.split())
    megabytes = peak / (1 << 20)
    print(f"peak memory of the process: {megabytes:.0f} MB")
    assert parameters == 111_817_416 and count == 5120
    assert megabytes < LIMIT_MB
