"""The options of RelaxFlow as one connection, for the samplers that run both branches themselves."""

from __future__ import annotations

from dataclasses import replace

from ..kernels.logit_blur import WHERE
from ..models.relaxflow.blends import BLENDS
from ..models.relaxflow.priors import POOLINGS
from ..models.relaxflow.schedules import SCHEDULES
from ..models.relaxflow.settings import PRESETS, RelaxSettings, StageSettings, preset
from . import host
from .host import io, relax
from .relaxflow import CATEGORY, CUSTOM


def relax_input() -> io.Input:
    """The optional options of a sampler."""
    return relax.RelaxSettingsType.Input(
        "relax", optional=True, tooltip="From Relax Settings: how the priors join in. Without it: the paper's settings."
    )


class RelaxSettingsNode(io.ComfyNode):
    """Widgets -> how the priors join in."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineRelaxSettings",
            display_name="Relax Settings",
            category=CATEGORY,
            description="How the priors join in, in both stages: when they fade out, how their attention is blurred "
                        "and how the two velocities are mixed. For the samplers of TRELLIS and the Completion "
                        "Sampler.",
            search_aliases=["relaxflow settings", "prior schedule", "gating", "relaxflow preset", "prior weight"],
            inputs=[
                io.Combo.Input(
                    "preset", options=[*PRESETS, CUSTOM], default="paper",
                    tooltip="paper: cross-attention, sigma 1, the priors fade out over a fifth of the steps. as "
                            "released: the code's defaults. custom: the widgets below, which count only then.",
                ),
                io.Combo.Input(
                    "schedule", options=list(SCHEDULES), default="linear_cutoff",
                    tooltip="Custom: how the priors' share fades over the steps. two_stage holds it to the end.",
                ),
                io.Float.Input(
                    "alpha", default=1.0, min=0.0, max=2.0, step=0.01,
                    tooltip="Custom: the priors' share at the start; 0 leaves them out.",
                ),
                io.Float.Input(
                    "cutoff", default=0.2, min=0.0, max=1.0, step=0.01,
                    tooltip="Custom: the part of the steps after which the priors are silent (linear_cutoff, cosine), "
                            "or for which they are held (two_stage).",
                ),
                io.Combo.Input(
                    "blend", options=list(BLENDS), default="linear", tooltip="Custom: how the two velocities are mixed."
                ),
                io.Combo.Input(
                    "attention", options=["none", *WHERE], default="cross",
                    tooltip="Custom: which attention of the prior branch is blurred.",
                ),
                io.Float.Input(
                    "structure_weight", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Custom: weight of the priors in the structure stage; 0 leaves them out there.",
                ),
                io.Float.Input(
                    "structure_sigma", default=1.0, min=0.0, max=50.0, step=0.1,
                    tooltip="Custom: blur of the priors' attention in the structure stage, in tokens; 0 is none.",
                ),
                io.Float.Input(
                    "latent_weight", default=1.0, min=0.0, max=10.0, step=0.01,
                    tooltip="Custom: weight of the priors in the latent stages; 0 leaves them out there.",
                ),
                io.Float.Input(
                    "latent_sigma", default=1.0, min=0.0, max=50.0, step=0.1,
                    tooltip="Custom: blur of the priors' attention in the latent stages, in tokens; 0 is none.",
                ),
                io.Combo.Input(
                    "pooling", options=list(POOLINGS), default="concat",
                    tooltip="How several priors become one condition, with every preset. concat: all tokens side by "
                            "side (the paper). mean: their average. consensus: tokens count by how well they agree.",
                ),
            ],
            outputs=[
                relax.RelaxSettingsType.Output(
                    id="relax", display_name="relax", tooltip="For `relax` of the samplers that take priors."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, preset, schedule, alpha, cutoff, blend, attention, structure_weight, structure_sigma, latent_weight,
        latent_sigma, pooling,
    ) -> io.NodeOutput:  # fmt: skip
        given = {"schedule": schedule, "blend": blend, "attention": attention}
        given["schedule_args"] = {"alpha0": alpha, "mid_ratio": cutoff, "warmup": 0.0, "hold": cutoff}
        stages = ((structure_weight, structure_sigma), (latent_weight, latent_sigma))
        return io.NodeOutput(chosen(preset, given, stages, pooling))


def chosen(name: str, given: dict, stages, pooling: str) -> RelaxSettings:
    """A preset, or the widgets; masked wherever a mask is connected."""
    if name == CUSTOM:
        both = [StageSettings(prior_weight=weight, sigma=sigma, **given) for weight, sigma in stages]
        return RelaxSettings(*(one.changed(pooling=pooling) for one in both))
    both = preset(name)
    return replace(
        both,
        structure=both.structure.changed(pooling=pooling, masked=True),
        latent=both.latent.changed(pooling=pooling),
    )


PAPER = chosen("paper", {}, (), "concat")
