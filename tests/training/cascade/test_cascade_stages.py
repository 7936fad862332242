"""Every stage lowers its loss in a few steps at tiny size; a killed run continues exactly."""

from dataclasses import replace

import pytest
import torch

from sightline.kernels.projection import grid_points, sample_map
from sightline.models.trellis2.config import SparseVaeConfig, StructureVaeConfig
from sightline.models.trellis2.image_condition import FrontCamera
from sightline.models.trellis2.sc_vae import ShapeDecoder, ShapeEncoder, SparseVaeDecoder, SparseVaeEncoder
from sightline.models.trellis2.slat_flow import StructuredLatentFlow
from sightline.models.trellis2.sparse_structure_flow import SparseStructureFlow
from sightline.models.trellis2.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from sightline.models.trellis2.tiny_encoder import TinyEncoderConfig
from sightline.scene.errors import InputError
from sightline.training.cascade import flows
from sightline.training.cascade.data import prepare
from sightline.training.cascade.derived import derive
from sightline.training.cascade.encoder_stage import EncoderTask
from sightline.training.cascade.stages import STAGES, Bench, start
from sightline.training.cascade.texture_code import derive_textures
from sightline.training.stage_run import StageRun

ENCODER = TinyEncoderConfig(channels=32, stem=(8, 16), num_blocks=1, num_heads=2)
NARROW = dict(model_channels=32, num_blocks=1, cond_channels=32, proj_in_channels=32)
VAE = dict(model_channels=(16, 8, 8), num_blocks=(1, 0, 0))
BUILDS = {
    "encoder": lambda: EncoderTask(ENCODER),
    "structure_decoder": lambda: SparseStructureDecoder(StructureVaeConfig(16, 1, (16, 8), 1)),
    "structure_flow": lambda: flows.initialize(SparseStructureFlow(replace(flows.STRUCTURE_FLOW, **NARROW))),
    "structure_tuning": lambda: SparseStructureDecoder(StructureVaeConfig(16, 1, (16, 8), 1)),
    "shape_decoder": lambda: ShapeDecoder(SparseVaeConfig(latent_channels=16, **VAE)),
    "shape_flow": lambda: flows.initialize(StructuredLatentFlow(replace(flows.SHAPE_FLOW, **NARROW))),
    "texture_decoder": lambda: SparseVaeDecoder(
        SparseVaeConfig(latent_channels=14, out_channels=6, pred_subdiv=False, **VAE)
    ),
    "texture_flow": lambda: flows.initialize(StructuredLatentFlow(replace(flows.TEXTURE_FLOW, **NARROW))),
    "structure_encoder": lambda: SparseStructureEncoder(StructureVaeConfig(16, 1, (8, 16), 1)),
    "shape_encoder": lambda: ShapeEncoder(
        SparseVaeConfig(latent_channels=16, model_channels=(8, 8, 16), num_blocks=(0, 0, 1))
    ),
    "texture_encoder": lambda: SparseVaeEncoder(
        SparseVaeConfig(latent_channels=14, model_channels=(8, 8, 16), num_blocks=(0, 0, 1), in_channels=6)
    ),
}


FLOWS = ("structure_flow", "shape_flow")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    assert list(prepare(folder, 4, "train")) == [4] and list(derive(folder)) == [0]
    assert list(derive_textures(folder)) == [0]
    bench = Bench(folder, folder / "runs")
    torch.manual_seed(0)
    bench.kept["tokens train"] = flows.encode_images(EncoderTask(ENCODER).encoder, bench.latents().image)
    plain = bench.trained
    bench.trained = lambda stage: BUILDS[stage]().eval() if stage in FLOWS else plain(stage)
    return bench


def run_of(stage, bench, folder=None, steps=30):
    chosen = STAGES[stage]
    torch.manual_seed(1)
    options = replace(chosen.options, warmup=5)
    return StageRun(BUILDS[stage](), chosen.loss(bench, 2), steps, options, chosen.is_hidden, folder, chosen.decay)


def test_every_stage_is_tested():
    assert set(BUILDS) == set(STAGES)


@pytest.mark.parametrize("stage", BUILDS)
def test_some_steps_lower_the_loss(stage, bench):
    run = run_of(stage, bench)
    losses = [run.advance()["loss"] for _ in range(30)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("stage", ["structure_flow", "shape_decoder"])
def test_a_killed_run_continues_exactly(stage, bench, tmp_path):
    whole = run_of(stage, bench, steps=6)
    for _ in range(6):
        whole.advance()
    first = run_of(stage, bench, tmp_path, steps=6)
    for _ in range(3):
        first.advance()
    first.save()
    second = run_of(stage, bench, tmp_path, steps=6)
    assert second.step == 3
    second.run(log_every=1)
    for name, value in whole.state()["module"].items():
        assert torch.equal(value, second.state()["module"][name]), name
    for name, value in whole.state()["average"].items():
        assert torch.equal(value, second.state()["average"][name]), name
    assert (tmp_path / "log.jsonl").read_text().count("loss") == 3


def test_separable_reading_equals_the_projection():
    torch.manual_seed(0)
    tokens, fov = torch.randn(2, 5 + 256, 8), torch.tensor([0.6, 0.85])
    dense = flows.dense_condition(tokens, fov, 8).projected
    cells = torch.cartesian_prod(*[torch.arange(8)] * 3).int()
    coords = torch.cat([torch.nn.functional.pad(cells, (1, 0), value=k) for k in range(2)])
    sparse = flows.sparse_condition(tokens, fov, coords, 8).projected
    assert torch.allclose(dense.flatten(0, 1), sparse, atol=1e-5)
    maps = tokens[1:, 5:].transpose(1, 2).unflatten(-1, (16, 16))
    direct = sample_map(maps, FrontCamera(float(fov[1])).uv(grid_points(8), 128)[0], 128)
    assert torch.allclose(dense[1], direct, atol=1e-5)


def test_what_cannot_be_started(bench, tmp_path):
    with pytest.raises(InputError, match="unknown"):
        start("shape", bench)
    with pytest.raises(InputError, match="no run of the stage 'encoder'"):
        start("shape_flow", bench)
    with pytest.raises(InputError, match="no derived latents"):
        Bench(tmp_path, tmp_path).latents()
    other = run_of("structure_decoder", bench, tmp_path)
    other.save()
    with pytest.raises(InputError, match="another network"):
        run_of("structure_flow", bench, tmp_path)
