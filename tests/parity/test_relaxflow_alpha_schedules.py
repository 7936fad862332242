"""Gating schedules for every number of steps and set of options."""

from relaxflow_parity import SCHEDULE

from sightline.models.relaxflow.schedules import alphas

SYSTEM, KIND = "relaxflow", "alpha_schedules"


def test_every_schedule(fixture, ledger):
    argsets = fixture.meta["argsets"]
    for key, expected in fixture.tensors().items():
        name, steps, args = key.split(".")
        found = alphas(name, int(steps.removeprefix("steps")), argsets[int(args.removeprefix("args"))])
        ledger.close("schedule." + name, found, expected, **SCHEDULE)
