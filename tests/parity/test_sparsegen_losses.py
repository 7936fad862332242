"""The four training losses, with the fixture's own narrow VGG."""

import pytest

from sightline.kernels.metrics import ssim
from sightline.training.sparsegen.losses import LossOptions, VggPerceptualLoss, sparsegen_losses

SYSTEM, KIND = "sparsegen", "losses"


def loss_options(cfg: dict) -> LossOptions:
    o = cfg["optimization"]
    return LossOptions(
        kind="l2" if o["loss"] == "l2" else "l1",
        occupancy=o["occ_loss_weight"],
        perceptual=o["perceptual_loss_weight"],
        ssim=o["ssim_loss_weight"],
        offset=o["offset_reg_w"],
        offset_radius=o["offset_reg_r"],
    )


def vgg_of(tensors: dict) -> VggPerceptualLoss:
    return VggPerceptualLoss({k.removeprefix("vgg."): v for k, v in tensors.items() if k.startswith("vgg.")})


def test_terms(fixture, ledger):
    t = fixture.tensors()
    options = loss_options(fixture.json("config.json")["cfg"])
    terms = sparsegen_losses(
        t["in.render_rgb"],
        t["in.target_rgb"],
        t["in.render_occ"],
        t["in.target_occ"],
        t["in.xyz_offset"],
        options,
        vgg_of(t),
    )
    names = {"color": "rgb_loss", "perceptual": "perceptual_loss", "occupancy": "occ_loss", "offset": "offset_reg_loss"}
    for ours, theirs in names.items():
        ledger.close(f"losses.{ours}", terms[ours].reshape(1), t[f"out.{theirs}"], atol=1e-5)


def test_perceptual_and_ssim(fixture, ledger):
    t = fixture.tensors()
    x, y = (((t[k].flatten(0, 1) + 1) / 2).clamp(0, 1) for k in ("in.render_rgb", "in.target_rgb"))
    vgg = vgg_of(t)
    assert vgg.blocks[0][0].out_channels == fixture.meta["vgg_width"]
    ledger.close("losses.vgg19", vgg(x, y).reshape(1), t["out.perceptual_raw"], rtol=1e-5, atol=1e-5)
    raw = t["out.ssim_raw"]
    ours = ssim(x, y).reshape(1)
    ledger.close(
        "losses.ssim", ours if abs(float(ours - raw)) < abs(float(1 - ours - raw)) else 1 - ours, raw, atol=1e-5
    )
    assert float(vgg(x, x)) == pytest.approx(0.0)
