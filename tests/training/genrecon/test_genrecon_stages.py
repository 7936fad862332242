"""Every stage of the embedded family lowers its loss within a few steps, and a run that is killed continues exactly."""

import pytest
import torch

from sightline.scene.errors import InputError
from sightline.training.genrecon.data import prepare
from sightline.training.genrecon.embedded import STAGES, RoomBench, export_family, read_codes, start

STEPS = {"encoder": 5, "fusion": 4, "structure": 6, "shape": 8, "texture": 8, "structure_decoder": 10}
STEPS |= {"structure_tuning": 4}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    codes = read_codes(folder)
    for split in ("train", "validation"):
        list(prepare(folder, 1, codes, split, views=6))
    return RoomBench(folder, tmp_path_factory.mktemp("runs"))


@torch.no_grad()
def loss_of(stage):
    """The loss on three draws that no step makes."""
    return sum(float(sum(stage.loss(stage.module, 900 + k).values())) for k in range(3))


def test_stages_lower_their_loss_and_make_a_family(bench, tmp_path):
    torch.set_num_threads(1)
    for name, steps in STEPS.items():
        stage = start(name, bench, steps=40, batch=1)
        before = loss_of(stage)
        for _ in range(steps):
            stage.advance()
        assert loss_of(stage) < before, name
        stage.save()
    assert set(STEPS) == set(STAGES)
    size = export_family(bench, tmp_path / "family")
    assert 5e6 < size < 11e6
    from sightline.models.genrecon.family import DECODERS_FOLDER, ROLES, load_scene_family

    family = load_scene_family(tmp_path / "family", search=[DECODERS_FOLDER.parent])
    flow, trained = family.get(ROLES["structure"]), bench.trained("structure")
    for key, value in flow.state_dict().items():
        if key in trained.state_dict():
            torch.testing.assert_close(value.float(), trained.state_dict()[key], rtol=1e-2, atol=1e-3)
    assert family.encoder().patch_size == 4 and family.image_size == 96


def test_a_killed_run_continues_exactly(bench):
    once = start("shape", RoomBenchCopy(bench, "once"), steps=40, batch=1)
    for _ in range(4):
        once.advance()
    first = start("shape", RoomBenchCopy(bench, "twice"), steps=40, batch=1)
    for _ in range(2):
        first.advance()
    first.save()
    again = start("shape", RoomBenchCopy(bench, "twice"), steps=40, batch=1)
    assert again.step == 2
    for _ in range(2):
        again.advance()
    for key, value in once.average.module.state_dict().items():
        assert torch.equal(value, again.average.module.state_dict()[key]), key


def RoomBenchCopy(bench, name):
    """A bench whose stages before are those of another."""
    import shutil

    runs = bench.runs.parent / name
    for stage in ("encoder", "fusion"):
        if not (runs / stage).exists():
            shutil.copytree(bench.runs / stage, runs / stage)
    return RoomBench(bench.folder, runs)


def test_unusable_requests(bench, tmp_path):
    with pytest.raises(InputError, match="unknown"):
        start("nonsense", bench)
    with pytest.raises(InputError, match="train it first"):
        start("shape", RoomBench(bench.folder, tmp_path))
