"""The LoRA's recipe on a tiny FLUX: it learns, goes on exactly, and reads its data with care."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sightline.models.seethrough3d.diffusers_flux import transformer_shape
from sightline.models.seethrough3d.lora import load_lora
from sightline.scene.errors import InputError
from sightline.training.seethrough3d.fit import Fit, fit
from sightline.training.seethrough3d.recipe import CONFIGS, read_recipe, recipe_from_dict
from sightline.training.seethrough3d.rows import read_rows
from sightline.training.seethrough3d.words import EMPTY, PromptCache

pytest.importorskip("accelerate", reason="training runs on accelerate; pip install accelerate")
diffusers = pytest.importorskip("diffusers", reason="the recipe trains on diffusers' FLUX; pip install diffusers")


def flux():
    """Random FLUX and VAE, a few thousand weights."""
    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=12, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, layers_per_block=1,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4, shift_factor=0.1,
        scaling_factor=0.5, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return transformer, vae


def encode(prompt):
    generator = torch.Generator().manual_seed(len(prompt))
    return torch.randn(1, 20, 24, generator=generator), torch.randn(1, 12, generator=generator)


@pytest.fixture
def data(tmp_path):
    """Two rows, one with a raw render as its target."""
    rng = np.random.default_rng(0)
    for name in ("oscr.png", "main.jpg", "other.png"):
        Image.fromarray(rng.integers(0, 256, (48, 32, 3), dtype=np.uint8)).save(tmp_path / name)
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    Image.fromarray(mask).save(tmp_path / "one__1.5.png")
    Image.fromarray(255 - mask).save(tmp_path / "two__2.5.png")
    common = {"oscr": "oscr.png", "cuboids_segmasks": ["one__1.5.png", "two__2.5.png"], "subjects": ["a cat", "a box"],
              "PLACEHOLDER_prompts": "a photo of PLACEHOLDER in a room", "call_ids": [[4, 5], [7, 8]]}  # fmt: skip
    rows = [{**common, "target": "main.jpg"}, {**common, "target": "other.png"}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cache = PromptCache(tmp_path / "prompts")
    assert cache.fill([row.prompt for row in read_rows(tmp_path / "train.jsonl")], encode) == 2
    assert cache.fill([EMPTY], encode) == 0
    return tmp_path


def recipe(**changes):
    values = {"name": "tiny", "size": 48, "condition": 32, "rank": 4, "steps": 50, "batch_size": 2, "precision": "no",
              "lr": 3e-2, "log_every": 5, "drop_caption": 0.2}  # fmt: skip
    return recipe_from_dict({**values, **changes})


def test_rows(data):
    rows = read_rows(data / "train.jsonl")
    assert [row.prompt for row in rows] == ["a photo of a cat and a box in a room"] * 2
    assert rows[0].call_ids == ((4, 5), (7, 8)) and len(read_rows(data / "train.jsonl", drop_raw=True)) == 1
    broken = {"oscr": "../oscr.png", "target": "a", "cuboids_segmasks": [], "PLACEHOLDER_prompts": "", "subjects": [],
              "call_ids": []}  # fmt: skip
    for text, said in (
        ("[", "no JSON"), ("{}", "has no oscr"), (json.dumps(broken), "outside of the data's folder"),
        (json.dumps({**broken, "subjects": ["x"]}), "other numbers"), ("", "has no rows"),
    ):  # fmt: skip
        (data / "broken.jsonl").write_text(text)
        with pytest.raises(InputError, match=said):
            read_rows(data / "broken.jsonl")


def test_fifty_steps_lower_the_loss_and_only_the_lora_moves(data):
    transformer, vae = flux()
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    path = fit(recipe(), data / "train.jsonl", data / "run", transformer, vae, PromptCache(data / "prompts"))
    log = [json.loads(text) for text in (data / "run/log.jsonl").read_text().splitlines()]
    means = [sum(line["loss"] for line in part) / len(part) for part in (log[:3], log[-3:])]
    assert log[-1]["step"] == 50 and means[1] < 0.97 * means[0]
    assert all(torch.equal(value, before[name]) for name, value in transformer.state_dict().items())
    lora = load_lora(path, transformer_shape(transformer))
    assert lora.layer("double", 0, "q", 0).up.weight.abs().max() > 1e-3


@pytest.mark.parametrize("checkpointed", [True, False])
def test_a_stopped_run_goes_on_exactly(data, checkpointed):
    options, cache = dict(steps=4, save_every=2, checkpoint_blocks=checkpointed), PromptCache(data / "prompts")

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    whole = fit(recipe(**options), data / "train.jsonl", data / "whole", *flux(), cache)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe(**options), data / "train.jsonl", data / "parts", *flux(), cache, callback=stop)
    parts = fit(recipe(**options), data / "train.jsonl", data / "parts", *flux(), cache)
    one, other = load_file(whole), load_file(parts)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


RANKS = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_lora_training import flux, recipe
from sightline.training.seethrough3d.fit import fit
from sightline.training.seethrough3d.words import PromptCache
data = Path({data!r})
options = dict(steps=3, batch_size={batch}, splits={splits})
fit(recipe(**options), data / "train.jsonl", data / {out!r}, *flux(), PromptCache(data / "prompts"))
"""


