"""Drawn rooms: what the lattice, the latents, the views and the projection say about one room agrees."""

import pytest
import torch

from sightline.kernels.view_projection import in_camera, project_to_patches, voxel_centers
from sightline.models.genrecon.aggregator import ViewAggregator
from sightline.scene.errors import InputError
from sightline.training.cascade.data import REACH
from sightline.training.genrecon.data import PATCH, Rooms, make_sample, prepare
from sightline.training.genrecon.embedded import read_codes
from sightline.training.genrecon.flow_stages import dense_flow, make_flow
from sightline.training.genrecon.lifting import (
    DISTANCE,
    KNOTS,
    aggregate_visible,
    begin_as_fusion,
    clear_unused,
    join,
    visible_samples,
)
from sightline.training.genrecon.truth import true_surface
from sightline.training.genrecon.volumes import CELLS, SHELL
from sightline.training.procedural_room import make_plain_room


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    return read_codes(tmp_path_factory.mktemp("none"))  # those of the embedded family


@pytest.fixture(scope="module")
def sample(codes):
    return make_sample(5, codes, views=4)


def test_rooms_follow_from_their_seed_and_hold_their_furniture():
    first, again = make_plain_room(3), make_plain_room(3)
    assert first.size == again.size and len(first.primitives) == len(again.primitives) > SHELL + 5
    for seed in range(4):
        room = make_plain_room(seed)
        points = torch.cat([p.bounds_points() for p in room.primitives[SHELL:]])
        half = torch.tensor(room.size[:2]) / 2
        assert bool((points[:, :2].abs() <= half + 0.05).all()) and float(points[:, 2].max()) < room.size[2]
    with pytest.raises(InputError, match="at least 2 m"):
        make_plain_room(0, (1.0, 3.0, 2.5))


def test_samples_are_deterministic(codes, sample):
    again = make_sample(5, codes, views=4)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(sample).items())


def test_cells_lie_where_the_views_see_them(sample):
    for chunk in range(len(sample.offsets)):
        rows, place = sample.inside(chunk)
        block = sample.block(chunk)
        occupied = place[sample.occupied[rows]]
        assert bool((block[1][tuple(occupied.T)] > 1).all()), "the structure latent says so too"
        points = voxel_centers(CELLS, occupied)
        pose = sample.extrinsics(chunk)
        side = sample.dense.shape[-1]
        patch, valid = project_to_patches(points, pose, sample.lens, side)
        distance = in_camera(points, pose).norm(dim=-1)
        seen = sample.dense[:, 9].float().flatten(1).gather(1, patch).exp()
        error = (seen - distance)[valid]
        if len(error) > 100:  # most are the first surface on their ray; a cell is 18 cm wide
            assert float((error.abs() < 0.2).float().mean()) > 0.5
    assert sample.images.shape[-1] == PATCH * sample.dense.shape[-1]


def test_the_true_surface_is_the_inside_of_the_room():
    room = make_plain_room(1)
    vertices, faces, colors = true_surface(room)
    assert len(colors) == len(vertices) and bool((colors >= 0).all())
    used = vertices[torch.unique(faces.long())]
    half = torch.tensor(room.size[:2]) / 2
    assert bool((used[:, :2].abs() <= half + 0.03).all())
    assert abs(float(used[:, 2].min())) < 0.03 and abs(float(used[:, 2].max()) - room.size[2]) < 0.03
    assert REACH >= 2


def test_lifting_in_training_is_the_kernels_aggregation(sample):
    torch.manual_seed(0)
    side = sample.dense.shape[-1]
    tokens = torch.randn(4, 5 + side * side, 32)
    aggregator = clear_unused(ViewAggregator(32, use_camera=True))
    points = [voxel_centers(CELLS)[::17], voxel_centers(CELLS)[::29]]
    wanted = [aggregator.from_tokens(tokens, p, sample.extrinsics(c), sample.lens) for c, p in enumerate(points)]
    seen = [visible_samples(p, sample.extrinsics(c), sample.lens, side) for c, p in enumerate(points)]
    found = aggregate_visible(aggregator, tokens.repeat(2, 1, 1).flatten(0, 1), join(seen, tokens[..., 0].numel()))
    torch.testing.assert_close(found, torch.cat(wanted), rtol=1e-4, atol=1e-5)


def test_an_aggregator_begins_as_a_fusion_of_distances():
    torch.manual_seed(0)
    aggregator = begin_as_fusion(clear_unused(ViewAggregator(32, use_camera=True)), torch.eye(32)[3], 2.0)
    layer = aggregator.feature_mlp[0]
    units = (layer.weight[:, 3 * 32 + DISTANCE].abs() == 4).nonzero().squeeze(1)
    assert len(units) == 2 * len(KNOTS)
    given = torch.zeros(1, 3 * 32 + 5)
    given[0, 3], given[0, 3 * 32 + DISTANCE] = 0.5, 1.5  # what is seen lies at 2.5 m, the voxel 1 m before it
    before = (given @ layer.weight.T + layer.bias)[0, units].sort().values
    wanted = torch.tensor([4 * s * (1.0 - k) for k in KNOTS for s in (1, -1)]).sort().values
    torch.testing.assert_close(before, wanted)


def test_the_structure_flow_is_one_function_in_both_classes():
    from sightline.models.genrecon.flows import SceneCondition, ViewTokens
    from sightline.scene.sparse import SparseTensor

    torch.manual_seed(0)
    flow = make_flow("structure").eval()
    torch.nn.init.normal_(flow.out_layer.weight, std=0.1)
    x, t = torch.randn(1, 2, CELLS, CELLS, CELLS), torch.tensor([700.0])
    voxels, view = torch.randn(1, CELLS**3, 128), [ViewTokens(torch.randn(9, 128))]
    rows = torch.nn.functional.pad(torch.cartesian_prod(*[torch.arange(CELLS)] * 3), (1, 0)).int()
    with torch.no_grad():
        dense = dense_flow(flow)(x, t, SceneCondition(view, voxels))
        sparse = flow(SparseTensor(x[0].flatten(1).T.contiguous(), rows), t, SceneCondition(view, voxels[0])).feats
    torch.testing.assert_close(dense[0].flatten(1).T, sparse, rtol=1e-4, atol=1e-4)


def test_shards(tmp_path, codes):
    assert list(prepare(tmp_path, 1, codes, "validation", views=2)) == [1]
    rooms = Rooms(tmp_path, "validation")
    assert len(rooms) == 1 and len(rooms[0].images) == 2
    with pytest.raises(InputError, match="--prepare"):
        Rooms(tmp_path, "train")
