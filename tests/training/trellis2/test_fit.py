"""Every stage learns; a run that was stopped goes on exactly; two processes are one with the same batch."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.models.trellis2.checkpoint import load_model
from sightline.scene.errors import InputError
from sightline.training.trellis2.averages import AdaptiveClip
from sightline.training.trellis2.fit import Fit, fit, try_run
from sightline.training.trellis2.folders import ObjectFolders
from sightline.training.trellis2.networks import build_networks, continue_from
from sightline.training.trellis2.recipe import CONFIGS, STAGES, ClipOptions, read_recipe

from .tiny_data import NETWORKS, data_of, tiny_recipe, write_data

pytest.importorskip("accelerate", reason="training runs on accelerate; pip install accelerate")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def lines(folder):
    return [json.loads(text) for text in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stage", STAGES)
def test_fifty_steps_lower_the_loss(stage, data, tmp_path):
    recipe = tiny_recipe(stage, sample_every=50)
    out = fit(recipe, data_of(data, recipe), tmp_path / "run")
    log = lines(out)
    assert log[-1]["loss"] < 0.85 * log[0]["loss"] and log[-1]["step"] == 50
    assert (out / "samples_0000050.png").stat().st_size > 500 and (out / "curve.png").exists()
    for name in recipe.networks:
        network = load_model(out / "ckpts" / f"{recipe.name}_{name}")
        assert all(torch.isfinite(p).all() for p in network.parameters())


@pytest.mark.parametrize("stage", ["structure_flow", "shape_vae"])
def test_a_stopped_run_goes_on_exactly(stage, data, tmp_path):
    recipe = tiny_recipe(stage, steps=6, save_every=3)

    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    whole = fit(recipe, data_of(data, recipe), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data_of(data, recipe), tmp_path / "parts", callback=stop)
    parts = fit(recipe, data_of(data, recipe), tmp_path / "parts")
    one, other = (torch.load(out / "state.pth", weights_only=True) for out in (whole, parts))
    for key in ("networks", "average"):
        assert all(torch.equal(value, other[key][name]) for name, value in one[key].items())
    assert one["clip"] == other["clip"] and one["step"] == other["step"] == 6


RANKS = """
import sys
sys.path.insert(0, {here!r})
from tiny_data import data_of, tiny_recipe
from pathlib import Path
from sightline.training.trellis2.fit import fit
for stage in {stages!r}:
    recipe = tiny_recipe(stage, steps=3, batch_size={batch}, splits={splits})
    fit(recipe, data_of(Path({data!r}), recipe), {out!r} + "/" + stage)
