"""Texturing an existing mesh: its geometry comes back bit by bit, its new material from the voxels around it."""

import pytest
import torch
import trimesh
from trellis2_tiny import STEPS, cascade, picture, sparse_vae

from sightline.kernels.grid_sample import sample_voxels
from sightline.pipelines.texturing import texture_mesh, textured_part, voxel_attributes
from sightline.scene.errors import InputError
from sightline.scene.gltf import Part
from sightline.scene.sparse import SparseTensor
from sightline.scene.surfaces import Surface


def family(projected=False):
    found = cascade(projected)
    found.models["shape_slat_encoder"] = sparse_vae("FlexiDualGridVaeEncoder", 11, in_channels=6)
    del found.models["shape_slat_decoder"], found.models["shape_slat_flow_model_512"]  # as the texturing family
    return found


def surface():
    mesh = trimesh.creation.icosphere(1, 3.0)
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32) + torch.tensor([1.0, 2.0, 3.0])
    uv = torch.rand(len(vertices), 2, generator=torch.Generator().manual_seed(0))
    return Surface(vertices, torch.tensor(mesh.faces, dtype=torch.int64), uv)


@pytest.mark.parametrize("resolution", [32, 64])
def test_the_mesh_comes_back_as_it_was(resolution):
    given, seen = surface(), []
    before = [value.clone() for value in (given.vertices, given.faces, given.uv)]
    texels = given.vertices[given.faces].mean(1)
    painted = texture_mesh(
        family(),
        given,
        picture(),
        texels=texels,
        resolution=resolution,
        samplers=STEPS,
        progress=lambda stage, done, steps, x_t, x_0: seen.append((stage, done, steps)),
    )
    for found, kept in zip((painted.surface.vertices, painted.surface.faces, painted.surface.uv), before):
        assert torch.equal(found, kept)
    assert seen == [("texture", 1, 2), ("texture", 2, 2)]
    assert painted.resolution == resolution and painted.voxels.feats.shape[1] == 6
    assert painted.vertex_attributes.shape == (len(given.vertices), 6)
    assert painted.texel_attributes.shape == (len(texels), 6)
    assert torch.equal(painted.attributes_at(texels), painted.texel_attributes)
    assert painted.vertex_attributes.std(0).min() > 0 and bool(torch.isfinite(painted.vertex_attributes).all())
    places = (painted.frame.apply(given.vertices) + 0.5) * resolution
    assert torch.allclose(painted.vertex_attributes, sample_voxels(painted.voxels, places), atol=1e-5)


@pytest.mark.parametrize("unwrapped", [True, False])
def test_textures_lie_on_the_given_mesh(unwrapped):
    given = surface()
    uv = given.vertices[:, :2].sub(given.vertices[:, :2].amin(0)) / 6 if unwrapped else None
    painted = texture_mesh(family(), given, picture(), resolution=32, samplers=STEPS)
    made, text = textured_part(painted, Part(given.vertices, given.faces, uv=uv), 256)
    assert made.material.base_color.shape[:2] == (256, 256) and "texels" in text
    if unwrapped:
        assert torch.equal(made.vertices, given.vertices) and torch.equal(made.uv, uv)
        assert torch.equal(made.faces, given.faces)
    else:
        assert torch.equal(made.vertices[made.faces.long()], given.vertices[given.faces])
        at = (made.uv[made.faces.long()].mean(1) * 256).long().clamp(max=255)  # the texel in the middle of every face
        wanted = painted.attributes_at(given.vertices[given.faces].mean(1))[:, :3].clamp(0, 1)
        shown = made.material.base_color[at[:, 1], at[:, 0], :3]
        assert (shown - wanted).abs().mean() < 0.03 < (wanted.roll(7, 0) - wanted).abs().mean()


def test_memory_and_seed():
    models, options = family(), dict(resolution=32, samplers=STEPS)
    first = texture_mesh(models, surface(), picture(), **options)
    again = texture_mesh(models, surface(), picture(), memory="auto", **options)
    other = texture_mesh(models, surface(), picture(), seed=1, **options)
    assert torch.equal(first.voxels.feats, again.voxels.feats)
    assert not torch.allclose(first.voxels.feats, other.voxels.feats)
    with pytest.raises(InputError, match="shape encoder of .* needs"):
        texture_mesh(models, surface(), picture(), memory=1 << 20, **options)


def test_points_away_from_all_voxels_take_the_nearest():
    coords = torch.tensor([[0, 1, 1, 1], [0, 6, 6, 6]], dtype=torch.int32)
    voxels = SparseTensor(torch.tensor([[0.2] * 6, [0.9] * 6]), coords)
    points = torch.tensor([[1.5, 1.5, 1.5], [4.5, 4.0, 4.0], [7.9, 7.9, 7.9], [2.0, 1.5, 1.5]]) / 8 - 0.5
    found = voxel_attributes(voxels, 8, points)
    assert torch.allclose(found[:, 0], torch.tensor([0.2, 0.9, 0.9, 0.2]))


def test_refusals():
    with pytest.raises(InputError, match="textures at 32 or 64"):
        texture_mesh(family(), surface(), picture(), resolution=48)
    with pytest.raises(InputError, match="positions are"):
        texture_mesh(family(), surface(), picture(), texels=torch.zeros(4, 2))
    with pytest.raises(InputError, match="no projected features"):
        texture_mesh(family(True), surface(), picture(), resolution=32, samplers=STEPS)
