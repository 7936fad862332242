"""SRN frames -> cameras, pose channels and the training item."""

import torch

from sightline.models.sparsegen import SparseGenConfig, pose_channels
from sightline.scene.cameras import Cameras
from sightline.scene.frames import cameras_from_srn_pose, pytorch3d_rt
from sightline.training.sparsegen.srn import SrnObject, resize_pictures, training_item

SYSTEM, KIND = "sparsegen", "data_camera"


def load(fixture):
    t = fixture.tensors()
    config = SparseGenConfig.from_hydra(fixture.json("config.json")["cfg"])
    side = t["in.rgb_u8"].shape[1]
    cameras = cameras_from_srn_pose(t["in.poses_c2w_opencv"], side, side, config.focal(side))
    return t, config, SrnObject(t["in.rgb_u8"], t["in.occ_u8"], cameras)


def test_cameras(fixture, ledger):
    t, config, item = load(fixture)
    n = len(t["out.R"])
    cameras = item.cameras[list(range(n))]
    rotation, translation = pytorch3d_rt(cameras)
    ledger.close("srn cameras", rotation, t["out.R"], atol=1e-6)
    ledger.close("srn cameras", translation, t["out.T"], atol=1e-6)
    ledger.close("srn cameras", cameras.world_to_camera, t["out.viewmats"], atol=1e-6)
    intrinsics = config.intrinsics().expand(n, 3, 3)
    ledger.close("srn intrinsics", intrinsics, t["out.Ks"], rtol=1e-6, atol=1e-5)


def test_projection(fixture, ledger):
    t, config, item = load(fixture)
    n, size = len(t["out.R"]), config.input_size
    cameras = Cameras(item.cameras.world_to_camera[:n], config.intrinsics().expand(n, 3, 3), size, size)
    ndc, depth = t["in.unproject_xy_ndc_depth"][..., :2], t["in.unproject_xy_ndc_depth"][..., 2]
    pixels = (1 - ndc) * size / 2  # PyTorch3D's x points left and y up
    ledger.close("unproject", cameras.unproject(pixels, depth), t["out.unproject_world"], atol=1e-5)
    world = t["out.unproject_world"][0]
    rotation, translation = pytorch3d_rt(cameras)
    camera = world @ rotation + translation[:, None]
    theirs = torch.cat([camera, torch.ones_like(camera[..., :1])], -1) @ t["out.projection_matrix_p3d"]
    ours, seen = cameras.project(world)
    ledger.close("project", 1 - ours * 2 / size, theirs[..., :2] / theirs[..., 3:], atol=1e-4)
    ledger.close("project", seen, theirs[..., 3], atol=1e-5)


def test_views(fixture, ledger):
    t, config, item = load(fixture)
    n, size = len(t["out.aug9"]), config.input_size
    pictures = resize_pictures(item.rgb[:n].permute(0, 3, 1, 2).float() / 255, size)
    views = torch.cat([pictures, pose_channels(item.cameras.world_to_camera[:n], config)], 1)
    ledger.close("srn view channels", views, t["out.aug9"], atol=1e-6)
    masks = resize_pictures(item.occupancy[:n, None].float() / 255, size)
    ledger.close("srn silhouettes", masks, t["out.occ"], atol=1e-6)


def test_training_item(fixture, ledger):
    t, config, item = load(fixture)
    drawn = training_item(item, t["item.input_order"].tolist(), fixture.meta["num_train_cond"], config)
    for name in ("x_cond", "x_in", "training_imgs", "training_occs", "pose_embed", "target_Rs", "target_Ts"):
        ledger.close("training item", getattr(drawn, name), t[f"item.{name}"], atol=1e-6)
    last = len(t["out.aug9"]) - 1  # the published item sets the last drawn frame aside
    aside = training_item(item, [last], 0, config)
    ledger.close("training item", aside.x_in, t["item.validation_imgs"], atol=1e-6)
    ledger.close("training item", aside.pose_embed, t["item.val_pose_embeds"], atol=1e-6)
    ledger.close("training item", aside.training_occs, t["item.validation_occs"], atol=1e-6)
