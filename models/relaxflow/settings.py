"""All options of one stage, and the two presets: what the paper says, and what the released code does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ...kernels.logit_blur import PADDINGS, WHERE, LogitBlur, check_sigma
from ...scene.errors import InputError
from .blends import BLENDS
from .priors import POOLINGS
from .sampling import Mix
from .schedules import SCHEDULES, alphas


@dataclass(frozen=True)
class StageSettings:
    """One stage of a dual-branch run.

    prior_weight: 0 leaves the prior out. sigma, attention, padding: blur of the prior's attention logits, see
    `LogitBlur`; attention "none" blurs nothing. schedule, schedule_args, blend, blend_args: see the modules of these
    names. pooling, temperature, agreement_boost: how several priors become one condition. masked: what the picture
    shows is left to the observation.
    """

    prior_weight: float = 1.0
    sigma: float = 1.0
    attention: str = "cross"
    padding: str = "zero"
    schedule: str = "linear_cutoff"
    schedule_args: Mapping[str, float] = field(default_factory=lambda: {"alpha0": 1.0, "mid_ratio": 0.2})
    blend: str = "linear"
    blend_args: Mapping[str, float] = field(default_factory=dict)
    pooling: str = "concat"
    temperature: float = 0.1
    agreement_boost: float = 0.0
    masked: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.prior_weight < float("inf"):
            raise InputError(f"`prior_weight` is {self.prior_weight}; a number from 0 (no prior) on would work.")
        check_sigma(self.sigma)
        for name, known in (
            ("attention", ("none", *WHERE)),
            ("padding", PADDINGS),
            ("schedule", SCHEDULES),
            ("blend", BLENDS),
            ("pooling", POOLINGS),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"`{name}` is {getattr(self, name)!r}; one of {', '.join(known)} would work.")
        alphas(self.schedule, 1, self.schedule_args)

    def changed(self, **changes: Any) -> StageSettings:
        return replace(self, **changes)

    def blur(self, **options: Any) -> LogitBlur | None:
        """The blur of the prior's attention, None for none; options: further fields of `LogitBlur`."""
        if self.attention == "none" or self.sigma == 0:
            return None
        return LogitBlur(self.sigma, self.sigma, self.padding, self.attention, **options)

    def mix(self, steps: int, visible: Tensor | None = None) -> Mix:
        """The mix of a run of so many steps."""
        values = alphas(self.schedule, steps, self.schedule_args)
        return Mix(values, self.prior_weight, self.blend, self.blend_args, visible if self.masked else None)


@dataclass(frozen=True)
class RelaxSettings:
    """Both stages. sparse_blur: blur the latent stage's attention, too, which the released code never reaches."""

    structure: StageSettings = StageSettings(masked=False)
    latent: StageSettings = StageSettings()
    sparse_blur: bool = True


_RELEASED = StageSettings(sigma=2.5, attention="self", schedule_args={"alpha0": 1.0, "mid_ratio": 0.4}, masked=False)
PRESETS: dict[str, RelaxSettings] = {
    "paper": RelaxSettings(),
    "as released": RelaxSettings(_RELEASED, replace(_RELEASED, sigma=1.5, masked=True), sparse_blur=False),
}


def preset(name: str) -> RelaxSettings:
    """The settings of a preset; raises InputError for an unknown name."""
    if name not in PRESETS:
        raise InputError(f"The preset {name!r} is unknown; known are {', '.join(PRESETS)}.")
    return PRESETS[name]
