"""Gradients of the rasterisers against autograd through gsplat's own torch code."""

import pytest
import torch

from sightline.kernels.splat import rasterize

SYSTEM, KIND = "sparsegen", "raster_grad"
NAMES = ("means", "quats_wxyz", "scales", "opacities", "colors")


@pytest.mark.parametrize("backend", ["dense", "tiled"])
def test_gradients(fixture, ledger, backend):
    t = fixture.tensors()
    inputs = [t["in." + name].clone().requires_grad_() for name in NAMES]
    height, width = t["out.rgba_premultiplied"].shape[1:3]
    render = rasterize(*inputs, t["in.viewmats"], t["in.Ks"], width, height, backend=backend)
    rgba = torch.cat([render.color, render.alpha[..., None]], -1)
    ledger.close(f"raster.rgba ({backend})", rgba, t["out.rgba_premultiplied"], atol=1e-5, fraction=0.999)
    (rgba * t["in.loss_weights_rgba"]).sum().backward()
    for name, tensor in zip(NAMES, inputs):
        ledger.close(f"raster_grad.{name} ({backend})", tensor.grad, t["grad." + name], of_max=1e-4)