"""


@pytest.fixture(scope="module")
def by_ranks(data, tmp_path_factory):
    """Runs of every stage by one process and by two, of the same batch."""
    folder, here = tmp_path_factory.mktemp("ranks"), os.path.dirname(__file__)
    for ranks, batch, splits in ((1, 4, 2), (2, 2, 1)):
        script, out = folder / f"run{ranks}.py", str(folder / str(ranks))
        values = dict(here=here, stages=list(STAGES), batch=batch, splits=splits, data=str(data), out=out)
        script.write_text(RANKS.format(**values))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        answer = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=600)
        assert answer.returncode == 0, answer.stderr[-2000:]
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_are_one_with_the_same_batch(stage, by_ranks):
    one, two = (torch.load(by_ranks / ranks / stage / "state.pth", weights_only=True) for ranks in "12")
    moved = 0.0
    start = {
        f"{role}.{name}": value
        for role, network in build_networks(tiny_recipe(stage)).items()
        for name, value in network.state_dict().items()
    }
    for name, value in one["networks"].items():
        assert torch.allclose(value, two["networks"][name], atol=1e-5), name
        moved = max(moved, float((value - start[name]).abs().max()))
    assert moved > 1e-4


@pytest.mark.parametrize("stage", STAGES)
def test_checkpointed_blocks_keep_less_and_give_the_same_weights(stage, data, tmp_path):
    found, kept = [], []
    for checkpointed in (False, True):
        recipe = tiny_recipe(stage, checkpoint_blocks=checkpointed)
        run = Fit(recipe, ObjectFolders(data_of(data, recipe), recipe))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            terms = run.objective(*run.pass_items(0))
        kept.append(sum(sizes))
        sum(terms.values()).backward()
        run.optimizer.step()
        found.append({name: value.clone() for name, value in run.networks.state_dict().items()})
    assert kept[1] < 0.9 * kept[0]
    own = [m for m in run.average.module.modules() if isinstance(m.forward, partial)]
    assert own and all(block.forward.args[0].__self__ is block for block in own), "copies run themselves"
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(value, found[1][name], atol=1e-6) for name, value in found[0].items())


def test_trellis_weights_continue_in_a_projecting_flow(tmp_path):
    torch.manual_seed(0)
    plain = build_networks(tiny_recipe("structure_flow"))["denoiser"]
    torch.nn.init.normal_(plain.out_layer.weight)
    weights = {name: value.contiguous() for name, value in plain.state_dict().items() if name != "rope_phases"}
    save_file(weights, str(tmp_path / "plain.safetensors"))
    networks = {"denoiser": {**NETWORKS["structure_flow"]["denoiser"]}}
    networks["denoiser"]["args"] = {**networks["denoiser"]["args"], "image_attn_mode": "proj", "proj_in_channels": 128}
    start = {"denoiser": str(tmp_path / "plain.safetensors")}
    recipe = tiny_recipe("structure_flow", networks=networks, start_from=start)
    flow = build_networks(recipe)["denoiser"]
    from sightline.models.trellis2.conditions import Condition

    x, t, tokens = torch.randn(1, 2, 4, 4, 4), torch.tensor([300.0]), torch.randn(1, 5, 128)
    with torch.no_grad():
        same = flow(x, t, Condition(tokens, torch.randn(1, 64, 128)))
        assert torch.allclose(same, plain(x, t, tokens), atol=1e-5)
    weights["more"] = torch.zeros(1)
    save_file(weights, str(tmp_path / "foreign.safetensors"))
    with pytest.raises(InputError, match="has foreign more"):
        continue_from(flow, tmp_path / "foreign.safetensors")


def test_the_clip_follows_the_percentile():
    clip = AdaptiveClip(ClipOptions(max_norm=1.0, percentile=50.0, window=3))
    weight = torch.nn.Parameter(torch.zeros(1))
    for size, limit in ((4.0, 1.0), (0.2, 1.0), (0.4, 0.4), (0.1, 0.2)):
        weight.grad = torch.tensor([size])
        assert clip([weight]) == pytest.approx(size)
        assert clip.limit == pytest.approx(limit)
    restored = AdaptiveClip(clip.options)
    restored.load_state_dict(clip.state_dict())
    assert restored.limit == clip.limit and restored.norms == clip.norms


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_published_recipes_can_be_read(name):
    recipe = read_recipe(name)
    assert recipe.name == name and recipe.optimizer.lr in (3e-4, 1e-4, 2e-5, 1e-5)
    assert recipe.projects == ("proj" in name or "pixal3d" in name) == recipe.data.view_aligned


def test_a_trial_writes_nothing(data, tmp_path):
    recipe = tiny_recipe("texture_vae")
    assert try_run(recipe, data)["loss"] > 0
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_said_in_one_sentence(data, tmp_path):
    recipe = tiny_recipe("shape_flow", steps=1)
    with pytest.raises(InputError, match="stage|trains"):
        tiny_recipe("shape_flow", networks=NETWORKS["shape_vae"])
    with pytest.raises(InputError, match="knows"):
        tiny_recipe("shape_flow", optimizer={"rate": 1})
    with pytest.raises(InputError, match="No object of the data set is left.*4 records.*0 "):
        fit(tiny_recipe("shape_flow", data={"view_aligned": True, "min_aesthetic_score": 9.0}), data, tmp_path / "a")
    with pytest.raises(InputError, match="is no data set"):
        fit(recipe, tmp_path / "nowhere", tmp_path / "b")
    fit(recipe, data_of(data, recipe), tmp_path / "run")
    wider = {"denoiser": {"name": "SLatFlowModel", "args": {**NETWORKS["shape_flow"]["denoiser"]["args"],
                                                            "model_channels": 48}}}  # fmt: skip
    with pytest.raises(InputError, match="other networks"):
        fit(tiny_recipe("shape_flow", networks=wider), data_of(data, recipe), tmp_path / "run")
    with pytest.raises(InputError, match="names no file"):
        small = ["networks.denoiser.args.num_blocks=1", "networks.denoiser.args.model_channels=96"]
        build_networks(read_recipe("slat_flow_img2shape_dit_1_3B_512_bf16_ft1024", small))
    assert load_file(next((tmp_path / "run" / "ckpts").glob("*.safetensors")))
