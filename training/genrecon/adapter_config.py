"""Recipes of adapter runs: a YAML file beside this module, or one of your own, with OPTION=VALUE changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ...models.genrecon.lora import LoraConfig
from ...scene.errors import InputError
from .recipe import AdapterOptions

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class AdapterRecipe:
    """What an adapter run does; see configs/genrecon-structure.yaml."""

    name: str
    stage: str
    base: str
    lora: LoraConfig
    steps: int
    batch_size: int
    image_size: int = 512
    min_tokens: int | None = None
    log_every: int = 100
    save_every: int = 1000
    options: AdapterOptions = field(default_factory=AdapterOptions)


def read_adapter_recipe(name: str, changes: Sequence[str] = ()) -> AdapterRecipe:
    """A recipe by its name or file; raises InputError naming what it does not know."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise InputError(f"There is no recipe {name!r}; embedded, {known}, or a YAML file would work.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for change in changes:
            key, _, value = change.partition("=")
            values[key.strip()] = yaml.safe_load(value)
    except (yaml.YAMLError, AttributeError, TypeError):
        raise InputError(f"{path} is no recipe; give `option: value` lines.") from None
    return _recipe(values)


def _recipe(values: dict[str, Any]) -> AdapterRecipe:
    own = {f.name for f in fields(AdapterRecipe)} - {"options"}
    training = {f.name for f in fields(AdapterOptions)}
    unknown = sorted(set(values) - own - training)
    if unknown:
        raise InputError(
            f"The recipe has no option {', '.join(unknown)}; {', '.join(sorted(own | training))} are known."
        )
    if values.get("stage") not in ("structure", "shape", "texture"):
        raise InputError(f"`stage` is {values.get('stage')!r}; structure, shape or texture would work.")
    lora = values.get("lora") or {}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k in training}
    try:
        plain = {k: v for k, v in values.items() if k in own and k != "lora"}
        recipe = AdapterRecipe(
            lora=LoraConfig(int(lora.get("r", 8)), float(lora.get("alpha", 16))), options=AdapterOptions(**options),
            **plain,
        )  # fmt: skip
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The recipe lacks or misuses an option ({error}).") from None
    if recipe.steps < 1 or recipe.batch_size < 1:
        raise InputError("`steps` and `batch_size` must be at least 1.")
    return recipe
