"""Pose latents to translation, rotation and scale."""

from relaxflow_parity import MODULE
from sam3d_parity import latents

from sightline.models.sam3d.pose import ROTATION_MEAN, ROTATION_STD, decode_pose

SYSTEM, KIND = "relaxflow", "sam3d_pose_decoder"


def test_pose(fixture, ledger):
    t = fixture.tensors()
    ledger.close("sam3d.pose.constants", ROTATION_MEAN, t["rot6d_mean"], **MODULE)
    ledger.close("sam3d.pose.constants", ROTATION_STD, t["rot6d_std"], **MODULE)
    pose = decode_pose(latents(t, "in"), t["scene_scale"], t["scene_shift"])
    sign = (pose.rotation * t["out.rotation"]).sum(-1, keepdim=True).sign()
    for name, value in (("translation", pose.translation), ("rotation", pose.rotation * sign), ("scale", pose.scale)):
        ledger.close("sam3d.pose." + name, value, t["out." + name], **MODULE)
