"""The training loop: learns, continues exactly, and two processes are one with twice the batch."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.models.sparsegen import SparseGen, initialize
from sightline.scene.errors import InputError
from sightline.training.processes import save_state
from sightline.training.sparsegen.export import averaged_model, export_weights, keep_last_heads
from sightline.training.sparsegen.log import read_log
from sightline.training.sparsegen.sources import ProceduralSource
from sightline.training.sparsegen.state import read_state
from sightline.training.sparsegen.trainer import Trainer, learning_rate, step_options, train

sys.path.insert(0, str(Path(__file__).parent))
try:
    import sparsegen_case as case
finally:
    sys.path.pop(0)


def new_trainer(**changes):
    recipe = case.recipe(**changes)
    return Trainer(recipe, ProceduralSource(recipe, case.shard()))


def weights(trainer):
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}


def test_the_loss_falls():
    trainer = new_trainer(noise={"pure": 1.0})
    losses = [trainer.advance()[0]["color"] for _ in range(40)]
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_every_parameter_moves():
    trainer = new_trainer(views={"drop_all_clean": 0.0}, data={"noisy": {1: 1.0}})
    before = weights(trainer)
    for _ in range(8):
        trainer.advance()
    unused = {"feature_extractor.model.mask_token"}
    still = {k for k, p in trainer.model.named_parameters() if torch.equal(before[k], p)}
    assert still == unused


def test_continues_bit_for_bit(tmp_path):
    through = new_trainer()
    for _ in range(6):
        through.advance()
    first = new_trainer()
    for _ in range(3):
        first.advance()
    save_state(first.state(), tmp_path / "state.pth")
    second = new_trainer()
    second.load_state(read_state(tmp_path / "state.pth"))
    assert second.step == 3
    for _ in range(3):
        second.advance()
    for mine, theirs in ((second.model, through.model), (second.averaged, through.averaged)):
        for key, value in theirs.state_dict().items():
            assert torch.equal(mine.state_dict()[key], value), key


def test_train_writes_log_curve_and_continues(tmp_path):
    recipe = case.recipe(steps=10)
    source = ProceduralSource(recipe, case.shard())
    path = train(recipe, tmp_path, source=source)
    assert read_state(path)["iteration"] == 10
    seen = []
    train(replace(recipe, steps=15), tmp_path, source=source, callback=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 15) for k in range(11, 16)] and read_state(path)["iteration"] == 15
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [5, 10, 15]
    assert (tmp_path / "curve.png").stat().st_size > 500


def test_a_stopped_run_keeps_its_last_checkpoint(tmp_path):
    recipe = case.recipe(steps=10, save_every=4)

    def stop(done, total):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, source=ProceduralSource(recipe, case.shard()), callback=stop)
    assert read_state(tmp_path / "state.pth")["iteration"] == 4
    assert sorted(p.name for p in tmp_path.glob("*.part")) == []


def test_checkpoint_has_the_published_layout(tmp_path):
    trainer = new_trainer()
    trainer.advance()
    save_state(trainer.state(), tmp_path / "state.pth")
    state = torch.load(tmp_path / "state.pth", weights_only=True)
    assert {"diffuser", "optimizer", "iteration"} <= set(state)
    assert json.loads(state["recipe"])["name"] == "test"


def test_export_drops_unused_heads_and_keeps_the_prediction(tmp_path):
    from sightline.models.sparsegen import load_sparsegen
    from sightline.training.sparsegen.evaluate import predict

    trainer = new_trainer()
    trainer.advance()
    save_state(trainer.state(), tmp_path / "state.pth")
    export_weights(trainer.recipe, tmp_path / "state.pth", tmp_path / "out.safetensors")
    whole, step = averaged_model(trainer.recipe, tmp_path / "state.pth")
    slim = keep_last_heads(whole)
    loaded, info = load_sparsegen(tmp_path / "out.safetensors")
    assert step == 1 and info.iteration == 1 and loaded.config.head_sets == 1 and loaded.config.align_first_view
    views = trainer.source.batch(0, 0)
    clean, cameras = views.images[:, :1], views.world_to_camera[:, :1]
    expected = predict(whole, clean, cameras)
    assert torch.equal(predict(slim, clean, cameras).means, expected.means)
    assert torch.allclose(predict(loaded, clean, cameras).means, expected.means, atol=5e-3)
    with pytest.raises(InputError, match="exist"):
        export_weights(trainer.recipe, tmp_path / "state.pth", tmp_path / "out.safetensors")


WORKER = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import sparsegen_case as case
from sightline.training.sparsegen.sources import ProceduralSource
from sightline.training.sparsegen.trainer import Trainer
recipe = case.recipe(model={"dropout": 0.0}, optimizer={"muon": False, "clip": 0.0, "eps": 0.01})
trainer = Trainer(recipe, ProceduralSource(recipe, case.shard()))
assert trainer.processes.count == 2
values = [trainer.advance()[0]["loss"] for _ in range(3)]
result = {"model": trainer.model.state_dict(), "loss": values, "ema": trainer.ema is not None}
torch.save(result, f"{sys.argv[2]}/{trainer.processes.rank}.pt")
trainer.processes.close()
"""


