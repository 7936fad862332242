"""The training loop: one process, or several under torchrun (gloo on CPU, nccl on CUDA) that average their gradients.

python -m sightline train sparsegen --config tiny --data VIEWS --out RUN
torchrun --nproc-per-node 2 -m sightline train sparsegen --config tiny --data VIEWS --out RUN
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ...models.sparsegen import SparseGen, initialize
from ...scene.errors import InputError, MissingDependency
from ..processes import save_state
from .calibrate import calibrate
from .draws import draw_times, torch_generator
from .ema import Ema
from .log import RunLog
from .losses import VggPerceptualLoss, total_loss
from .recipe import OptimizerOptions, Recipe
from .sources import Source, open_source
from .state import read_state
from .step import StepDraws, StepOptions, StepResult, TrainingViews, training_step


class Processes:
    """The group of training processes; alone when not started by torchrun (or accelerate launch)."""

    def __init__(self):
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        self.owner = self.count > 1 and not dist.is_initialized()
        if self.owner:
            dist.init_process_group("nccl" if cuda else "gloo")

    @property
    def first(self) -> bool:
        return self.rank == 0

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the processes, in one transfer; absent gradients count as zero."""
        if self.count == 1:
            return
        parameters = [p for p in model.parameters() if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(flat)
        flat /= self.count
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters])):
            if parameter.grad is None:
                parameter.grad = part.view_as(parameter).clone()
            else:
                parameter.grad.copy_(part.view_as(parameter))

    def average(self, values: list[float]) -> list[float]:
        if self.count == 1:
            return values
        tensor = torch.tensor(values, device=self.device)
        dist.all_reduce(tensor)
        return (tensor / self.count).tolist()

    def close(self) -> None:
        if self.owner:
            dist.barrier()
            dist.destroy_process_group()


