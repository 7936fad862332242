"""A run that is killed (SIGKILL) in the middle of its second stage goes on where it was, and gives the same files."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from genrecon_tiny import write_scene_family
from scene_captures import model, write_capture

from sightline.cli import main
from sightline.models.trellis2.safetensors_file import SafetensorsFile

STEP = 3
RESULTS = ("mesh.ply", "scene.glb", "scene_voxels.safetensors", "scene_voxels.json", "coords_000.ply")
# the process kills itself while it writes the checkpoint of a step, so that it always dies at the same place
KILLED = f"""
import os, signal, sys
from sightline.cli import main
from sightline.models.genrecon.stage_files import StageFiles

write = StageFiles._write

def dies(self, path, tensors, metadata):
    if path.name == "shape-step.safetensors" and metadata["step"] == "{STEP + 1}":
        path.with_name(".shape-step.0a1b2c3d.part.safetensors").write_bytes(b"cut off")
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, path, tensors, metadata)

StageFiles._write = dies
main.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The tiny random family, with more steps in the second stage than in the others."""
    pytest.importorskip("transformers", reason="DINOv3 runs on the transformers library")
    folder = write_scene_family(tmp_path_factory.mktemp("weights"))
    path = folder / "genrecon.json"
    config = json.loads(path.read_text())
    for role, steps in (("sparse_structure_sampler", 1), ("shape_slat_sampler", 6), ("tex_slat_sampler", 1)):
        config["args"][role]["params"]["steps"] = steps
    path.write_text(json.dumps(config))
    return folder


def test_killed_in_the_second_stage(weights, tmp_path):
    capture = write_capture(tmp_path / "capture", model(4), binary=True)
    words = ["genrecon", "--path", capture, "--weights", weights, "--occ_threshold", 0, "--min_points_per_chunk", 20]
    words += ["--skip_point_cleaning", "--num_imgs_per_scene", 2, "--bounds=-1,2,-0.5,0.5", "--texture_size", 0]
    words = [str(word) for word in [*words, "--device", "cpu", "--output_path"]]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main.main([*words, str(whole)]) == 0

    paths = os.pathsep.join(path for path in sys.path if path)
    same = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    dead = subprocess.run([sys.executable, "-c", KILLED, *words, str(killed)], env=same, timeout=300)
    assert dead.returncode == -signal.SIGKILL
    left = {path.name for path in (killed / "stages").iterdir()}
    assert left == {"structure.safetensors", "shape-step.safetensors", ".shape-step.0a1b2c3d.part.safetensors"}
    assert SafetensorsFile(killed / "stages" / "shape-step.safetensors").metadata["step"] == str(STEP)
    assert not any((killed / name).exists() for name in RESULTS), "a run that died left results"
    kept = (killed / "stages" / "structure.safetensors").stat()

    assert main.main([*words, str(killed)]) == 0
    assert (killed / "stages" / "structure.safetensors").stat().st_mtime_ns == kept.st_mtime_ns, "stage 1 ran again"
    for name in RESULTS:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    left = {path.name for path in (killed / "stages").iterdir()}
    assert left == {f"{stage}.safetensors" for stage in ("structure", "shape", "texture")}
