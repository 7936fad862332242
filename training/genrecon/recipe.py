"""The adapter recipe: what is trained and how fast, what one step sees, and what is kept.

Only LoRA, `aggregator.*` and `proj_linears.*` are trained; the base stays as it is. A step sees a chunk's latent and 1
to 16 views of its whole room. Source: GenRecon, specification 14.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ...kernels.view_aggregation import aggregate
from ...kernels.view_projection import lift, project_to_patches, voxel_centers
from ...models.genrecon.checkpoint import build_flow, is_trained
from ...models.genrecon.flows import ConditionedStructureFlow, SceneCondition, ViewTokens
from ...models.genrecon.lora import LoraConfig
from ...models.trellis2.checkpoint import assign_weights
from ...scene.errors import InputError
from ...scene.sparse import SparseTensor

MAX_VIEWS = 16
LEAST_AREA = 0.4
REJECTIONS = 50
LOGIT_NORMAL = {"structure": (1.0, 1.0)}  # mean and deviation; the other stages draw times evenly


@dataclass(frozen=True)
class AdapterOptions:
    """The published settings; the texture stage has weight_decay 0.1."""

    lr_lora: float = 3e-5
    lr_new: float = 1e-4
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: int = 2000
    ema: float = 0.9995
    p_uncond: float = 0.1
    sigma_min: float = 1e-5
    max_norm: float = 1.0
    percentile: float = 95.0
    history: int = 1000


@dataclass(frozen=True, eq=False)
class ChunkSample:
    """One chunk to learn from.

    x0: latent [C, R, R, R], or rows [N, C] at coords [N, 3] of a grid of `resolution`; tokens [V, prefix + P, D] of
    room views, extrinsics [V, 4, 4] (chunk frame -> camera), intrinsics [V, 3, 3]; concat [N, K].
    """

    x0: Tensor
    tokens: Tensor
    extrinsics: Tensor
    intrinsics: Tensor
    coords: Tensor | None = None
    resolution: int = 16
    concat: Tensor | None = None


def adapter_model(base: Mapping[str, Tensor], args: Mapping[str, object], lora: LoraConfig) -> nn.Module:
    """A flow with TRELLIS.2's weights and fresh adapters; everything else is frozen.

    The fresh parts change nothing: LoRA's B, `proj_linears` and the last layer of the aggregator are zero.
    """
    with torch.device("cpu"):
        fresh = build_flow(args, lora).to_empty(device="cpu")
    fresh_state = {}
    for name, value in fresh.state_dict().items():
        if not is_trained(name):
            continue
        if name.endswith(".lora_A"):
            value = nn.init.kaiming_uniform_(torch.empty(value.shape), a=5**0.5)
        elif name.startswith("aggregator.") and name.endswith("weight") and "feature_mlp.4" not in name:
            value = nn.init.kaiming_uniform_(torch.empty(value.shape), a=5**0.5)
        else:
            value = torch.zeros(value.shape)
        fresh_state[name] = value
    frozen = {k: base[k] for k in base if k != "rope_phases"}
    model = assign_weights(build_flow(args, lora), {**frozen, **fresh_state}, "the base weights")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_trained(name))
    return model


def parameter_groups(model: nn.Module, options: AdapterOptions) -> list[dict]:
    """LoRA without decay; new matrices with decay; biases without."""
    groups: dict[str, list[nn.Parameter]] = {"lora": [], "matrix": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = "lora" if ".lora_" in name else "matrix" if parameter.ndim > 1 else "rest"
            groups[kind].append(parameter)
    rates = {"lora": options.lr_lora, "matrix": options.lr_new, "rest": options.lr_new}
    decays = {"lora": 0.0, "matrix": options.weight_decay, "rest": 0.0}
    return [
        {"params": p, "lr": rates[k], "weight_decay": decays[k], "base_lr": rates[k]} for k, p in groups.items() if p
    ]


def draw_times(stage: str, count: int, generator: torch.Generator) -> Tensor:
    """Flow times [count] in (0, 1)."""
    if stage in LOGIT_NORMAL:
        mean, deviation = LOGIT_NORMAL[stage]
        return torch.sigmoid(mean + deviation * torch.randn(count, generator=generator))
    return torch.rand(count, generator=generator)


def choose_views(area: Sequence[float], rng: np.random.Generator, most: int = MAX_VIEWS) -> list[int]:
    """1 to `most` random views of a room; those in which the chunk covers less than 0.4 of the picture are drawn again,
    up to 50 times. area: of the chunk's clamped box in every view. Raises InputError for a room without views."""
    if not len(area):
        raise InputError("The room has no view; a training chunk needs at least one.")
    count = int(rng.integers(1, min(most, len(area)) + 1))
    chosen: list[int] = []
    rejected = 0
    for i in rng.permutation(len(area)).tolist():
        if len(chosen) == count:
            break
        if area[i] < LEAST_AREA and rejected < REJECTIONS:
            rejected += 1
            continue
        chosen.append(i)
    return chosen or [int(np.argmax(area))]


