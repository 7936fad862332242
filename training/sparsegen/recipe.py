"""A training recipe: one YAML file, read into plain dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...models.sparsegen import SparseGenConfig
from ...scene.errors import InputError
from ..options import check_names, read_options, section
from .losses import LossOptions

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class DataOptions:
    """What is trained on. ``source`` is "procedural" or "srn".

    procedural: ``folder`` of drawn shards, ``objects`` x ``views`` at ``size`` pixels, ``held_out`` for evaluation.
    srn: ``folder`` of the dataset (holds ``srn_<category>``); every item draws ``views`` frames.
    Both: ``clean`` and ``noisy`` are how many input views of each sort a step has, as {number: probability};
    ``rendered`` is the number of views a step renders at least (more views than inputs are only rendered).
    """

    source: str = "procedural"
    folder: str = ""
    category: str = "cars"
    size: int = 64
    objects: int = 4000
    views: int = 12
    held_out: int = 65
    clean: dict[int, float] = field(default_factory=lambda: {1: 1.0})
    noisy: dict[int, float] = field(default_factory=lambda: {1: 1.0})
    rendered: int = 4


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW and its schedule: linear warm-up, then "constant", "cosine" to ``final_lr`` at the end, or "trapezoid":

    constant until ``decay_from`` (fraction of the run), then linear to ``final_lr``. ``clip`` 0: no clipping.
    ``muon``: the matrices of attention, feed-forward layers and heads take orthogonalized momentum steps of the same
    size instead (Muon, Jordan et al. 2024), everything else stays with AdamW.
    """

    muon: bool = False

    lr: float = 2e-5
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    eps: float = 1e-8
    encoder_lr_factor: float = 1.0
    warmup: int = 0
    schedule: str = "constant"
    decay_from: float = 0.7
    final_lr: float = 0.0
    clip: float = 0.0


@dataclass(frozen=True)
class EmaOptions:
    use: bool = True
    decay: float = 0.995
    update_every: int = 10
    start: int = 100
    short_run: bool = False


@dataclass(frozen=True)
class NoiseOptions:
    """Times of the noisy views: ``pure`` is the probability of t = 1000, else uniform over 1..1000."""

    pure: float = 0.0


@dataclass(frozen=True)
class ViewOptions:
    """View dropout, self-conditioning and what is supervised; see ``step.StepOptions``."""

    drop_all_clean: float = 0.2
    noisy_dropout: float = 0.5
    penalize: str = "seen_and_one_more"
    self_condition: float = 0.5
    self_condition_from: int = 0
    layers: str | tuple[int, ...] = "all"
    early_layer_views: int | None = None
    render_sizes: dict[int, int] = field(default_factory=dict)  # from this step on: this side


@dataclass(frozen=True)
class Recipe:
    """Everything a run is made from; saved with every checkpoint."""

    name: str
    model: SparseGenConfig
    seed: int = 0
    steps: int = 300001
    batch_size: int = 16
    initialize: dict = field(default_factory=lambda: {"style": "reference"})
    vgg_weights: str | None = None
    save_every: int = 10000
    log_every: int = 10
    evaluate_every: int = 0
    evaluate_objects: int = 39
    data: DataOptions = DataOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    ema: EmaOptions = EmaOptions()
    noise: NoiseOptions = NoiseOptions()
    views: ViewOptions = ViewOptions()
    losses: LossOptions = LossOptions()

    def to_dict(self) -> dict:
        return asdict(self) | {"model": self.model.to_dict()}


_SECTIONS = {
    "data": DataOptions,
    "optimizer": OptimizerOptions,
    "ema": EmaOptions,
    "noise": NoiseOptions,
    "views": ViewOptions,
    "losses": LossOptions,
}


def recipe_from_dict(values: dict) -> Recipe:
    """Build a recipe from nested plain values. Raises InputError that names an unknown option."""
    values = dict(values)
    for name, kind in _SECTIONS.items():
        if name in values and not isinstance(values[name], kind):
            values[name] = section(name, kind, values[name])
    model = values.pop("model", None)
    if not isinstance(model, SparseGenConfig):
        model = SparseGenConfig.from_dict(model or {})
    check_names("recipe", Recipe, values)
    if values.get("name") is None:
        raise InputError("The recipe has no `name`; give it one, checkpoints and logs carry it.")
    return Recipe(model=model, **values)


def read_recipe(path: str | Path, overrides: list[str] = ()) -> Recipe:
    """Read a recipe file (or the name of one in ``configs/``); ``overrides`` are ``section.option=value`` in YAML."""
    values = read_options(path, CONFIGS, overrides)
    return recipe_from_dict(values)
