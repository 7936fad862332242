"""The rasterisers against gsplat's own torch code."""

import pytest
import torch

from sightline.kernels.splat import rasterize
from sightline.kernels.splat.projection import project

SYSTEM, KIND, EXCLUDE = "sparsegen", "raster", ("raster_grad",)
NAMES = ("means", "quats_wxyz", "scales", "opacities", "colors")


def scene(t):
    return [t["in." + name] for name in NAMES], t["in.viewmats"], t["in.Ks"]


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_pixels(fixture, ledger, backend):
    t = fixture.tensors()
    inputs, viewmats, Ks = scene(t)
    height, width = t["out.rgba_premultiplied"].shape[1:3]
    render = rasterize(*inputs, viewmats, Ks, width, height, backend=backend)
    rgba = torch.cat([render.color, render.alpha[..., None]], -1)
    ledger.close(f"raster.rgba ({backend})", rgba, t["out.rgba_premultiplied"], atol=1e-5, fraction=0.999)
    white = rasterize(*inputs, viewmats, Ks, width, height, backend=backend, background=(1.0, 1.0, 1.0)).color
    ledger.close(f"raster.on_white ({backend})", white, t["out.rgb_on_white"], atol=1e-5, fraction=0.999)


def test_projection(fixture, ledger):
    t = fixture.tensors()
    (means, quats, scales, opacities, _), viewmats, Ks = scene(t)
    height, width = t["out.rgba_premultiplied"].shape[1:3]
    p = project(means, quats, scales, opacities, viewmats, Ks, width, height, 0.01, 1e10)
    drawn = (t["mid.radii"] > 0).all(-1)
    assert not (p.visible & ~drawn).any(), "what gsplat culls must not be drawn"
    ledger.close("raster.means2d", torch.stack([p.x, p.y], -1)[drawn], t["mid.means2d"][drawn], atol=2e-4, rtol=1e-6)
    ledger.close("raster.depths", p.depth[drawn], t["mid.depths"][drawn], atol=1e-6, rtol=1e-6)
    conics = torch.stack([p.yy / p.det, -p.xy / p.det, p.xx / p.det], -1)[p.visible]
    ledger.close("raster.conics", conics, t["mid.conics"][p.visible], atol=1e-5, rtol=1e-4)
