import numpy as np
import pytest
from repair_meshes import ball, join, volume

from sightline.kernels.mesh import clean, holes, shells, winding
from sightline.kernels.mesh.topology import Counts, Edges, used


def test_counts_of_a_ball():
    vertices, faces = ball(6)
    assert Counts.of(faces) == Counts(432, 218, 0, 0, 0, 1, 2)
    assert volume(vertices, faces) > 0.45


def test_weld_joins_places_short_edges_and_borders_but_not_thin_walls():
    vertices, faces = ball(6)
    soup = vertices[faces].reshape(-1, 3) + np.random.default_rng(0).normal(0, 1e-7, (3 * len(faces), 3))
    alone = np.arange(len(soup)).reshape(-1, 3)
    into = clean.weld(soup, alone, 1e-5)
    assert Counts.of(used(soup, into[alone])[0]) == Counts.of(faces)
    assert np.array_equal(clean.weld(soup[np.unique(into)], used(soup, into[alone])[0], 1e-5), np.arange(218))
    thin = join((vertices, faces), (vertices * (1 - 1e-6), faces[:, ::-1]))
    assert np.array_equal(clean.weld(*thin, 1e-5), np.arange(2 * 218))
    short = vertices.copy()
    short[faces[0, 1]] = short[faces[0, 0]] + 1e-7
    into = clean.weld(short, faces, 1e-5)
    assert (into != np.arange(218)).sum() == 1


def test_duplicates_and_dangling_faces():
    vertices, faces = ball(4)
    more = np.concatenate([faces, faces[5:7], faces[9:10, ::-1], np.roll(faces[3:4], 1, 1)])
    assert np.flatnonzero(clean.duplicates(more)).tolist() == list(range(len(faces), len(faces) + 4))
    fin = np.concatenate([faces, [[faces[0, 0], faces[0, 1], len(vertices)]]])
    assert np.flatnonzero(clean.dangling(fin)).tolist() == [len(faces)]


def test_faces_without_area_are_turned_into_their_neighbors():
    vertices, faces = ball(4)
    a, b, c = faces[10]
    vertices = np.concatenate([vertices, [(vertices[a] + vertices[b]) / 2]])
    new = len(vertices) - 1
    rest = np.delete(faces, 10, 0)
    faces = np.concatenate([rest, [[a, new, c], [new, b, c], [a, b, new]]])  # the last is flat; all is closed
    assert Counts.of(faces).border_edges == 0 and clean.degenerate(vertices, faces).sum() == 1
    mended, keep = clean.mend_flat(vertices, faces)
    assert keep.all() and not clean.degenerate(vertices, mended).any()
    assert Counts.of(mended) == Counts.of(faces)


def cubes(offset):
    """Two cubes, the second moved by `offset`, on shared vertices where they touch."""
    vertices, faces = ball(1)
    vertices = np.sign(vertices)
    both = join((vertices, faces), (vertices + 2 * np.array(offset), faces))
    return both[0], clean.weld(*both, 1e-6)[both[1]]


@pytest.mark.parametrize(("offset", "crowded"), [((1, 1, 0), 1), ((1, 1, 1), 0)])
def test_solids_that_touch_are_taken_apart(offset, crowded):
    vertices, faces = cubes(offset)
    assert Counts.of(faces).crowded_edges == crowded
    split, source = clean.separate(vertices, faces)
    if crowded:
        assert Counts.of(split) == Counts(24, 16, 0, 0, 0, 2, 4)
        assert len(source) == 2
        again, more = clean.separate(np.concatenate([vertices, vertices[source]]), split)
        assert not len(more) and np.array_equal(again, split)


def test_an_edge_with_three_faces_is_cut():
    vertices, faces = ball(4)
    wing = np.concatenate([vertices, [[2.0, 0, 0], [2, 1, 0]]])
    n = len(vertices)
    faces = np.concatenate([faces, [[faces[0, 0], faces[0, 1], n], [faces[0, 1], n, n + 1]]])
    split, _ = clean.separate(wing, faces)
    counts = Counts.of(split)
    assert counts.crowded_edges == counts.conflicting_edges == 0


def moebius(steps=20):
    t = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    row = np.stack([np.cos(t), np.sin(t), 0 * t], 1)
    out = np.stack([np.cos(t) * np.cos(t / 2), np.sin(t) * np.cos(t / 2), np.sin(t / 2)], 1) * 0.3
    vertices = np.concatenate([row - out, row + out])
    i = np.arange(steps - 1)
    faces = np.concatenate([np.stack([i, i + 1, i + steps], 1), np.stack([i + 1, i + 1 + steps, i + steps], 1)])
    last = [[steps - 1, steps, 2 * steps - 1], [steps, 0, 2 * steps - 1]]
    return vertices, np.concatenate([faces, last])


