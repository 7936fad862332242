"""COLMAP poses, intrinsics after undistortion, visibility, and the views of the scene and of every chunk."""

import json

import numpy as np
import torch

from sightline.scene.captures import read_capture
from sightline.scene.chunk_layout import layout_from_json
from sightline.scene.view_choice import cameras_json, plan_views, sees, view_pictures

SYSTEM, KIND = "genrecon", "view_selection"
PIXEL = 2.0 / 255


def scene_of(fixture):
    return read_capture(fixture.root / fixture.meta["scene"], "colmap", pictures="rgb")


def layout_of(m_o2c):
    chunks = [
        {"crop_center": inverse[:3, 3].tolist(), "M_chunk_to_original": inverse.tolist()}
        for inverse in np.linalg.inv(m_o2c.double().numpy())
    ]
    return layout_from_json(json.dumps({"chunks": chunks}))


def test_cameras(fixture, ledger):
    t, scene = fixture.tensors(), scene_of(fixture)
    ledger.exact("view_selection.names", [photo.name for photo in scene.photos], fixture.meta["all_images"])
    ledger.close("view_selection.poses", scene.poses, t["all_c2w_blender"], atol=1e-5)
    ledger.close("view_selection.intrinsics", scene.intrinsics, t["all_intrinsics_uncropped"], atol=1e-6)
    visible = sees(scene.poses, scene.intrinsics, t["m_o2c"].double().numpy())
    ledger.exact("view_selection.visible", visible, t["visible"])


def test_selection(fixture, ledger):
    t, scene = fixture.tensors(), scene_of(fixture)
    layout = layout_of(t["m_o2c"])
    for name, run in fixture.meta["runs"].items():
        crop = "center" if run["center_crop"] else "two"
        plan = plan_views(scene, layout, run["num_imgs_per_scene"], crop, run["seed"])
        found, expected = json.loads(cameras_json(scene, plan, layout)), run["cameras_json"]
        pairs = [*zip(found["scene"], expected["scene"], strict=True)]
        pairs += [
            (a["cond2d_view"], b["cond2d_view"]) for a, b in zip(found["chunks"], expected["chunks"], strict=True)
        ]
        for ours, theirs in pairs:
            ledger.exact("view_selection.choice", ours["img_path"], theirs["img_path"])
            ledger.close("view_selection.extrinsics", ours["extrinsics_c0"], theirs["extrinsics_c0"], atol=1e-5)
            ledger.close("view_selection.crop", ours["intrinsics"], theirs["intrinsics"], atol=1e-6)
        ledger.close("view_selection.extrinsics", plan.extrinsics, t[f"{name}.scene_extrinsics_c0"], atol=1e-5)
        ledger.close("view_selection.crop", plan.intrinsics, t[f"{name}.scene_intrinsics"], atol=1e-6)
        for size, pool in ((512, 16), (1024, 32)):
            views = torch.stack(list(view_pictures(scene, plan, size)))
            pooled = torch.nn.functional.avg_pool2d(views, pool)
            expected = t[f"{name}.scene_images_{size}_avgpool{pool}"]
            ledger.close("view_selection.pictures", pooled, expected, atol=PIXEL)
            if size == 512:
                corner = t[f"{name}.scene_images_512_corner"]
                side = corner.shape[-1]
                ledger.close("view_selection.pixels", views[..., :side, :side], corner, atol=PIXEL)
                chosen = pooled[list(plan.chunk_views)]
                ledger.close("view_selection.pictures", chosen, t[f"{name}.cond2d_images_512_avgpool16"], atol=PIXEL)