def test_two_processes_are_one_with_the_same_batch(data):
    for ranks, batch, splits in ((1, 2, 2), (2, 1, 1)):
        script, here = data / f"run{ranks}.py", os.path.dirname(__file__)
        script.write_text(RANKS.format(here=here, data=str(data), batch=batch, splits=splits, out=str(ranks)))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        answer = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=300)
        assert answer.returncode == 0, answer.stderr[:3000]
    one, two = (load_file(data / ranks / "lora.safetensors") for ranks in "12")
    assert all(torch.allclose(value, two[name], atol=1e-5) for name, value in one.items())
    assert max(float(value.abs().max()) for name, value in one.items() if "up" in name) > 1e-3


def test_checkpointing_gives_the_same_gradients(data):
    found = []
    for checkpointed in (True, False):
        run = Fit(recipe(checkpoint_blocks=checkpointed), data / "train.jsonl", PromptCache(data / "prompts"), *flux())
        loss = run.objective(run.rows, torch.Generator().manual_seed(1))["mse"]
        loss.backward()
        assert all((p.grad is None) != p.requires_grad for p in run.lora.parameters())
        found.append([p.grad.clone() for p in run.lora.parameters() if p.requires_grad])
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found))


def test_a_dropped_caption_is_linked_to_nothing(data):
    run = Fit(recipe(drop_caption=0.999), data / "train.jsonl", PromptCache(data / "prompts"), *flux())
    cache = run.objective.cache
    reads, original = [], type(cache).__getitem__
    type(cache).__getitem__ = lambda self, prompt: reads.append(prompt) or original(self, prompt)
    try:
        run.objective(run.rows, torch.Generator().manual_seed(1))
    finally:
        type(cache).__getitem__ = original
    assert reads == [EMPTY, EMPTY]


def test_what_does_not_fit_is_said(data):
    cache = PromptCache(data / "prompts")
    with pytest.raises(InputError, match="fill the cache"):
        PromptCache(data / "nowhere")["a prompt"]
    with pytest.raises(InputError, match="names no file"):
        Fit(recipe(start_from=""), data / "train.jsonl", cache, *flux())
    with pytest.raises(InputError, match="multiple of 16"):
        recipe(size=50)
    with pytest.raises(InputError, match="knows"):
        recipe(speed=1)
    fit(recipe(steps=1), data / "train.jsonl", data / "run", *flux(), cache)
    with pytest.raises(InputError, match="another LoRA"):
        fit(recipe(steps=1, rank=8), data / "train.jsonl", data / "run", *flux(), cache)


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_published_recipes_can_be_read(name):
    found = read_recipe(name)
    assert found.name == name and found.rank == 128 and found.lr == 1e-4 and found.guidance == 1.0
