"""The adapter recipe: fresh adapters change nothing, only they learn, and what is saved loads back folded."""

import numpy as np
import pytest
import torch
from genrecon_tiny import ARGS, LORA, flow_state

from sightline.models.genrecon.checkpoint import from_state, is_trained, save_adapter
from sightline.models.genrecon.flows import SceneCondition, ViewTokens
from sightline.models.trellis2.safetensors_file import SafetensorsFile
from sightline.scene.errors import InputError
from sightline.scene.sparse import SparseTensor
from sightline.training.genrecon.recipe import (
    AdapterOptions,
    AdapterTrainer,
    ChunkSample,
    adapter_model,
    choose_views,
    draw_times,
    parameter_groups,
)

STAGE = "shape"
OPTIONS = AdapterOptions(lr_lora=3e-3, lr_new=1e-2, warmup=5, ema=0.5, p_uncond=0.1)


def base():
    return {k: v for k, v in flow_state(STAGE).items() if not is_trained(k)}


def sample(seed=0):
    draw = torch.Generator().manual_seed(seed)
    coords = torch.argwhere(torch.rand(16, 16, 16, generator=draw) < 0.02).int()
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, 2, 3] = 1.5
    lens = torch.tensor([[0.8, 0, 0.5], [0, 0.8, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    x0 = coords.float() / 8 - 1
    return ChunkSample(x0, torch.randn(2, 5 + 16, 8, generator=draw), poses, lens, coords)


def test_fresh_adapters_change_nothing():
    model, chunk = adapter_model(base(), ARGS[STAGE], LORA), sample()
    x = SparseTensor(torch.randn(chunk.x0.shape), torch.nn.functional.pad(chunk.coords, (1, 0)))
    t = torch.tensor([400.0])
    voxels = torch.randn(len(chunk.coords), 8)
    with torch.no_grad():
        some = model(x, t, SceneCondition([ViewTokens(chunk.tokens[0])], voxels)).feats
        none = model(x, t, SceneCondition([ViewTokens(chunk.tokens[0])], torch.zeros_like(voxels))).feats
    torch.testing.assert_close(some, none)


def test_only_the_adapter_learns_and_comes_back_folded(tmp_path):
    torch.manual_seed(0)
    model, chunks = adapter_model(base(), ARGS[STAGE], LORA), [sample(i) for i in range(2)]
    trainer = AdapterTrainer(model, STAGE, OPTIONS)
    losses = [trainer.advance(chunks) for _ in range(40)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5]), losses
    for name, value in model.state_dict().items():
        if name in base():
            assert torch.equal(value, base()[name]), f"{name} of the base has moved"
    moved = [n for n, v in trainer.adapter().items() if n.startswith("proj_linears") and bool(v.any())]
    assert moved and all(is_trained(name) for name in trainer.adapter())
    save_adapter({**base(), **trainer.adapter(averaged=False)}, tmp_path / "a.safetensors", ARGS[STAGE], LORA)
    file = SafetensorsFile(tmp_path / "a.safetensors")
    folded = from_state({**base(), **{k: file[k] for k in file}}, ARGS[STAGE], lora=LORA)
    x = SparseTensor(torch.randn(chunks[0].x0.shape), torch.nn.functional.pad(chunks[0].coords, (1, 0)))
    cond = SceneCondition([ViewTokens(chunks[0].tokens[0])], torch.randn(len(chunks[0].coords), 8))
    with torch.no_grad():
        torch.testing.assert_close(
            folded(x, torch.tensor([300.0]), cond).feats,
            model(x, torch.tensor([300.0]), cond).feats,
            atol=1e-4,
            rtol=1e-4,
        )


def test_groups_and_times():
    groups = parameter_groups(adapter_model(base(), ARGS[STAGE], LORA), AdapterOptions())
    rates = [(g["lr"], g["weight_decay"]) for g in groups]
    assert rates == [(3e-5, 0.0), (1e-4, 0.01), (1e-4, 0.0)]
    draw = torch.Generator().manual_seed(0)
    assert 0.6 < float(draw_times("structure", 4000, draw).mean()) < 0.75
    assert 0.47 < float(draw_times("shape", 4000, draw).mean()) < 0.53


def test_views_of_a_chunk():
    rng = np.random.default_rng(0)
    area = [0.9] * 10 + [0.1] * 10
    counts = set()
    for _ in range(60):
        chosen = choose_views(area, rng)
        counts.add(len(chosen))
        assert 1 <= len(chosen) <= 16 and len(set(chosen)) == len(chosen)
        assert all(area[i] >= 0.4 for i in chosen)
    assert len(counts) > 4
    assert choose_views([0.1, 0.2], rng) == [1]
    with pytest.raises(InputError, match="no view"):
        choose_views([], rng)