def learning_rate(options: OptimizerOptions, step: int, steps: int) -> float:
    """Learning rate of step ``step`` (from 0) of ``steps``."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    if options.schedule == "constant":
        return options.lr
    if options.schedule == "cosine":
        done = (step - options.warmup) / max(1, steps - options.warmup)
        return options.final_lr + (options.lr - options.final_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    if options.schedule == "trapezoid":
        start = options.decay_from * steps
        done = min(max((step - start) / max(1.0, steps - start), 0.0), 1.0)
        return options.lr + (options.final_lr - options.lr) * done
    raise InputError(f"`schedule` is {options.schedule!r}; use 'constant', 'cosine' or 'trapezoid'.")


def make_optimizers(model: nn.Module, options: OptimizerOptions) -> list[torch.optim.Optimizer]:
    """AdamW in two groups, picture encoder (its rate times ``encoder_lr_factor``) and the rest; Muon where asked."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    muon = [(n, p) for n, p in named if options.muon and is_hidden_matrix(n, p)]
    taken = {n for n, _ in muon}

    def groups(chosen):
        for encoder, factor in ((True, options.encoder_lr_factor), (False, 1.0)):
            parameters = [p for n, p in chosen if ("feature_extractor" in n) == encoder]
            if parameters:
                yield {"params": parameters, "factor": factor}

    rest = [(n, p) for n, p in named if n not in taken]
    optimizers = [
        torch.optim.AdamW(
            list(groups(rest)), lr=options.lr, betas=options.betas, eps=options.eps, weight_decay=options.weight_decay
        )
    ]
    if muon:
        if not hasattr(torch.optim, "Muon"):
            raise MissingDependency(
                "`optimizer.muon` needs torch 2.9 or newer; update torch or set `optimizer.muon: false`."
            )
        optimizers.append(
            torch.optim.Muon(
                list(groups(muon)), lr=options.lr, weight_decay=options.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter maps hidden activations to hidden activations (no embedding, modulation or last layer)."""
    inner = (".attn.", "_attn.", ".mlp.fc", "feed_forward.", "gs_decoder.")
    last = name.startswith("gs_decoder.") and name.endswith(".4.weight")
    return parameter.ndim == 2 and any(part in name for part in inner) and not last


def step_options(recipe: Recipe, step: int) -> StepOptions:
    """What step number ``step`` does: render sizes and self-conditioning may begin later in a run."""
    views = recipe.views
    sizes = [side for start, side in sorted(views.render_sizes.items()) if step >= start]
    return StepOptions(
        drop_all_clean=views.drop_all_clean,
        noisy_dropout=views.noisy_dropout,
        penalize=views.penalize,
        self_condition=views.self_condition if step >= views.self_condition_from else 0.0,
        layers=views.layers,
        early_layer_views=views.early_layer_views,
        render_size=sizes[-1] if sizes else None,
    )


class Trainer:
    """Model, optimizer and moving average of one run, and its steps; ``state`` and ``load_state`` continue exactly."""

    def __init__(self, recipe: Recipe, source: Source, processes: Processes | None = None):
        self.recipe, self.source = recipe, source
        self.processes = processes or Processes()
        self.device = self.processes.device
        options = dict(recipe.initialize)
        style, calibrated = options.pop("style", "reference"), options.pop("calibrate", False)
        self.model = initialize(SparseGen(recipe.model), style, seed=recipe.seed, **options).to(self.device).train()
        if calibrated:  # the same batch in every process: they must start alike
            calibrate(self.model, self._placed(source.batch(0, 0)))
        self.optimizers = make_optimizers(self.model, recipe.optimizer)
        ema = recipe.ema
        self.ema = None
        if ema.use and self.processes.first:
            self.ema = Ema(self.model, ema.decay, ema.update_every, ema.start, short_run=ema.short_run)
        self.perceptual = None
        if recipe.losses.perceptual > 0:
            self.perceptual = VggPerceptualLoss.from_file(recipe.vgg_weights).to(self.device)
        self.step = 0

    def _inputs(self, step: int, rank: int):
        """Views, generator, times and options of one step of one process."""
        views = self._placed(self.source.batch(step, rank))
        times = draw_times(self.recipe, step, rank, len(views.images))
        options = step_options(self.recipe, step)
        if not views.noisy:  # without noisy views the clean ones are all there is
            options = replace(options, drop_all_clean=-1.0)
        return views, torch_generator(self.recipe, step, rank), times, options

    def advance(self) -> tuple[dict[str, float], StepResult]:
        """One optimizer step; returns loss terms (mean over processes), gradient norm, learning rate, and the step."""
        recipe = self.recipe
        views, generator, times, options = self._inputs(self.step, self.processes.rank)
        draws = StepDraws.draw(views, generator)
        with torch.random.fork_rng(devices=[]):  # dropout inside the network
            torch.manual_seed(generator.initial_seed())
            result = training_step(self.model, views, times, draws, options, recipe.losses, perceptual=self.perceptual)
        loss = total_loss(result.terms)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        self.processes.average_gradients(self.model)
        rate = learning_rate(recipe.optimizer, self.step, recipe.steps)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = rate * group["factor"]
        clip = recipe.optimizer.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), clip))
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
        if self.ema:
            self.ema.update(self.model)
        self.step += 1
        names = list(result.terms)
        values = self.processes.average([float(result.terms[n].detach()) for n in names] + [float(loss.detach())])
        return dict(zip(names + ["loss"], values)) | {"gradient": norm, "lr": rate}, result

    def _placed(self, views: TrainingViews) -> TrainingViews:
        tensors = {k: v.to(self.device) for k, v in vars(views).items() if isinstance(v, torch.Tensor)}
        return replace(views, **tensors)

    @property
    def averaged(self) -> SparseGen:
        """The weights to keep: the moving average where there is one."""
        return self.ema.model if self.ema else self.model

    def state(self) -> dict:
        return {
            "diffuser": self.averaged.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizers[0].state_dict(),
            "more_optimizers": [optimizer.state_dict() for optimizer in self.optimizers[1:]],
            "ema_calls": self.ema.calls if self.ema else 0,
            "iteration": self.step,
            "recipe": json.dumps(self.recipe.to_dict()),
        }

    def load_state(self, state: dict) -> None:
        """Continue from ``state``; the recipe may have changed in everything but the network."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, [state["optimizer"], *state.get("more_optimizers", [])]):
            optimizer.load_state_dict(saved)
        if self.ema:
            self.ema.load_state_dict({"model": state["diffuser"], "calls": state["ema_calls"]})
        self.step = int(state["iteration"])


def train(
    recipe: Recipe, out: Path | str, *, minutes: float | None = None, source: Source | None = None, callback=None
) -> Path:
    """Run (or continue) a recipe in folder ``out`` until its steps, or ``minutes``, are over; returns the checkpoint.

    ``out/state.pth`` is written every ``save_every`` steps, and continued where it exists. ``callback(done, total)``
    may raise to stop; the last written checkpoint stays. Raises InputError for unusable options or data.
    """
    processes = Processes()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, source or open_source(recipe), processes)
    path = out / "state.pth"
    if path.exists():
        trainer.load_state(read_state(path))
    log = RunLog(out, recipe) if processes.first else None
    started, sums, since = time.monotonic(), {}, time.monotonic()
    counted = 0
    while trainer.step < recipe.steps:
        values, result = trainer.advance()
        if math.isfinite(values["loss"]):
            counted += 1
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value
        if callback:
            callback(trainer.step, recipe.steps)
        if log and trainer.step % recipe.log_every == 0 and counted:
            seconds = (time.monotonic() - since) / recipe.log_every
            log.scalars(trainer.step, {k: v / counted for k, v in sums.items()} | {"seconds": seconds})
            sums, counted, since = {}, 0, time.monotonic()
        if log and recipe.evaluate_every and trainer.step % recipe.evaluate_every == 0:
            log.held_out(trainer.step, trainer.averaged, getattr(trainer.source, "shard", None))
            since = time.monotonic()
        over = minutes is not None and time.monotonic() - started > minutes * 60
        if processes.count > 1 and minutes is not None:
            over = processes.average([float(over)])[0] > 0
        if processes.first and (trainer.step % recipe.save_every == 0 or over or trainer.step == recipe.steps):
            save_state(trainer.state(), path)
        if over:
            break
    if log:
        log.close()
    processes.close()
    return path
