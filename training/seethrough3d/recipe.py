"""A recipe of the LoRA: one YAML file, read into a plain dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...scene.errors import InputError
from ..options import check_names, plain, read_options

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Recipe:
    """size: longest side of the targets in pixels, a multiple of 16; condition: side of the control image. rank: of the
    low-rank layers. batch_size: pictures per process and step, in `splits` passes. guidance: FLUX's guidance input.
    drop_caption: share of the pictures trained without words. drop_raw: leave out targets named main.jpg, the raw
    renders (stage 2). start_from: weights of the stage before, "" for none that must be named, None for new ones."""

    name: str
    size: int = 512
    condition: int = 512
    rank: int = 128
    steps: int = 25_000
    batch_size: int = 1
    splits: int = 1
    seed: int = 0
    precision: str = "bf16"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    max_norm: float = 1.0
    guidance: float = 1.0
    drop_caption: float = 0.1
    drop_raw: bool = False
    checkpoint_blocks: bool = True
    start_from: str | None = None
    log_every: int = 50
    save_every: int = 5000

    def __post_init__(self) -> None:
        for name in ("size", "condition"):
            value = getattr(self, name)
            if value < 16 or value % 16:
                raise InputError(f"`{name}` is {value}; a multiple of 16 would work.")
        if self.precision not in ("no", "bf16"):
            raise InputError(f"`precision` is {self.precision!r}; no or bf16 would work.")
        if self.batch_size < 1 or self.splits < 1 or self.batch_size % self.splits:
            raise InputError(f"`batch_size` {self.batch_size} is no multiple of `splits` {self.splits}.")
        if not 0 <= self.drop_caption < 1:
            raise InputError(f"`drop_caption` is {self.drop_caption}; a share from 0 to 1 would work.")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values; raises InputError naming what is unknown."""
    check_names("recipe", Recipe, dict(values))
    if "name" not in values:
        raise InputError("The recipe has no `name`.")
    defaults = {name: field.default for name, field in Recipe.__dataclass_fields__.items()}
    return Recipe(**{key: plain("recipe", key, value, defaults[key]) for key, value in values.items()})


def read_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe file, or the name of one in `configs/`; overrides are `option=value` in YAML."""
    return recipe_from_dict(read_options(path, CONFIGS, overrides))
