"""A drawn room that no stage has seen, reconstructed with the embedded weights: through files, by the command."""

import json

import numpy as np
import pytest
import torch

from sightline.cli.genrecon_measure import score
from sightline.cli.main import main
from sightline.models.genrecon.scene_files import load_scene_voxels
from sightline.training.genrecon.data import SPLITS
from sightline.training.procedural_room import make_plain_room

SEED = SPLITS["test"] + 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    size = ["--size", "160x120", "--points", "8000"]
    assert main(["genrecon-room", str(folder / "photos"), "--plain", "--seed", str(SEED), *size]) == 0
    command = ["genrecon", "--path", str(folder / "photos"), "--output_path", str(folder / "out"), "--weights", "tiny"]
    command += ["--align", "off", "--min_points_per_chunk", "60", "--texture_size", "0"]
    assert main(command) == 0
    return folder / "out"


def test_an_unseen_room_is_reconstructed(made):
    scene = load_scene_voxels(made / "scene_voxels.safetensors")
    found = score(scene, make_plain_room(SEED), 20_000)
    assert found["f"] > 0.6 and found["chamfer"] < 0.15, found
    assert found["color"] < 0.2, found


def test_walls_and_floor_stand_where_they_are(made):
    scene, room = load_scene_voxels(made / "scene_voxels.safetensors"), make_plain_room(SEED)
    used = scene.vertices[torch.unique(scene.faces.long())].numpy()
    low, high = np.percentile(used, [1, 99], axis=0)
    np.testing.assert_allclose(low[:2], [-s / 2 for s in room.size[:2]], atol=0.3)
    np.testing.assert_allclose(high, [room.size[0] / 2, room.size[1] / 2, room.size[2]], atol=0.3)
    assert abs(low[2]) < 0.2


def test_the_run_says_what_it_used(made):
    values = json.loads((made / "args.json").read_text())
    assert values["weights"] == "tiny"
    assert (made / "scene.glb").stat().st_size > 100_000
