"""Estimates hold against measured memory, and the plans made from them keep to the limit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from trellis2_tiny import STEPS, cascade, picture

from sightline.models.trellis2 import memory
from sightline.models.trellis2.config import FlowConfig, SparseVaeConfig
from sightline.models.trellis2.latents import decode_latents
from sightline.pipelines import pixal3d, trellis2
from sightline.scene.errors import InputError

FLOW = dict(
    resolution=16,
    in_channels=8,
    out_channels=8,
    model_channels=384,
    cond_channels=128,
    num_blocks=1,
    num_heads=6,
    mlp_ratio=5.3334,
    pe_mode="rope",
    share_mod=True,
    qk_rms_norm=True,
    qk_rms_norm_cross=True,
)
PROJECTED = {**FLOW, "image_attn_mode": "proj", "proj_in_channels": 512}
DECODER = dict(model_channels=[64, 64, 32], latent_channels=8, num_blocks=[1, 1, 0])
STRUCTURE = dict(latent_channels=8, num_res_blocks=1, num_res_blocks_middle=1, channels=[64, 32])
CASES = [
    ("flow", dict(args=FLOW, tokens=4000, context=300, branches=1)),
    ("flow", dict(args=FLOW, tokens=4000, context=300, branches=2)),
    ("flow", dict(args=PROJECTED, tokens=4000, context=5, branches=2)),
    ("flow", dict(args={**PROJECTED, "dtype": "float16"}, tokens=4000, context=5, branches=1)),
    ("flow", dict(args={**FLOW, "dtype": "bfloat16"}, tokens=4000, context=300, branches=1)),
    ("flow", dict(args=FLOW, tokens=16000, context=5, branches=1)),
    ("structure", dict(args=STRUCTURE, resolution=24)),
    ("decoder", dict(args=DECODER, side=40, workspace=0)),
    ("decoder", dict(args={**DECODER, "dtype": "float16"}, side=32, workspace=0)),
    ("decoder", dict(args=DECODER, side=40, workspace=32 << 20)),
    ("naf", dict(size=256, target=256, points=4000, channels=256)),
]
FACTOR = 3  # an estimate is at most this many times what is measured


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is reset through Linux's /proc")
def test_estimates_bound_measured_peaks():
    program = Path(__file__).with_name("peak_memory.py")
    # every tensor gets its own mapping: what is measured is what is alive, not what the heap kept back
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [sys.executable, str(program), json.dumps(CASES)], capture_output=True, text=True, timeout=900, env=environment
    )
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == len(CASES)
    for (kind, case), (measured, estimate) in zip(CASES, found):
        case = {key: value for key, value in case.items() if key != "args"}
        print(f"{kind} {case}: measured {measured >> 20} MB, estimate {estimate - memory.SLACK >> 20} MB + slack")
        assert measured < estimate, (kind, case)
        assert estimate - memory.SLACK < FACTOR * measured + (32 << 20), (kind, case)


def test_the_published_models():
    """Orders of magnitude at full size: 49,000 tokens in bf16, and the 1536 decoding of their decoder within 8 GB."""
    flow = FlowConfig.from_args(
        {
            **FLOW,
            "in_channels": 32,
            "out_channels": 32,
            "model_channels": 1536,
            "cond_channels": 1024,
            "num_heads": 12,
            "image_attn_mode": "proj",
            "proj_in_channels": 2048,
            "dtype": "bfloat16",
        }
    )
    assert 2 * 2**30 < memory.flow_memory(flow, 49_151, 5, device="cuda") < 5 * 2**30
    decoder = SparseVaeConfig((1024, 512, 256, 128, 64), 32, (4, 16, 8, 4, 0), out_channels=7, dtype=torch.float16)
    voxels = [round(30_000 * 4**level) for level in range(5)]
    assert memory.decoder_memory(decoder, voxels, device="cuda") > 12 * 2**30
    streamed = memory.plan_decode("shape decoder", decoder, 30_000, 8 * 2**30 - 10**9, voxels=voxels, device="cuda")
    assert streamed.workspace and streamed.needed < 8 * 2**30 - 10**9


def test_a_flow_is_batched_sequential_or_refused():
    cfg = FlowConfig.from_args(FLOW)
    both, one = (memory.flow_memory(cfg, 5000, 300, branches=n) for n in (2, 1))
    assert memory.plan_flow("shape", cfg, 5000, 300, both, batched=True).batched
    assert not memory.plan_flow("shape", cfg, 5000, 300, both - 1, batched=True).batched
    assert not memory.plan_flow("shape", cfg, 5000, 300, both, batched=True, guided=False).batched
    assert memory.plan_flow("shape", cfg, 5000, 300, one).needed == one
    with pytest.raises(
        InputError, match=r"shape stage needs .* GB for 5000 tokens.*`max_num_tokens` to (\d+)"
    ) as refusal:
        memory.plan_flow("shape", cfg, 5000, 300, one - 1)
    advised = int(str(refusal.value).split("`max_num_tokens` to ")[1].split(" ")[0])
    assert memory.flow_memory(cfg, advised, 300) <= one - 1 < memory.flow_memory(cfg, advised + 2, 300)
    with pytest.raises(InputError, match="weights and conditions alone"):
        memory.plan_flow("shape", cfg, 5000, 300, 10**6)


def test_a_decoding_is_whole_streamed_or_refused():
    cfg = SparseVaeConfig((1024, 512, 256, 128, 64), 32, (4, 16, 8, 4, 0), out_channels=7, dtype=torch.float16)
    free = memory.decoder_memory(cfg, memory.level_voxels(cfg, 20_000))
    assert memory.plan_decode("shape decoder", cfg, 20_000, free).workspace is None
    sizes = []
    for limit in (free - 1, free // 2, free // 3):
        plan = memory.plan_decode("shape decoder", cfg, 20_000, limit)
        assert plan.needed <= limit and plan.workspace >= memory.LEAST_WORKSPACE
        sizes.append(plan.workspace)
    assert sizes == sorted(sizes, reverse=True)
    least = memory.streamed_memory(cfg, memory.level_voxels(cfg, 20_000), memory.LEAST_WORKSPACE) - 1
    with pytest.raises(InputError, match=r"even in the smallest blocks.*`max_num_tokens` to (\d+)") as refusal:
        memory.plan_decode("shape decoder", cfg, 20_000, least)
    advised = int(str(refusal.value).split("`max_num_tokens` to ")[1].split(" ")[0])
    assert 0 < advised < 20_000
    assert memory.plan_decode("shape decoder", cfg, advised, least).needed <= least
    with pytest.raises(InputError, match="before the first voxel"):
        memory.plan_decode("shape decoder", cfg, 20_000, 10**6)


@pytest.mark.parametrize("projected", [False, True], ids=["trellis2", "pixal3d"])
def test_pipelines_plan_every_stage(projected):
    family = cascade(projected)
    options = dict(samplers=STEPS, pipeline_type="1024_cascade", seed=2)

    def run(**memory_option):
        if projected:
            from sightline.models.trellis2.image_condition import FrontCamera

            return pixal3d.sample_latents(
                family, pixal3d.prepare_picture(picture()), FrontCamera(0.6), **options, **memory_option
            )
        return trellis2.sample_latents(family, trellis2.prepare_picture(picture()), **options, **memory_option)

    free, limited = run(), run(memory=2 << 30)
    for a, b in ((free.shape, limited.shape), (free.texture, limited.texture)):
        assert torch.equal(a.coords, b.coords) and torch.equal(a.feats, b.feats)
    mesh = decode_latents(family, free)
    again = decode_latents(family, free, memory="auto")
    assert torch.equal(mesh.vertices, again.vertices)
    with pytest.raises(InputError, match="image encoder at 32 pixels needs"):
        run(memory=1 << 20)
    with pytest.raises(InputError, match="shape decoder needs"):
        decode_latents(family, free, memory=1 << 20)
    with pytest.raises(InputError, match="`memory` is 'much'"):
        run(memory="much")


def test_a_tight_limit_decodes_in_blocks(monkeypatch):
    """The plan reaches the decoder: with little memory the streamed path runs and gives the same mesh."""
    from sightline.models.trellis2 import latents as module

    family = cascade(False)
    latents = trellis2.sample_latents(
        family, trellis2.prepare_picture(picture()), samplers=STEPS, pipeline_type="512", seed=2
    )
    expected, used = decode_latents(family, latents), []

    def spy(*args, workspace, **options):
        used.append(workspace)
        return stream(*args, workspace=100_000, **options)

    stream = module.stream_decode
    monkeypatch.setattr(module, "stream_decode", spy)
    monkeypatch.setattr(module.planning, "decoder_memory", lambda *args, **options: 1 << 40)
    found = decode_latents(family, latents, memory=1 << 30)
    assert len(used) == 2 and torch.equal(found.faces, expected.faces)
    assert torch.allclose(found.vertices, expected.vertices, atol=1e-5)
    assert torch.allclose(found.attributes, expected.attributes, atol=1e-5)


def test_more_voxels_than_expected_are_noticed_before_they_are_made(monkeypatch):
    """The plan guesses how many voxels a shape has; what the levels really hold is checked as they become known."""
    from sightline.models.trellis2.sc_vae import UpBlock

    family, ran = cascade(False), []
    latents = trellis2.sample_latents(
        family, trellis2.prepare_picture(picture()), samplers=STEPS, pipeline_type="512", seed=2
    )
    decoder = family.get("shape_slat_decoder")
    counts = [len(latents.shape), *[len(plan.coords) for plan in decoder(latents.shape).subdivisions]]
    forward = UpBlock.forward
    monkeypatch.setattr(UpBlock, "forward", lambda self, *args: (ran.append(self), forward(self, *args))[1])
    monkeypatch.setattr(memory, "GROWTH", 0.0)
    monkeypatch.setattr(memory, "decoder_memory", lambda cfg, voxels, **options: 1 << 40)
    limit = memory.streamed_memory(decoder.config, [*counts[:2], 0], memory.LEAST_WORKSPACE)
    with pytest.raises(InputError, match=r"voxels it found at level 2, .* `max_num_tokens` to \d+ or less"):
        decode_latents(family, latents, memory=limit)
    assert len(ran) == 1  # the level that fits was made, the finer one was not
    assert torch.equal(decode_latents(family, latents, memory=1 << 30).faces, decode_latents(family, latents).faces)


def test_a_tight_limit_refines_in_blocks(monkeypatch):
    """The finer voxels of a cascade are the same where the low shape is subdivided in blocks."""
    from sightline.models.trellis2 import runner

    family, used = cascade(False), []
    options = dict(samplers=STEPS, pipeline_type="1024_cascade", seed=2)
    expected = trellis2.sample_latents(family, trellis2.prepare_picture(picture()), **options)
    stream = runner.stream_upsample

    def spy(*args, workspace):
        used.append(workspace)
        return stream(*args, workspace=100_000)

    monkeypatch.setattr(runner, "stream_upsample", spy)
    monkeypatch.setattr(memory, "decoder_memory", lambda cfg, voxels, **rest: 1 << 40)
    found = trellis2.sample_latents(family, trellis2.prepare_picture(picture()), memory=1 << 30, **options)
    assert len(used) == 1 and torch.equal(found.shape.coords, expected.shape.coords)
    assert torch.equal(found.texture.feats, expected.texture.feats)
