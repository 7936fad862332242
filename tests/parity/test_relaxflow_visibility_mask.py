"""The visibility mask of voxels under a pose, over every case of the fixture."""

from sightline.models.relaxflow.visibility import VisibilitySettings, visibility_from_pose

SYSTEM, KIND = "relaxflow", "visibility_mask"
MASK = dict(atol=1e-5, fraction=0.998)  # a point within rounding of a pixel's border may fall on its other side


def test_every_case(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    for name, case in meta["cases"].items():
        options = {**meta["defaults"], **case}
        settings = VisibilitySettings(
            options["soft_falloff"], options["param_tolerance_scale"], options["param_dilate_scale"], centered=False
        )
        values = {key.removeprefix(name + "."): value for key, value in t.items() if key.startswith(name + ".")}
        out = visibility_from_pose(
            values["coords"],
            values["translation"],
            values["rotation_wxyz"],
            values["scale"],
            values["intrinsics"],
            *options["image_hw"],
            selected=values.get("condition_mask"),
            settings=settings,
        )
        ledger.close("visibility_mask", out, values["mask"], **MASK)
