"""Scenes against Blender: projected corners, wires, colors, masks, and the control picture.

Pictures are compared with Cycles' own, whose denoiser and 8-bit dither set the floor; means over a picture are held to
1.5 of 255 levels at 512 pixels.
"""

import numpy as np
import pytest
import torch
from seethrough3d_layouts import SIDE, bits, document, linear, picture, pooled, shown

from sightline.kernels.box_render.masks import mask_cells
from sightline.kernels.box_render.outlines import rails
from sightline.kernels.box_render.scene import edge_color
from sightline.pipelines.layout_render import box_scene, layout_masks
from sightline.scene.document.geometry import box_corners, camera_pose, project

SYSTEM, KIND = "seethrough3d", "layout"
REFERENCE = np.array([6.0, 0.0, 0.0])  # the reference's world lies 6 units further back


def recorded(fixture, name):
    tensors = fixture.tensors()
    if name not in tensors:
        pytest.skip(f"{fixture.name} was recorded without {name}")
    return tensors[name].double().numpy()


def test_projected_corners(fixture, ledger):
    scene, tensors = document(fixture), fixture.tensors()
    ours = np.stack([project(scene.camera, SIDE, SIDE, box_corners(one)) for one in scene.objects])
    ledger.close("layout.corners", ours, tensors["projected_corners_analytic"], atol=1e-3)
    if "blender_projected_corners" in tensors:
        ledger.close("layout.corners_blender", ours, tensors["blender_projected_corners"], atol=1e-3)


def test_boxes_and_camera(fixture, ledger):
    scene = document(fixture)
    ours = np.stack([box_corners(one) - REFERENCE for one in scene.objects])
    ledger.close("layout.boxes", ours, recorded(fixture, "blender_box_vertices"), atol=1e-5)
    matrix, pose = recorded(fixture, "blender_cam_matrix_world"), camera_pose(scene.camera)
    ledger.close("layout.camera", pose.rotation, matrix[:3, :3], atol=1e-5)
    ledger.close("layout.camera", pose.center - REFERENCE, matrix[:3, 3], atol=1e-5)


def test_wires(fixture, ledger):
    """Every rail of ours ends at a recorded vertex of the wireframe."""
    vertices = recorded(fixture, "wire_vertices_world")
    boxes = box_scene(document(fixture), SIDE, SIDE)
    ends = torch.einsum("sec,nc,ndc->nsed", rails(), boxes.halves, boxes.axes) + boxes.centers[:, None, None]
    ends = ends.reshape(len(vertices), -1, 3).double().numpy() - REFERENCE
    away = np.linalg.norm(ends[:, :, None] - vertices[:, None], axis=-1).min(-1)
    ledger.close("layout.wires", away, np.zeros_like(away), atol=1e-4)


def test_edge_colors(fixture, ledger):
    positions = torch.tensor([one.position for one in document(fixture).objects])
    ledger.close("layout.edge_colors", edge_color(positions), recorded(fixture, "edge_colors")[:, :3], atol=1e-6)


def test_masks(fixture, ledger):
    """At most 0.5 % of the pixels of a scene's masks, and one of its 32 x 32 cells."""
    masks = layout_masks(document(fixture), SIDE, SIDE)
    cells = fixture.tensors()["masks_32"].bool()
    ledger.close("layout.mask_cells_off", int((mask_cells(masks) != cells).sum()), 0, atol=1)
    theirs = bits(fixture, "_masks.png", SIDE)
    if theirs is not None:
        ledger.close("layout.mask_pixels_off", float((masks ^ theirs).sum() / theirs.sum()), 0.0, atol=0.005)


def test_linear_light(fixture, ledger):
    theirs = torch.from_numpy(recorded(fixture, "oscr_linear_256")).float()
    ledger.close("layout.linear_mean", float((pooled(linear(fixture), 256) - theirs).abs().mean()), 0.0, atol=1.5e-3)


def test_linear_light_at_points(fixture, ledger):
    at = recorded(fixture, "oscr_linear_points_yx").astype(int)
    ours = linear(fixture)[at[:, 0], at[:, 1]]
    ledger.close(
        "layout.linear_points", ours, recorded(fixture, "oscr_linear_point_values"), atol=1.5e-3, fraction=0.85
    )


def test_control_picture(fixture, ledger):
    theirs = picture(fixture, "_oscr_512.png")
    if theirs is None:
        pytest.skip(f"{fixture.name} was recorded without a picture")
    error = pooled(shown(fixture), theirs.shape[0]) - theirs
    ledger.close("layout.control_picture_mean", float(error.abs().mean()), 0.0, atol=1.5)


def test_control_picture_as_saved(fixture, ledger):
    theirs = picture(fixture, "_oscr_1024.jpg")
    if theirs is None:
        pytest.skip(f"{fixture.name} was recorded without the saved file")
    error = pooled(shown(fixture), theirs.shape[0]) - theirs
    ledger.close("layout.control_file_mean", float(error.abs().mean()), 0.0, atol=2.0)
