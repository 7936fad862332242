"""Blends of the two velocities, masked and not; options are read from the names of the tensors."""

import re

from relaxflow_parity import MODULE

from sightline.models.relaxflow.blends import blend

SYSTEM, KIND = "relaxflow", "flow_blends"


def numbers(note, name):
    """The alpha and weight that the fixture's note gives for tensors that do not carry them in their name."""
    said = re.search(re.escape(name) + r"[^;]*?alpha ([0-9.]+), prior_weight ([0-9.]+)", note)
    return float(said[1]), float(said[2])


def test_every_blend(fixture, ledger):
    t, note = fixture.tensors(), fixture.meta["note"]
    for key, expected in t.items():
        name, _, rest = key.partition(".")
        if not rest:
            continue
        mask, args = None, {}
        if found := re.fullmatch(r"a([0-9.]+)\.w([0-9.]+)", rest):
            alpha, weight = float(found[1]), float(found[2])
        elif rest.startswith("masked"):
            alpha, weight = numbers(note, "linear.masked")
            mask = t["geometry_mask"]
            mask = mask[..., 0] if rest.endswith("2d") else mask
        else:
            alpha, weight = numbers(note, key)
            args = {"clip_value": float(rest.removeprefix("c"))}
        out = blend(name, t["e_obs"], t["e_prior"], alpha, weight, mask, args)
        ledger.close("blend." + name + (".masked" if mask is not None else ""), out, expected, **MODULE)
