"""Projection of a whole grid: patches, visibility, lifted features, camera features."""

from genrecon_parity import FLOAT

from sightline.kernels.view_projection import camera_features, lift, project_to_patches, voxel_centers

SYSTEM, KIND = "genrecon", "projection_dense"


def test_projection(fixture, ledger):
    t, meta = fixture.tensors(), fixture.meta
    prefix = meta.get("global_img_tokens", 5)
    points = voxel_centers(meta["grid_res"], refinement=meta.get("refinement_factor", 1))
    ledger.close("projection.points", points, t["coords"], **FLOAT)
    for item in range(len(t["cond"])):
        extrinsics, intrinsics = t["extrinsics"][item], t["intrinsics"][item]
        patch, valid = project_to_patches(points, extrinsics, intrinsics, meta["img_patch_res"])
        ledger.exact("projection.valid", valid, t["valid"][item])
        ledger.exact("projection.patch", patch + prefix, t["patch_ids"][item])
        ledger.close("projection.features", lift(t["cond"][item], patch, valid, prefix), t["proj"][item], **FLOAT)
        if "camera_emb" in t:
            found = camera_features(points, extrinsics)
            ledger.close("projection.camera_features", found, t["camera_emb"][item], **FLOAT)
