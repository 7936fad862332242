"""The stages by name: what each trains, on what, and for how long."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...models.trellis2.config import SparseVaeConfig, StructureVaeConfig
from ...models.trellis2.sc_vae import ShapeDecoder, ShapeEncoder, SparseVaeDecoder, SparseVaeEncoder
from ...models.trellis2.slat_flow import StructuredLatentFlow
from ...models.trellis2.sparse_structure_flow import SparseStructureFlow
from ...models.trellis2.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from ...scene.errors import InputError
from ..optimizers import OptimizerOptions
from ..stage_run import StageFolders, StageRun
from . import decoders, encoder_stage, encoders, flows, texture_code
from .data import Shards
from .derived import Latents, shape_code
from .encoder_stage import EncoderTask, draw
from .sampling import STRUCTURE_SAMPLER, sample_structures

STRUCTURE_DECODER = StructureVaeConfig(latent_channels=16, num_res_blocks=1, num_res_blocks_middle=1, channels=(64, 16))
STRUCTURE_ENCODER = StructureVaeConfig(latent_channels=16, num_res_blocks=1, num_res_blocks_middle=2, channels=(24, 64))
SHAPE_DECODER = SparseVaeConfig(model_channels=(64, 32, 16), latent_channels=16, num_blocks=(3, 1, 0))
SHAPE_ENCODER = SparseVaeConfig(model_channels=(16, 32, 64), latent_channels=16, num_blocks=(0, 1, 2))
TEXTURE_DECODER = SparseVaeConfig(
    model_channels=(48, 24, 12), latent_channels=14, num_blocks=(2, 1, 0), out_channels=6, pred_subdiv=False
)
TEXTURE_ENCODER = SparseVaeConfig(model_channels=(12, 24, 48), latent_channels=14, num_blocks=(0, 1, 1), in_channels=6)
RADIANS = math.pi / 180
FLOW_OPTIONS = OptimizerOptions(lr=2e-3)
VAE_OPTIONS = OptimizerOptions(lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0)


def shape_scale(folder: Path | str) -> Tensor:
    """[C] what the flows multiply the shape code by: channels of little variance count for less."""
    std = shape_code(folder).std
    return (std / std[0]).sqrt()


def texture_weights() -> Tensor:
    """[14] the same for the texture code: slopes count for less than means."""
    slopes = texture_code.CHANNELS - 5
    return torch.tensor([1.0] * 5 + [texture_code.SLOPE_WEIGHT] * slopes)


def math_attention() -> AbstractContextManager:
    """Attention as plain products, which trains faster than torch's fused kernel on a CPU with bfloat16 products."""
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    return sdpa_kernel(SDPBackend.MATH)


class Bench(StageFolders):
    """What the stages read, once each."""

    def latents(self, split: str = "train") -> Latents:
        return self.once(f"latents {split}", lambda: Latents(self.folder, split))

    def shards(self, split: str = "train") -> Shards:
        return self.once(f"shards {split}", lambda: Shards(self.folder, split))

    def textures(self, split: str = "train") -> texture_code.Textures:
        return self.once(f"textures {split}", lambda: texture_code.Textures(self.folder, split))

    def tokens(self, split: str = "train") -> Tensor:
        """The pictures of a split, encoded by the finished encoder; kept in the runs folder."""

        def encode() -> Tensor:
            encoder = self.trained("encoder").encoder
            return flows.Tokens(self.runs / f"tokens_{split}.pt", encoder, self.latents(split).image).tokens

        return self.once(f"tokens {split}", encode)

    def trained(self, stage: str) -> nn.Module:
        """The averaged module of a stage that has run."""
        return self.averaged(stage, STAGES[stage].build)


def generator(step: int) -> torch.Generator:
    return torch.Generator().manual_seed(step)


