"""The embedded family: small, loads as published families do, and makes an object of a shipped picture."""

import json
import math

import numpy as np
import pytest
import torch

from sightline.cli.main import main
from sightline.models.trellis2.checkpoint import load_model
from sightline.models.trellis2.encoding import MeshVoxels, encode_shape, encode_texture
from sightline.models.trellis2.family import EMBEDDED_FOLDER, embedded_family
from sightline.models.trellis2.image_condition import FrontCamera
from sightline.models.trellis2.latents import decode_latents
from sightline.models.trellis2.preprocess import PIXAL3D_PADDING, crop_to_object
from sightline.scene.errors import InputError
from sightline.scene.surfaces import CubeFrame
from sightline.training.cascade.data import KINDS
from sightline.training.cascade.evaluate import decode_shape, filled, make, measure, overlap
from sightline.training.cascade.export import CODE_FILE
from sightline.training.cascade.gallery import picture_object, write_pictures
from sightline.training.cascade.latents import LinearCode
from sightline.training.procedural.placement import make_placed
from sightline.training.procedural.volumes import distance_grid, dual_grid, material_table, nearest_primitive


@pytest.fixture(scope="module")
def family():
    return embedded_family()


def test_files(family):
    sizes = [path.stat().st_size for path in EMBEDDED_FOLDER.rglob("*") if path.is_file()]
    assert 5e6 < sum(sizes) < 25e6
    assert family.naf is None and family.config.lr_resolution == 64 and family.config.plan(None) == (64, False)
    with pytest.raises(InputError, match="shape_slat_flow_model_1024"):
        from sightline.models.trellis2.family import check_networks

        check_networks(family, "1024_cascade", True)


def test_the_encoder_refuses_other_sizes(family):
    encoder = load_model(EMBEDDED_FOLDER / "ckpts" / "image_encoder")
    assert encoder(torch.rand(2, 3, 128, 128)).shape == (2, 5 + 256, encoder.channels)
    with pytest.raises(InputError, match="128, 128"):
        encoder(torch.rand(1, 3, 120, 128))


def test_shipped_pictures_are_drawn_by_this_code(repository, tmp_path):
    from PIL import Image

    written = write_pictures(tmp_path)
    shipped = repository / "workflows" / "inputs"
    assert json.loads((shipped / "pixal3d_inputs.json").read_text()) == json.loads(written[-1].read_text())
    for path in written[:-1]:
        ours, theirs = (np.asarray(Image.open(f / path.name)).astype(int) for f in (tmp_path, shipped))
        assert ours.shape == (512, 512, 4) and np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize("kind", ["chair", "mug"])
def test_a_shipped_picture_becomes_its_object(family, repository, kind):
    from PIL import Image

    rgba = np.asarray(Image.open(repository / "workflows" / "inputs" / f"pixal3d_{kind}.png"))
    placed = picture_object(kind)
    picture = crop_to_object(rgba, PIXAL3D_PADDING)
    mesh = decode_latents(family, make(family, picture, FrontCamera(math.radians(placed.fov))))
    assert len(mesh.faces) > 2000 and float(mesh.vertices.abs().max()) <= 0.51
    colors = mesh.attributes[:, :3].clamp(0, 1).median(0).values
    true = torch.tensor([p.material.color for p in placed.primitives])
    assert float((true - colors).abs().mean(1).min()) < 0.15  # most of it has the color of one of its parts


def test_unseen_objects_fit(family):
    rows = [measure(family, make_placed(kind, 6_000_000)) for kind in KINDS]
    assert np.mean([row["structure_iou"] for row in rows]) > 0.6
    assert np.mean([row["chamfer"] for row in rows]) < 0.015
    assert np.mean([row["psnr_input"] - row["gray_input"] for row in rows]) > 3
    assert all(row["upright"] for row in rows)


def test_a_mesh_goes_through_the_encoders(family):
    placed = make_placed("table", 6_000_001)
    grid = dual_grid(distance_grid(placed.primitives, 64, 4 / 64))
    points = (grid.coords + grid.dual) / 64 - 0.5
    materials = material_table(placed.primitives)[nearest_primitive(placed.primitives, points)]
    attributes = torch.nn.functional.pad(materials, (0, 1), value=1.0)
    frame = CubeFrame.of(points)
    voxels = MeshVoxels(grid.coords, grid.dual, grid.intersected, attributes, 64, frame)
    shape, texture = encode_shape(family, voxels), encode_texture(family, voxels)
    found, mesh = decode_shape(family, shape.mean.coords, shape.mean.feats)
    assert overlap(found, filled(grid.coords)) > 0.75 and len(mesh.faces) > 1000
    assert torch.equal(texture.mean.coords, shape.mean.coords)
    code = LinearCode.read(EMBEDDED_FOLDER / CODE_FILE)
    assert code.basis.shape == (343, family.get("shape_slat_decoder").config.latent_channels)


def test_the_command_writes_a_mesh(repository, tmp_path, capsys):
    picture, target = repository / "workflows" / "inputs" / "pixal3d_lamp.png", tmp_path / "lamp.glb"
    assert main(["pixal3d", str(picture), "--fov", "49.134", "--weights", "tiny", "-o", str(target)]) == 0
    assert target.stat().st_size > 50_000 and "voxels of 64^3" in capsys.readouterr().out
