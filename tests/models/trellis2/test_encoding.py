"""Meshes with materials to voxels and latents; the memory of it is planned."""

from dataclasses import replace

import pytest
import torch
import trimesh
from trellis2_tiny import cascade, sparse_vae

from sightline.kernels.dual_grid import grid_to_mesh
from sightline.models.trellis2.encoding import encode_shape, encode_texture, material_at, voxelize
from sightline.scene.errors import InputError
from sightline.scene.surfaces import CubeFrame, Surface


def surface(**changes):
    mesh = trimesh.creation.box((2.0, 4.0, 3.0))
    vertices = torch.tensor(mesh.vertices, dtype=torch.float32) + torch.tensor([5.0, -7.0, 1.0])
    return Surface(vertices, torch.tensor(mesh.faces, dtype=torch.int64), **changes)


def with_encoders():
    family = cascade(False)
    family.models["shape_slat_encoder"] = sparse_vae("FlexiDualGridVaeEncoder", 11, in_channels=6)
    family.models["tex_slat_encoder"] = sparse_vae("SparseUnetVaeEncoder", 12, in_channels=6)
    return family


def test_the_frame_centers_scales_and_turns():
    given = surface()
    frame = CubeFrame.of(given.vertices)
    found = frame.apply(given.vertices)
    expected = (given.vertices - torch.tensor([5.0, -7.0, 1.0])) * 0.99999 / 4
    assert torch.allclose(found, torch.stack([expected[:, 0], -expected[:, 2], expected[:, 1]], 1), atol=1e-6)
    assert found.abs().max() < 0.5
    assert torch.equal(found, frame.apply(given.vertices.double()))
    with pytest.raises(InputError, match="in one point"):
        CubeFrame.of(torch.ones(3, 3))


def test_voxels_carry_the_colors_of_the_surface_beside_them():
    given = surface()
    x, y, z = ((given.vertices - given.vertices.amin(0)) / (given.vertices.amax(0) - given.vertices.amin(0))).unbind(1)
    given = replace(given, vertex_colors=torch.stack([x, y, z, torch.full_like(x, 0.5)], 1), metallic_factor=0.25)
    voxels = voxelize(given, 32)
    assert voxels.coords.dtype == torch.int32 and voxels.attributes.shape == (len(voxels.coords), 6)
    # dual vertices of a box lie on it, so each one's color is its place: cube z is the mesh's y
    place = (voxels.coords + voxels.dual) / 32 - 0.5
    size = torch.tensor([0.5, 0.75, 1.0]) * 0.99999
    expected = torch.stack([place[:, 0] / size[0], place[:, 2] / size[2], -place[:, 1] / size[1]], 1) + 0.5
    assert torch.allclose(voxels.attributes[:, :3], expected.clamp(0, 1), atol=0.02)
    assert bool((voxels.attributes[:, 3] == 0.25).all()) and bool((voxels.attributes[:, 4] == 1).all())
    assert torch.allclose(voxels.attributes[:, 5], torch.tensor(0.5))
    mesh = grid_to_mesh(voxels.coords, voxels.dual, voxels.intersected, None, 32)
    assert trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy()).volume == pytest.approx(0.5 * 0.75, rel=0.02)


def test_textures_multiply_factors_and_are_read_at_voxel_size():
    corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    checks = (torch.arange(256)[:, None] + torch.arange(256)) % 2
    given = surface(
        uv=corner.expand(12, 3, 2).contiguous(),
        base_color=torch.stack([checks, 1 - checks, torch.ones(256, 256)], 2).float(),
        metallic_roughness=torch.tensor([0.5, 0.25]).expand(4, 4, 2),
        base_color_factor=(1.0, 1.0, 0.5, 0.75),
        metallic_factor=1.0,
    )
    voxels = voxelize(given, 16)
    # a checkerboard much finer than the voxels is gray
    expected = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.25, 0.75])
    assert torch.allclose(voxels.attributes, expected.expand_as(voxels.attributes), atol=1e-4)
    face, weights = torch.zeros(1, dtype=torch.int64), torch.tensor([[1.0, 0.0, 0.0]])
    assert torch.allclose(material_at(given, face, weights)[0, :3], torch.tensor([0.5, 0.5, 0.5]), atol=1e-5)


def test_both_encoders_share_their_latent_voxels():
    family, voxels = with_encoders(), voxelize(surface(), 32)
    shape, texture = encode_shape(family, voxels), encode_texture(family, voxels, memory="auto")
    assert torch.equal(shape.mean.coords, texture.mean.coords) and shape.mean.feats.shape[1] == 3
    assert torch.equal(shape.mean.coords, torch.unique(torch.div(voxels.rows, 4, rounding_mode="floor"), dim=0))
    decoded = family.get("tex_slat_decoder")(texture.mean, shape.subdivisions)
    assert torch.equal(decoded.voxels.coords, voxels.rows)
    other = encode_texture(family, replace(voxels, attributes=voxels.attributes * 0.5))
    assert not torch.allclose(other.mean.feats, texture.mean.feats)


def test_refusals():
    family, voxels = with_encoders(), voxelize(surface(), 32)
    with pytest.raises(InputError, match="no `shape_slat_encoder`"):
        encode_shape(cascade(False), voxels)
    with pytest.raises(InputError, match="shape encoder of .* voxels needs .* lower resolution than 32"):
        encode_shape(family, voxels, memory=1 << 20)
    with pytest.raises(InputError, match="no multiple of the encoder's factor 4"):
        encode_shape(family, voxelize(surface(), 30))
    with pytest.raises(InputError, match="names vertices 0..7; the mesh has 0..6"):
        Surface(surface().vertices[:7], surface().faces)
    with pytest.raises(InputError, match="not finite"):
        Surface(surface().vertices * float("nan"), surface().faces)
    with pytest.raises(InputError, match="no `uv`"):
        surface(base_color=torch.ones(4, 4, 3))
    with pytest.raises(InputError, match=r"\[H, W, 3 or 4\]"):
        surface(uv=torch.zeros(8, 2), base_color=torch.ones(4, 4, 2))
    with pytest.raises(InputError, match="`uv` has shape"):
        surface(uv=torch.zeros(5, 2))
    with pytest.raises(InputError, match="`vertex_colors`"):
        surface(vertex_colors=torch.zeros(5, 3))
    with pytest.raises(InputError, match="integers"):
        Surface(surface().vertices, surface().faces.float())
