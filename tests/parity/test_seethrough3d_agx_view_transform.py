"""The closed form of AgX against samples of Blender's, in the range where control pictures lie."""

import pytest

from sightline.kernels.box_render.agx import agx

SYSTEM, KIND = "seethrough3d", "agx_view_transform"


@pytest.mark.parametrize(("low", "high", "levels"), [(0.0, 0.02, 0.15), (0.02, 0.12, 0.6), (0.12, 0.3, 1.3)])
def test_mean_error(fixture, ledger, low, high, levels):
    t = fixture.tensors()
    top = t["linear_rec709"].amax(1)
    chosen = (top >= low) & (top < high)
    if not chosen.any():
        pytest.skip(f"{fixture.name} has no sample between {low} and {high}")
    theirs = t["display_srgb_u16"][chosen].double() / 65535
    error = 255 * (agx(t["linear_rec709"][chosen]) - theirs).abs().mean()
    ledger.close(f"agx.mean_below_{high:g}", float(error), 0.0, atol=levels)


def test_most_samples_are_within_one_level(fixture, ledger):
    t = fixture.tensors()
    chosen = t["linear_rec709"].amax(1) < 0.12
    theirs = t["display_srgb_u16"][chosen].double() / 65535
    ledger.close("agx.levels", 255 * agx(t["linear_rec709"][chosen]), 255 * theirs, atol=1.0, fraction=0.92)
