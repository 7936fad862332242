"""A recipe of one stage of TRELLIS.2 or Pixal3D: one YAML file, read into plain dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...models.trellis2.cascade import CascadeConfig, Normalization, read_pipeline
from ...models.trellis2.checkpoint import CLASSES
from ...models.trellis2.family import EMBEDDED_FOLDER
from ...models.trellis2.published_latents import SHAPE_NORMALIZATION, TEXTURE_NORMALIZATION
from ...scene.errors import InputError
from ..options import check_names, read_options, section

CONFIGS = Path(__file__).parent / "configs"
STAGES = {  # stage -> the networks it trains
    "structure_vae": ("encoder", "decoder"),
    "shape_vae": ("encoder", "decoder"),
    "texture_vae": ("encoder", "decoder"),
    "structure_flow": ("denoiser",),
    "shape_flow": ("denoiser",),
    "texture_flow": ("denoiser",),
}


@dataclass(frozen=True)
class DataOptions:
    """Which objects of a data folder are trained on, and what is read of them.

    resolution: voxels per axis of the dual grids or of the mesh that the latents decode to. image_size: pixels a side.
    crop: cut every picture to its object (TRELLIS.2); otherwise it is resized whole (Pixal3D). view_aligned: latents of
    the object as it stands in the view (Pixal3D). min_aesthetic_score: None takes objects without a score too.
    max_tokens, max_voxels, max_faces: larger objects are left out. normalization: "published",
    "embedded", "none", or {mean: [...], std: [...]}; shape_normalization: of the shape latents a texture flow reads.
    """

    resolution: int = 512
    image_size: int = 512
    crop: bool = True
    view_aligned: bool = False
    min_aesthetic_score: float | None = 4.5
    max_tokens: int | None = None
    max_voxels: int | None = None
    max_faces: int | None = None
    normalization: Any = "published"
    shape_normalization: Any = "published"


@dataclass(frozen=True)
class ConditionOptions:
    """What a flow is conditioned on. encoder: "dinov3" (found beside the weights), or "embedded". naf_target: side of
    the raised feature map of a projecting flow, None for none."""

    encoder: str = "dinov3"
    naf_target: int | None = None


@dataclass(frozen=True)
class OptimizerOptions:
    """AdamW; warmup: steps of linearly rising rate."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup: int = 0


@dataclass(frozen=True)
class ClipOptions:
    """The gradient's norm is held to `max_norm`, and, once `window` steps are known, to their `percentile`."""

    max_norm: float = 1.0
    percentile: float = 95.0
    window: int = 1000


@dataclass(frozen=True)
class TimeOptions:
    """Flow times: "uniform", or "logit_normal" = sigmoid of a normal number."""

    kind: str = "uniform"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("uniform", "logit_normal"):
            raise InputError(f"`time.kind` is {self.kind!r}; uniform or logit_normal would work.")


@dataclass(frozen=True)
class LossOptions:
    """Weights of the autoencoders' loss terms; those that are 0 are not computed.

    depth, normal: of pictures of the decoded surface, render_size pixels a side, from cameras at 2 to 100 units.
    ssim, lpips: of the normals' pictures, relative to `normal`.
    """

    kl: float = 1e-6
    structure: str = "dice"
    intersected: float = 0.1
    vertex: float = 0.01
    subdivision: float = 0.1
    depth: float = 0.0
    normal: float = 0.0
    ssim: float = 0.0
    lpips: float = 0.0
    mask: float = 0.0
    render_size: int = 1024


@dataclass(frozen=True)
class Recipe:
    """networks: {"denoiser" | "encoder", "decoder": {"name": published class, "args": ...}}. batch_size: objects per
    process and step, in `splits` passes. precision: "no", "bf16" or "fp16". unconditional: share of the objects whose
    condition is dropped. start_from: {network: weights file, or "embedded"}, "" where a file must still be named.
    checkpoint_blocks: keep no activations inside blocks and compute them again, the same, for the gradients."""

    name: str
    stage: str
    networks: Mapping[str, Any]
    steps: int = 1_000_000
    batch_size: int = 8
    splits: int = 1
    checkpoint_blocks: bool = False
    seed: int = 0
    precision: str = "bf16"
    ema: float = 0.9999
    unconditional: float = 0.1
    sigma_min: float = 1e-5
    start_from: Mapping[str, str] = field(default_factory=dict)
    log_every: int = 500
    save_every: int = 10_000
    sample_every: int = 10_000
    data: DataOptions = DataOptions()
    condition: ConditionOptions = ConditionOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    clip: ClipOptions = ClipOptions()
    time: TimeOptions = TimeOptions()
    losses: LossOptions = LossOptions()

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise InputError(f"`stage` is {self.stage!r}; {', '.join(STAGES)} would work.")
        if set(self.networks) != set(STAGES[self.stage]):
            found = ", ".join(self.networks) or "none"
            raise InputError(f"`networks` names {found}; {self.stage} trains {' and '.join(STAGES[self.stage])}.")
        for name, given in self.networks.items():
            if not isinstance(given, Mapping) or given.get("name") not in CLASSES:
                raise InputError(f"`networks.{name}` has no known class; {', '.join(CLASSES)} are known.")
        if self.precision not in ("no", "bf16", "fp16"):
            raise InputError(f"`precision` is {self.precision!r}; no, bf16 or fp16 would work.")
        if self.batch_size < 1 or self.splits < 1 or self.batch_size % self.splits:
            raise InputError(f"`batch_size` {self.batch_size} is no multiple of `splits` {self.splits}.")

    @property
    def is_flow(self) -> bool:
        return self.stage.endswith("_flow")

    @property
    def projects(self) -> bool:
        """Whether the flow reads features where its tokens project to (Pixal3D)."""
        return self.is_flow and self.networks["denoiser"]["args"].get("image_attn_mode", "global") != "global"

    def normalization(self, which: str = "normalization") -> Normalization | None:
        """The statistics that `data.normalization` (or `data.shape_normalization`) names; None for none."""
        value = getattr(self.data, which)
        if value in (None, "none"):
            return None
        shape = which == "shape_normalization" or self.stage == "shape_flow"
        if value == "published":
            return SHAPE_NORMALIZATION if shape else TEXTURE_NORMALIZATION
        if value == "embedded":
            config = CascadeConfig.from_args(read_pipeline(EMBEDDED_FOLDER)[1])
            return config.shape_normalization if shape else config.tex_normalization
        try:
            return Normalization(tuple(map(float, value["mean"])), tuple(map(float, value["std"])))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"`data.{which}` is {value!r}; published, embedded, none or {{mean, std}} fit.") from None

    def to_dict(self) -> dict:
        return asdict(self)


_SECTIONS = {
    "data": DataOptions,
    "condition": ConditionOptions,
    "optimizer": OptimizerOptions,
    "clip": ClipOptions,
    "time": TimeOptions,
    "losses": LossOptions,
}


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from nested plain values; raises InputError naming what is unknown or missing."""
    values = dict(values)
    for name, kind in _SECTIONS.items():
        if name in values and not isinstance(values[name], kind):
            values[name] = section(name, kind, values[name])
    check_names("recipe", Recipe, values)
    for name in ("name", "stage", "networks"):
        if name not in values:
            raise InputError(f"The recipe has no `{name}`.")
    for name in ("ema", "unconditional", "sigma_min"):
        if isinstance(values.get(name), str):
            values[name] = float(values[name])
    return Recipe(**values)


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe file, or the name of one in `configs/`; overrides are `section.option=value` in YAML."""
    return recipe_from_dict(read_options(path, CONFIGS, overrides))
