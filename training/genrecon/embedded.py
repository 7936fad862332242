"""The embedded family's stages by name: what each trains, on what, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ...scene.errors import InputError
from ..cascade.derived import shape_code
from ..optimizers import OptimizerOptions
from ..stage_run import StageFolders, StageRun
from . import encoder_stage, flow_stages, structure_decoder
from .data import Rooms
from .export import CODES
from .flow_stages import Scales
from .volumes import Codes


class RoomBench(StageFolders):
    """What the stages read, once each."""

    def rooms(self, split: str = "train") -> Rooms:
        return self.once(f"rooms {split}", lambda: Rooms(self.folder, split))

    def codes(self) -> Codes:
        return self.once("codes", lambda: read_codes(self.folder))

    def scales(self) -> Scales:
        return Scales.of(self.codes().shape.std)

    def tokens(self, split: str = "train") -> Tensor:
        """The pictures of a split, encoded by the finished encoder; kept in the runs folder."""

        def encode() -> Tensor:
            encoder = self.trained("fusion").encoder
            return flow_stages.encode_rooms(encoder, self.rooms(split), self.runs / f"tokens_{split}.npy")

        return self.once(f"tokens {split}", encode)

    def trained(self, stage: str) -> nn.Module:
        """The averaged module of a stage that has run."""
        return self.averaged(stage, lambda: STAGES[stage].build(None))


def read_codes(folder: Path | str) -> Codes:
    """The codes of a folder of rooms; where it has none, those of the embedded family, whose decoders read them."""
    from safetensors.torch import load_file

    from ...models.genrecon.family import EMBEDDED_FOLDER

    for place in (Path(folder), EMBEDDED_FOLDER):
        if (place / CODES).is_file():
            return Codes.from_state(load_file(place / CODES))
    raise InputError(f"There is no {CODES} in {folder}; it holds the codes of the latents.")


def codes_of_cascade(folder: Path | str) -> Codes:
    """The codes the embedded Pixal3D family's decoders were trained to read, from its data folder."""
    from ..cascade.texture_code import texture_scale

    return Codes(shape_code(folder), *texture_scale(folder))


@dataclass(frozen=True)
class RoomStage:
    """build(bench or None) -> module; loss(bench, batch) -> loss(module, step); figures(bench, module) of held-out
    rooms; steps, items a step, optimizer, which matrices Muon takes, the average's decay, what must have run."""

    build: Callable[[RoomBench | None], nn.Module]
    loss: Callable
    figures: Callable | None
    steps: int
    batch: int
    options: OptimizerOptions
    is_hidden: Callable[[str, nn.Parameter], bool]
    decay: float
    needs: tuple[str, ...] = ()


FLOW = OptimizerOptions(lr=2e-3, warmup=30)
DECODER = OptimizerOptions(lr=3e-3, betas=(0.9, 0.99), weight_decay=0.0, warmup=20)


def _flow(stage: str, steps: int, batch: int) -> RoomStage:
    def build(bench: RoomBench | None) -> nn.Module:
        return flow_stages.make_flow(stage, None if bench is None else bench.trained("fusion").aggregator)

    def loss(bench: RoomBench, count: int):
        return flow_stages.flow_loss(stage, bench.rooms(), bench.tokens(), bench.scales(), count)

    def figures(bench: RoomBench, flow: nn.Module) -> dict[str, float]:
        held_out = flow_stages.flow_loss(
            stage, bench.rooms("validation"), bench.tokens("validation"), bench.scales(), 4
        )
        with torch.no_grad():
            values = [float(held_out(flow, 1_000_000 + k)["velocity"]) for k in range(8)]
        return {"held_out_velocity": sum(values) / len(values)}

    return RoomStage(build, loss, figures, steps, batch, FLOW, flow_stages.is_hidden, 0.995, ("fusion",))


def _decoder(bench: RoomBench | None, begin: str | None = None) -> nn.Module:
    module = structure_decoder.make_decoder()
    if bench is not None and begin:
        module.load_state_dict(bench.trained(begin).state_dict())
    return module


def _decoder_figures(bench: RoomBench, decoder: nn.Module) -> dict[str, float]:
    return structure_decoder.structure_figures(
        decoder, bench.trained("structure"), bench.rooms("validation"), bench.tokens("validation"), bench.scales()
    )


def _encoder_loss(bench: RoomBench, batch: int):
    return encoder_stage.encoder_loss(bench.rooms(), bench.scales().shape, batch)


def _encoder_figures(bench: RoomBench, task: nn.Module) -> dict[str, float]:
    return encoder_stage.encoder_figures(task, bench.rooms("validation"), bench.scales().shape, 16)


def _fusion(bench: RoomBench | None) -> nn.Module:
    task = encoder_stage.EncoderTask()
    if bench is None:
        return task
    return encoder_stage.begin_fusion(task, bench.trained("encoder"), bench.rooms("validation"))


STAGES = {
    "encoder": RoomStage(
        lambda bench: encoder_stage.EncoderTask(), _encoder_loss, _encoder_figures, 400, 2, FLOW,
        encoder_stage.is_hidden, 0.995,
    ),
    "fusion": RoomStage(
        _fusion, _encoder_loss, _encoder_figures, 320, 2, replace(FLOW, lr=1.5e-3), encoder_stage.is_hidden, 0.995,
        ("encoder",),
    ),
    "structure": _flow("structure", 540, 8),
    "shape": _flow("shape", 420, 4),
    "texture": _flow("texture", 350, 4),
    "structure_decoder": RoomStage(
        _decoder, lambda bench, batch: structure_decoder.exact_loss(bench.rooms(), batch), None, 130, 6, DECODER,
        structure_decoder.is_hidden, 0.98,
    ),
    "structure_tuning": RoomStage(
        lambda bench: _decoder(bench, "structure_decoder"),
        lambda bench, batch: structure_decoder.tuning_loss(
            bench.rooms(), bench.tokens(), bench.trained("structure"), bench.scales(), batch
        ),
        _decoder_figures, 40, 2, replace(DECODER, lr=1e-3), structure_decoder.is_hidden, 0.95,
        ("structure", "structure_decoder"),
    ),
}  # fmt: skip


def start(
    stage: str, bench: RoomBench, *, seed: int = 0, steps: int | None = None, batch: int | None = None
) -> StageRun:
    """A stage ready to run, or to continue where its folder has a state.

    Raises InputError for an unknown stage, missing rooms or a stage that must have run before.
    """
    if stage not in STAGES:
        raise InputError(f"The stage {stage!r} is unknown; {', '.join(STAGES)} are there, best in this order.")
    chosen = STAGES[stage]
    for name in chosen.needs:
        bench.trained(name)
    torch.manual_seed(seed)
    module = chosen.build(bench)
    loss = chosen.loss(bench, batch or chosen.batch)
    return StageRun(
        module, loss, steps or chosen.steps, chosen.options, chosen.is_hidden, bench.runs / stage, chosen.decay
    )


def export_family(bench: RoomBench, folder: Path | str) -> int:
    """Write the family of a runs folder; returns its bytes. Raises InputError where a stage has not run."""
    from .export import write_scene_family

    flows = {stage: bench.trained(stage) for stage in ("structure", "shape", "texture")}
    return write_scene_family(
        folder, bench.trained("fusion").encoder, flows, bench.trained("structure_tuning"), bench.codes()
    )