def gather(
    bench: Bench, split: str, rows: Tensor, draws: torch.Generator, most: float, texture: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Tokens coords [N, 4] of some objects, their normalized shape latents, and texture latents where asked."""
    latents = bench.latents(split)
    scale = bench.once("scale", lambda: shape_scale(bench.folder))
    cells = [decoders.token_cells(latents, int(i), draws, most) for i in rows]
    coords = torch.cat([nn.functional.pad(c, (1, 0), value=k) for k, c in enumerate(cells)]).int()
    shape = torch.cat([latents.code(int(i), c) for i, c in zip(rows, cells)]) * scale
    if not texture:
        return coords, shape, None
    textures = bench.textures(split)
    return coords, shape, torch.cat([textures.code(int(i), c) for i, c in zip(rows, cells)]) * texture_weights()


def encoder_loss(bench: Bench, batch: int):
    data, std = bench.latents(), shape_code(bench.folder).std
    return lambda task, step: encoder_stage.encoder_terms(task, data, draw(len(data), batch, step, 0), std / std[0])


def structure_decoder_loss(bench: Bench, batch: int):
    data = bench.latents()

    def loss(decoder, step):
        rows = draw(len(data), batch, step, 2)
        return decoders.structure_terms(decoder, data.structure[rows].float(), data.occupied[rows], generator(step))

    return loss


def structure_flow_loss(bench: Bench, batch: int):
    data, tokens = bench.latents(), bench.tokens()

    def loss(flow, step):
        rows = draw(len(data), batch, step, 3)
        with math_attention():
            latent, fov = data.structure[rows].float(), data.fov[rows] * RADIANS
            return flows.structure_flow_terms(flow, latent, tokens[rows], fov, generator(step))

    return loss


def structure_tuning_loss(bench: Bench, batch: int):
    data, tokens, flow = bench.latents(), bench.tokens(), bench.trained("structure_flow")

    def loss(decoder, step):
        rows = draw(len(data), batch, step, 9)
        cond = flows.dense_condition(tokens[rows], data.fov[rows] * RADIANS, flow.config.resolution)
        settings = replace(STRUCTURE_SAMPLER, steps=1 + step % 3)
        latent = sample_structures(flow, cond, settings, seed=step)
        return decoders.structure_tuning_terms(decoder, latent, data.occupied[rows], data.near[rows])

    return loss


def shape_decoder_loss(bench: Bench, batch: int):
    data, shards = bench.latents(), bench.shards()

    def loss(decoder, step):
        draws = generator(step)
        targets = decoders.make_targets(shards, data, draw(len(data), batch, step, 1), draws)
        given = decoders.perturbed(targets.exact, targets.cells, targets.batch, draws)
        return decoders.shape_terms(decoder, given, targets, extra=step > 200)

    return loss


def shape_flow_loss(bench: Bench, batch: int):
    data, tokens = bench.latents(), bench.tokens()

    def loss(flow, step):
        draws, rows = generator(step), draw(len(data), batch, step, 4)
        coords, shape, _ = gather(bench, "train", rows, draws, 0.4, False)
        with math_attention():
            return flows.latent_flow_terms(flow, shape, coords, tokens[rows], data.fov[rows] * RADIANS, draws)

    return loss


def texture_decoder_loss(bench: Bench, batch: int):
    data, shards, textures = bench.latents(), bench.shards(), bench.textures()

    def loss(decoder, step):
        draws, rows = generator(step), draw(len(data), batch, step, 6)
        targets = decoders.make_targets(shards, data, rows, draws)
        item = targets.cells[:, 0]
        exact = torch.cat([textures.code(int(i), targets.cells[item == k][:, 1:]) for k, i in enumerate(rows)])
        given = decoders.perturbed(exact, targets.cells, targets.batch, draws, 0.4)
        return decoders.texture_terms(decoder, given, targets)

    return loss


def texture_flow_loss(bench: Bench, batch: int):
    data, tokens = bench.latents(), bench.tokens()

    def loss(flow, step):
        draws, rows = generator(step), draw(len(data), batch, step, 5)
        coords, shape, texture = gather(bench, "train", rows, draws, 0.4, True)
        amount = (0.3 * torch.rand(len(rows), 1, generator=draws))[coords[:, 0].long()]  # as the shape flow errs
        scale = bench.once("scale", lambda: shape_scale(bench.folder))
        concat = shape + amount * scale * torch.randn(shape.shape, generator=draws)
        with math_attention():
            fov = data.fov[rows] * RADIANS
            return flows.latent_flow_terms(flow, texture, coords, tokens[rows], fov, draws, concat=concat)

    return loss


@dataclass(frozen=True)
class Stage:
    """One stage: how its module is built, its loss, steps, objects a step, optimizer, which matrices Muon takes, the
    average's decay, the stages that must have run, and the one whose weights it begins with."""

    build: Callable[[], nn.Module]
    loss: Callable
    steps: int
    batch: int
    options: OptimizerOptions
    is_hidden: Callable[[str, nn.Parameter], bool]
    decay: float
    needs: tuple[str, ...] = ()
    begin: str | None = None


def _flow(kind: type[nn.Module], config) -> Callable[[], nn.Module]:
    return lambda: flows.initialize(kind(config))


STAGES = {
    "encoder": Stage(EncoderTask, encoder_loss, 2500, 16, FLOW_OPTIONS, encoder_stage.is_hidden, 0.998),
    "structure_decoder": Stage(
        lambda: SparseStructureDecoder(STRUCTURE_DECODER), structure_decoder_loss, 500, 12, VAE_OPTIONS,
        decoders.is_hidden, 0.995,
    ),
    "structure_flow": Stage(
        _flow(SparseStructureFlow, flows.STRUCTURE_FLOW), structure_flow_loss, 1100, 16, FLOW_OPTIONS,
        flows.is_hidden, 0.998, ("encoder",),
    ),
    "structure_tuning": Stage(
        lambda: SparseStructureDecoder(STRUCTURE_DECODER), structure_tuning_loss, 250, 12,
        replace(VAE_OPTIONS, lr=5e-4), decoders.is_hidden, 0.98, ("structure_flow",), "structure_decoder",
    ),
    "shape_decoder": Stage(
        lambda: ShapeDecoder(SHAPE_DECODER), shape_decoder_loss, 1500, 4, VAE_OPTIONS, decoders.is_hidden, 0.995
    ),
    "shape_flow": Stage(
        _flow(StructuredLatentFlow, flows.SHAPE_FLOW), shape_flow_loss, 2700, 8, FLOW_OPTIONS, flows.is_hidden,
        0.998, ("encoder",),
    ),
    "texture_decoder": Stage(
        lambda: SparseVaeDecoder(TEXTURE_DECODER), texture_decoder_loss, 350, 4, VAE_OPTIONS, decoders.is_hidden, 0.995
    ),
    "texture_flow": Stage(
        _flow(StructuredLatentFlow, flows.TEXTURE_FLOW), texture_flow_loss, 1500, 8, FLOW_OPTIONS, flows.is_hidden,
        0.998, ("encoder",),
    ),
    "structure_encoder": Stage(
        lambda: SparseStructureEncoder(STRUCTURE_ENCODER), encoders.structure_encoder_loss, 600, 12, VAE_OPTIONS,
        decoders.is_hidden, 0.99,
    ),
    "shape_encoder": Stage(
        lambda: ShapeEncoder(SHAPE_ENCODER), encoders.shape_encoder_loss, 350, 4, VAE_OPTIONS, decoders.is_hidden, 0.99
    ),
    "texture_encoder": Stage(
        lambda: SparseVaeEncoder(TEXTURE_ENCODER), encoders.texture_encoder_loss, 150, 4, VAE_OPTIONS,
        decoders.is_hidden, 0.99,
    ),
}  # fmt: skip


def start(stage: str, bench: Bench, *, seed: int = 0, steps: int | None = None, batch: int | None = None) -> StageRun:
    """A stage ready to run, or to continue where its folder has a state.

    Raises InputError for an unknown stage, missing data or a stage that must have run before.
    """
    if stage not in STAGES:
        raise InputError(f"The stage {stage!r} is unknown; {', '.join(STAGES)} are there, best in this order.")
    chosen = STAGES[stage]
    for name in chosen.needs:
        bench.trained(name)
    torch.manual_seed(seed)
    module = chosen.build()
    if chosen.begin:
        module.load_state_dict(bench.trained(chosen.begin).state_dict())
        module.requires_grad_(True)
    loss = chosen.loss(bench, batch or chosen.batch)
    folder = bench.runs / stage
    return StageRun(module, loss, steps or chosen.steps, chosen.options, chosen.is_hidden, folder, chosen.decay)