def test_windings_are_unified_then_turned_outward():
    rng = np.random.default_rng(0)
    big, small = ball(8), ball(5, 0.1)
    vertices, faces = join(big, (small[0] + 2, small[1]))
    for share in (0.3, 0.7, 1.0):
        mixed = faces.copy()
        turn = rng.random(len(faces)) < share
        mixed[turn] = mixed[turn][:, ::-1]
        flip = winding.flipped(vertices, mixed)
        mixed[flip] = mixed[flip][:, ::-1]
        assert not Edges.of(mixed).conflicts.any()
        inward = winding.inward(vertices, mixed)
        mixed[inward] = mixed[inward][:, ::-1]
        assert volume(vertices, mixed) == pytest.approx(volume(vertices, faces), rel=1e-9)
        assert not winding.flipped(vertices, mixed).any() and not winding.inward(vertices, mixed).any()


def test_the_wall_of_a_cavity_stays_inward():
    big, small = ball(8), ball(5, 0.2)
    vertices, faces = join(big, (small[0], small[1][:, ::-1]))
    assert not winding.inward(vertices, faces).any()
    assert winding.inward(vertices, faces[:, ::-1])[: len(big[1])].all()


def test_open_surfaces_are_turned_by_rays():
    vertices, faces = ball(8)
    bowl = faces[vertices[faces].mean(1)[:, 2] < -0.1]
    assert not winding.inward(vertices, bowl).any()
    assert winding.inward(vertices, bowl[:, ::-1]).all()
    sheet = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
    assert not winding.inward(*sheet).any() and not winding.inward(sheet[0], sheet[1][:, ::-1]).any()


def test_a_moebius_strip_ends_without_conflict():
    vertices, faces = moebius()
    flip = winding.flipped(vertices, faces)
    faces[flip] = faces[flip][:, ::-1]
    faces, _ = clean.separate(vertices, faces)
    assert Counts.of(faces).conflicting_edges == 0


@pytest.mark.parametrize("reach", [0.12, 0.3, 0.45])
def test_holes_are_filled_with_few_slivers(reach):
    vertices, faces = ball(24)
    rest = faces[np.linalg.norm(vertices[faces].mean(1) - vertices[0], axis=1) > reach]
    rest, keep = used(vertices, rest)
    patch, middle, _, _ = holes.fill_holes(vertices[keep], rest, 10.0)
    assert not len(middle)
    whole = np.concatenate([rest, patch])
    assert Counts.of(whole).border_edges == 0 and Counts.of(whole).conflicting_edges == 0
    assert 0 < volume(vertices, faces) - volume(vertices[keep], whole) < 4 * reach**4
    assert not clean.degenerate(vertices[keep], patch).any()
    degree = np.bincount(patch.reshape(-1))
    assert degree.max() < 0.5 * len(patch)  # no fan
    assert not len(holes.fill_holes(vertices[keep], rest, 0.01)[0])


def test_holes_that_touch_are_closed_one_by_one():
    vertices, faces = ball(8)
    shared = np.isin(faces, faces[300]).sum(1)
    gone = [300, int(np.flatnonzero(shared == 1)[0])]  # they have one vertex in common
    rest = np.delete(faces, gone, 0)
    split, source = clean.separate(vertices, rest)
    assert len(source) == 1
    more = np.concatenate([vertices, vertices[source]])
    patch, middle, _, into = holes.fill_holes(more, split, 0.5)
    whole = np.concatenate([into[split], patch])
    assert not len(middle) and len(patch) == len(gone)
    assert Counts.of(whole) == Counts.of(faces)


def test_rims_of_sheets_stay_open_and_long_loops_are_cut():
    line = np.arange(71.0)
    grid = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    vertices = np.concatenate([grid, np.zeros((len(grid), 1))], 1)
    i, j = np.meshgrid(np.arange(70), np.arange(70), indexing="ij")
    a = (i * 71 + j).reshape(-1)
    faces = np.concatenate([np.stack([a, a + 71, a + 72], 1), np.stack([a, a + 72, a + 1], 1)])
    assert not len(holes.fill_holes(vertices, faces, 1e9)[0])
    middle = vertices[faces].mean(1)[:, :2]
    frame = faces[(np.abs(middle - 35) > 25).any(1)]
    frame, keep = used(vertices, frame)
    loops = holes.border_loops(vertices[keep], frame, Edges.of(frame))
    assert sorted(loops.size.tolist()) == [200, 280] and loops.perimeter.max() == pytest.approx(280)
    patch, _, _, _ = holes.fill_holes(vertices[keep], frame, 250.0)
    assert len(patch) == 198 and Counts.of(np.concatenate([frame, patch])).border_edges == 280


def test_dust_and_hidden_shells():
    big, inner, speck = ball(8), ball(6, 0.3), ball(3, 0.01)
    vertices, faces = join(big, inner, (speck[0] + 1, speck[1]))
    ends = np.cumsum([len(big[1]), len(inner[1]), len(speck[1])])
    assert np.flatnonzero(shells.dust(vertices, faces, 1e-2)).tolist() == list(range(ends[1], ends[2]))
    assert np.flatnonzero(shells.hidden(vertices, faces)).tolist() == list(range(ends[0], ends[1]))