def test_two_processes_average_their_gradients(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = str(Path(__file__).parent)
    processes = []
    for rank in range(2):
        env = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
                            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
        processes.append(
            subprocess.Popen([sys.executable, str(script), here, str(tmp_path)], env=env, stderr=subprocess.PIPE)
        )
    errors = [p.communicate(timeout=300)[1].decode() for p in processes]
    assert [p.returncode for p in processes] == [0, 0], errors
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first["ema"] and not second["ema"]
    assert first["loss"] == pytest.approx(second["loss"])
    for key, value in first["model"].items():
        assert torch.equal(value, second["model"][key]), key

    # One process that takes both batches in turn and averages by hand ends at the same weights. (The large eps keeps
    # AdamW from blowing up gradients that are zero but for rounding, such as those of key biases.)
    recipe = case.recipe(model={"dropout": 0.0}, optimizer={"muon": False, "clip": 0.0, "eps": 0.01})
    alone = Trainer(recipe, ProceduralSource(recipe, case.shard()))

    def both_batches(model):
        own = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        views, generator, times, options = alone._inputs(alone.step, 1)
        from sightline.training.sparsegen.losses import total_loss
        from sightline.training.sparsegen.step import StepDraws, training_step

        result = training_step(model, views, times, StepDraws.draw(views, generator), options, recipe.losses)
        total_loss(result.terms).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None or name in own:
                other = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = (own.get(name, torch.zeros_like(parameter)) + other) / 2

    alone.processes.average_gradients = both_batches
    for _ in range(3):
        alone.advance()
    for key, value in alone.model.state_dict().items():
        assert torch.allclose(value, first["model"][key], atol=2e-5), key


def test_schedules():
    options = case.recipe().optimizer
    trapezoid = replace(options, lr=1.0, warmup=10, schedule="trapezoid", decay_from=0.5, final_lr=0.1)
    assert [learning_rate(trapezoid, s, 100) for s in (0, 4, 9, 50, 75, 100)] == pytest.approx(
        [0.1, 0.5, 1.0, 1.0, 0.55, 0.1]
    )
    cosine = replace(trapezoid, schedule="cosine")
    assert [learning_rate(cosine, s, 100) for s in (10, 55, 100)] == pytest.approx([1.0, 0.55, 0.1])
    assert learning_rate(replace(trapezoid, schedule="constant"), 99, 100) == 1.0
    with pytest.raises(InputError, match="zigzag"):
        learning_rate(replace(trapezoid, schedule="zigzag"), 20, 100)


def test_stages_begin_at_their_step():
    recipe = case.recipe(views={"render_sizes": {0: 8, 5: 16}, "self_condition_from": 7})
    assert [step_options(recipe, s).render_size for s in (0, 4, 5, 9)] == [8, 8, 16, 16]
    assert [step_options(recipe, s).self_condition for s in (6, 7)] == [0.0, 0.5]


def test_calibration_spreads_the_anchors():
    from sightline.training.sparsegen.calibrate import calibrate

    recipe = case.recipe()
    views = ProceduralSource(recipe, case.shard()).batch(0, 0)
    spread = {}
    for style in ("plain", "calibrated"):
        model = initialize(SparseGen(recipe.model), "short_run", seed=0)
        if style == "calibrated":
            calibrate(model, views)
        spread[style] = float(model.embed_queries()[0].detach().std(0).mean())
        assert not any(m._forward_hooks for m in model.modules())
    assert spread["calibrated"] > 5 * spread["plain"]
    assert spread["calibrated"] == pytest.approx(1.0, abs=0.3)
