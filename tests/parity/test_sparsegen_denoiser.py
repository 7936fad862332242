"""The whole network: views -> features, positions, anchors, Gaussians, pictures."""

import sys
from pathlib import Path

import pytest
import torch

from sightline.models.sparsegen import assemble_views, pose_channels, render_views, view_times

sys.path.insert(0, str(Path(__file__).parent))
try:
    from sparsegen_parity import check_gaussians, load_model, stub_renderer, world_to_camera
finally:
    sys.path.pop(0)

SYSTEM, KIND = "sparsegen", "denoiser"


@pytest.fixture
def case(fixture):
    """Model, recorded tensors, network inputs, kept views, cameras to render."""
    recorded = fixture.tensors()
    given = recorded
    if "in.x" not in recorded:  # these cases share the inputs of the first one
        kind = next(k for k in ("dropped_views", "rendered") if k in fixture.path.name)
        given = fixture.tensors(fixture.path.name.replace(kind, "all_views"))
    model = load_model(fixture)
    cameras = world_to_camera(given["in.target_Rs"], given["in.target_Ts"])
    clean, noisy = given["in.x_cond"].shape[1], given["in.x"].shape[1]
    views = assemble_views(
        model.config, given["in.x_cond"], given["in.x"], cameras, given["in.x_self_condition"], given["in.pose_embed"]
    )
    times = view_times(clean, noisy, given["in.t"])
    keep = recorded.get("in.idxs_to_keep", torch.arange(clean + noisy))
    return model, recorded, given, (views, times, cameras), keep, recorded["in.idxs_to_render"]


@torch.no_grad()
def test_pose_channels(case, ledger):
    model, _, given, (_, _, cameras), _, _ = case
    ours = pose_channels(cameras[:, : given["in.pose_embed"].shape[1]], model.config)
    ledger.close("pose_channels", ours, given["in.pose_embed"], atol=1e-6)


@torch.no_grad()
def test_network(case, ledger):
    """Every stage that the fixture records, the Gaussians of every layer and their pictures."""
    model, recorded, given, (views, times, cameras), keep, render = case
    kept_views, kept_times, kept_cameras = views[:, keep], times[:, keep], cameras[:, keep]
    background = given["in.background"][:, render]
    layers = model(views, times, cameras, keep=keep, layers="all")
    if "mid.vit_features" in recorded:
        ledger.exact("view_times", kept_times, recorded["mid.timesteps"])
        ledger.close(
            "image_encoder", model.feature_extractor(kept_views, kept_times), recorded["mid.vit_features"], atol=1e-4
        )
        ledger.close("input_proj", model.encode_views(kept_views, kept_times), recorded["mid.input_proj"], atol=1e-4)
        ledger.close("position_embedding", model.embed_positions(kept_cameras), recorded["mid.pos_embed"], atol=1e-3)
        queries = model.embed_queries(views.shape[0]).flatten(0, 1)
        ledger.close("query_embedding", queries, recorded["mid.query_embedding"], atol=1e-5)
        outputs, expected = (
            torch.stack(model.run_transformer(kept_views, kept_times, kept_cameras)),
            recorded["mid.transformer_output"],
        )
        ledger.close("transformer_output", outputs[-len(expected) :], expected, atol=1e-4)
        ledger.exact(
            "anchors", model.reference_points.weight.expand_as(recorded["out.ref_pts"]), recorded["out.ref_pts"]
        )
    if "out.r_imgs_stub" in recorded:
        for i, gaussians in enumerate(layers):
            check_gaussians(ledger, gaussians, recorded, i, 1e-4, "denoiser")
            color, alpha = render_views(
                gaussians, cameras[:, render], model.config, background=background, renderer=stub_renderer
            )
            ledger.close("denoiser.pictures (stub)", color, recorded["out.r_imgs_stub"][i], atol=1e-4)
            ledger.close("denoiser.silhouettes (stub)", alpha, recorded["out.r_sils_stub"][i], atol=1e-4)
    else:
        color, alpha = render_views(layers[-1], cameras[:, render], model.config, background=background)
        # A Gaussian near the 1/255 or 1e-4 threshold may fall on the other side in a few pixels.
        ledger.close("denoiser.pictures", color, recorded["out.r_imgs"][-1], atol=1e-3, fraction=0.999)
        ledger.close("denoiser.silhouettes", alpha, recorded["out.r_sils"][-1], atol=1e-3, fraction=0.999)


@torch.no_grad()
def test_cache_changes_nothing(case, ledger):
    """Cached clean views and embeddings give what the whole computation gives."""
    model, _, given, (views, times, cameras), _, _ = case
    count = given["in.x_cond"].shape[1]
    whole = model(views, times, cameras)[0]
    cached = model(views[:, count:], times, cameras, cache=model.cache(views[:, :count], cameras[:, : views.shape[1]]))[
        0
    ]
    ledger.close("cached views", cached.means, whole.means, atol=1e-6)
    ledger.close("cached views", cached.colors, whole.colors, atol=1e-6)