def flow_loss(
    model: nn.Module, sample: ChunkSample, stage: str, options: AdapterOptions, generator: torch.Generator
) -> Tensor:
    """Mean square error of the velocity (1 - s) noise - x0 at x_t = (1 - t) x0 + (s + (1 - s) t) noise.

    One draw drops both conditions together.
    """
    s = options.sigma_min
    t = draw_times(stage, 1, generator)
    noise = torch.randn(sample.x0.shape, generator=generator)
    x = (1 - t) * sample.x0 + (s + (1 - s) * t) * noise
    target = (1 - s) * noise - sample.x0
    if float(torch.rand(1, generator=generator)) < options.p_uncond:
        cond = SceneCondition(None, None)
    else:
        points = voxel_centers(sample.resolution, sample.coords)
        patches = round((sample.tokens.shape[1] - 5) ** 0.5)
        patch, valid = project_to_patches(points, sample.extrinsics, sample.intrinsics, patches)
        aggregator = model.aggregator
        voxels = aggregate(lift(sample.tokens, patch, valid), valid, aggregator.weights, None, aggregator.two_pass)
        dense = isinstance(model, ConditionedStructureFlow)
        cond = SceneCondition([ViewTokens(sample.tokens[0])], voxels[None] if dense else voxels)
    if isinstance(model, ConditionedStructureFlow):
        v = model(x[None], 1000 * t, cond)[0]
    else:
        rows = torch.nn.functional.pad(sample.coords.int(), (1, 0))
        v = model(SparseTensor(x, rows), 1000 * t, cond, sample.concat).feats
    return (v - target).square().mean()


@dataclass
class AdapterTrainer:
    """Optimizer, warm-up, adaptive gradient clipping and moving average of one adapter."""

    model: nn.Module
    stage: str
    options: AdapterOptions = field(default_factory=AdapterOptions)
    seed: int = 0

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, self.options), betas=self.options.betas, eps=1e-8
        )
        self.generator = torch.Generator().manual_seed(self.seed)
        self.step, self.norms = 0, deque(maxlen=self.options.history)
        self.average = {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}

    def advance(self, samples: Iterable[ChunkSample]) -> float:
        """One step on a batch of chunks; returns the loss."""
        samples, total = list(samples), 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for sample in samples:
            loss = flow_loss(self.model, sample, self.stage, self.options, self.generator) / len(samples)
            loss.backward()
            total += float(loss.detach())
        trained = [p for p in self.model.parameters() if p.grad is not None]
        limit = self.options.max_norm
        if len(self.norms) >= 20:
            limit = min(limit, float(np.percentile(self.norms, self.options.percentile)))
        norm = float(nn.utils.clip_grad_norm_(trained, limit))
        if np.isfinite(norm):
            self.norms.append(norm)
            for group in self.optimizer.param_groups:
                group["lr"] = group["base_lr"] * min(1.0, (self.step + 1) / max(1, self.options.warmup))
            self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in self.average:
                    self.average[name].lerp_(parameter, 1 - self.options.ema)
        return total

    def state(self) -> dict:
        """What a run needs to go on exactly: trained tensors, average, optimizer, step and norms."""
        return {
            "trained": self.adapter(averaged=False), "average": self.average, "optimizer": self.optimizer.state_dict(),
            "step": self.step, "norms": list(self.norms),
        }  # fmt: skip

    def load_state(self, state: dict) -> None:
        """Go on from a `state`; raises InputError where it is of another model."""
        parameters = dict(self.model.named_parameters())
        if set(state["trained"]) != set(self.average):
            raise InputError("The saved run is of another model; choose another folder.")
        with torch.no_grad():
            for name, value in state["trained"].items():
                if parameters[name].shape != value.shape:
                    raise InputError(f"The saved run is of another model ({name}); choose another folder.")
                parameters[name].copy_(value)
        self.average = {name: value.clone() for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.norms = int(state["step"]), deque(state["norms"], maxlen=self.options.history)

    def adapter(self, averaged: bool = True) -> dict[str, Tensor]:
        """The trained tensors under their published names, as `save_adapter` takes them."""
        if averaged:
            return {name: value.clone() for name, value in self.average.items()}
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}
