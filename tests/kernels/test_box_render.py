"""The control picture's renderer: the tiled form against its definition, and the closed form on cases known by hand."""

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sightline.kernels.box_render.agx import agx, coefficients, srgb
from sightline.kernels.box_render.filter import WIDTH, offsets
from sightline.kernels.box_render.masks import mask_cells, nearest_boxes, polygon_masks
from sightline.kernels.box_render.outlines import mark
from sightline.kernels.box_render.render import _lone_threads, display, render_dense, render_linear
from sightline.kernels.box_render.scene import (
    FACE_ALPHA,
    FACE_COLOR,
    FLOOR_ALBEDO,
    BoxScene,
    edge_color,
    even_lights,
    reference_lights,
)
from sightline.kernels.box_render.trace import INTENSITY, radiance
from sightline.pipelines.layout_render import box_scene
from sightline.scene.document.examples import load_example
from sightline.scene.errors import InputError


def boxes(*places, size=64, elevation=20.0, **changes) -> BoxScene:
    """Unit boxes at places (x, y, z of the center) before the default camera."""
    e = math.radians(elevation)
    c, s, focal = math.cos(e), math.sin(e), 50 / 36 * size
    right, down, forward = torch.tensor([0.0, 1, 0]), torch.tensor([s, 0.0, -c]), torch.tensor([-c, 0.0, -s])
    rays = torch.stack([right / focal, down / focal, forward - (right + down) * size / 2 / focal], dim=1)
    centers = torch.tensor(places, dtype=torch.float32).reshape(-1, 3)
    count = len(centers)
    values = dict(
        centers=centers, axes=torch.eye(3).expand(count, 3, 3), halves=torch.full((count, 3), 0.5),
        edge_colors=torch.tensor([0.05, 0.03, 0.02]).expand(count, 3), lights=even_lights(),
        eye=torch.tensor([6 * c, 0.0, 6 * s]), rays=rays, width=size, height=size,
    )  # fmt: skip
    return BoxScene(**{**values, **changes})


def look(scene: BoxScene, x: float, y: float) -> torch.Tensor:
    """Radiance [3] at one pixel position, against everything."""
    pixel = torch.tensor([[x, y, 1.0]])
    every = torch.arange(len(scene.centers))
    pairs = [(i, b) for i in range(len(scene.lights)) for b in range(len(scene.centers))]
    return radiance(scene, pixel @ scene.rays.mT, every, pairs)[0]


def test_tiles_give_the_definition_where_it_is_smooth_and_close_to_it_at_edges():
    scene = box_scene(load_example("mars"), 112, 96)
    fast, slow = render_linear(scene, 3), render_dense(scene, 3)
    smooth = mark(scene) == 0
    assert 0.3 < float(smooth.float().mean()) < 0.95
    assert float((fast - slow)[smooth].abs().max()) < 2e-3  # one sample for nine
    assert float((fast - slow)[mark(scene) == 2].abs().max()) < 1e-6
    assert 255 * float((display(fast) - display(slow)).abs().mean()) < 0.1


def test_one_sample_is_the_pixel_center_in_both():
    scene = boxes((0.0, 0.0, 0.5), (0.8, 0.6, 0.5))
    assert float((render_linear(scene, 1) - render_dense(scene, 1)).abs().max()) < 1e-6


def test_bare_floor_is_the_lights_on_it():
    scene = boxes(lights=torch.tensor([[1.0, 2.0, 9.0]]))
    eye, ray = scene.eye, scene.rays @ torch.tensor([32.0, 50.0, 1.0])
    point = eye - eye[2] / ray[2] * ray
    away = scene.lights[0] - point
    expected = FLOOR_ALBEDO / math.pi * INTENSITY * 9.0 / away.norm() ** 3
    assert look(scene, 32.0, 50.0).tolist() == pytest.approx([float(expected)] * 3, rel=1e-5)
    assert render_linear(dataclasses.replace(scene, floor=False)).abs().max() == 0


def test_a_face_adds_its_color_and_dims_the_rest():
    dark = torch.tensor([[0.0, 0.0, -50.0]])  # below the floor: nothing is lit
    scene = boxes((0.0, 0.0, 0.5), lights=dark)
    front = look(scene, 32.0, 28.0)  # through local +X (green), out through -X (blue)
    emitted = FACE_ALPHA * FACE_COLOR
    assert front.tolist() == pytest.approx([0.0, emitted, (1 - FACE_ALPHA) * emitted], rel=1e-3)


def test_edges_are_opaque_and_hide_what_is_behind():
    scene = boxes((0.0, 0.0, 0.5))
    corner = torch.tensor([0.5, -0.5, 0.5]) - scene.eye  # the middle of the near left upright edge
    seen = torch.linalg.inv(scene.rays) @ corner
    color = look(scene, float(seen[0] / seen[2]), float(seen[1] / seen[2]))
    assert color.tolist() == pytest.approx(scene.edge_colors[0].tolist(), abs=1e-6)


def test_after_the_last_crossing_it_is_black():
    row = [(2.0 - 0.6 * i, 0.0, 0.5) for i in range(7)]
    thin = torch.tensor([[0.1, 0.8, 0.5]]).expand(7, 3)
    scene = boxes(*row, halves=thin, floor=False, lights=torch.tensor([[0.0, 0.0, -50.0]]), elevation=5.0)
    endless, limited = look(dataclasses.replace(scene, max_crossings=0), 32.0, 28.0), look(scene, 32.0, 28.0)
    rest = 1 - FACE_ALPHA
    both = [FACE_ALPHA * FACE_COLOR * rest**i for i in range(14)]
    assert endless.tolist() == pytest.approx([0.0, sum(both[0::2]), sum(both[1::2])], rel=1e-4)
    assert limited.tolist() == pytest.approx([0.0, sum(both[0:10:2]), sum(both[1:10:2])], rel=1e-4)


def test_shadows_of_edges_lie_on_the_floor():
    light = torch.tensor([[0.4975, -0.4975, 12.0]])  # right above an upright edge
    scene = boxes((0.0, 0.0, 1.5), lights=light, size=256)
    free = boxes(lights=light, size=256)
    with_box, without = render_linear(scene, 1), render_linear(free, 1)
    seen = torch.linalg.inv(scene.rays) @ (torch.tensor([0.4975, -0.4975, 0.0]) - scene.eye)
    x, y = int(seen[0] / seen[2]), int(seen[1] / seen[2])
    assert float(with_box[y, x].sum()) == 0 < float(without[y, x].sum())


@pytest.mark.parametrize(
    "place", [(5.9, 0.0, 2.0), (30.0, 0.0, 0.5), (0.0, 50.0, 0.5), (-60.0, 0.0, 0.5), (0.0, 0.0, -3.0)]
)
def test_boxes_around_behind_beside_and_under(place):
    scene = boxes(place, size=48)
    picture = render_linear(scene, 2)
    assert torch.isfinite(picture).all() and float(picture.min()) >= 0
    assert torch.allclose(render_linear(scene, 1), render_dense(scene, 1), atol=1e-6)
    index, depth = nearest_boxes(scene)
    assert bool((index == 0).any()) == (place[0] in (5.9, -60.0))
    assert float(depth.min()) > scene.near


@pytest.mark.parametrize("lens", [0.2, 8.0])
def test_wide_and_long_lenses(lens):
    scene = boxes((0.0, 0.0, 0.5), (1.0, 1.0, 0.5))
    rays = scene.rays.clone()
    rays[:, :2] /= lens
    rays[:, 2] = torch.tensor([-math.cos(math.radians(20)), 0, -math.sin(math.radians(20))]) - rays[:, :2].sum(1) * 32
    scene = dataclasses.replace(scene, rays=rays)
    assert torch.isfinite(render_linear(scene, 2)).all()


def test_fifty_boxes_and_none():
    places = [(-4 + (i % 10) * 0.7, -2 + (i // 10) * 0.9, 0.3) for i in range(50)]
    scene = boxes(*places, halves=torch.full((50, 3), 0.3), size=32)
    assert torch.allclose(render_linear(scene, 1), render_dense(scene, 1), atol=1e-6)
    assert mark(boxes()).float().mean() < 0.5 and torch.isfinite(display(render_linear(boxes()))).all()


def test_progress_counts_tiles_and_may_stop():
    seen = []
    render_linear(boxes((0.0, 0.0, 0.5), size=200), 1, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4) and len(seen) == 4

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_linear(boxes(size=200), 1, stop)


@pytest.mark.parametrize(
    "changes",
    [dict(halves=torch.zeros(1, 3)), dict(lights=torch.zeros(0, 3)), dict(width=0), dict(eye=torch.zeros(2)),
     dict(centers=torch.full((1, 3), math.nan))],
)  # fmt: skip
def test_unusable_scenes(changes):
    with pytest.raises(InputError):
        boxes((0.0, 0.0, 0.5), **changes)


def test_lights_and_edge_colors():
    lights = reference_lights(1)
    assert lights[0].tolist() == pytest.approx([12.949972, -3.454445, 8.738709], abs=1e-5)
    assert torch.equal(even_lights(), even_lights()) and bool((even_lights()[:, 2] >= 8).all())
    assert edge_color(torch.tensor([[100.0, -100.0, 0.0]]))[0].tolist() == pytest.approx([0.1, 0, 0])
    assert edge_color(torch.tensor([[-100.0, -100.0, 0.0]]))[0].tolist() == [0, 0, 0]
    assert float(edge_color(torch.tensor([[0.0, 0.0, 1000.0]])).max()) == pytest.approx(1.0)


def test_agx_is_smooth_and_black_stays_black():
    gray = torch.linspace(0, 0.3, 400)[:, None].expand(-1, 3)
    shown = agx(gray)
    assert shown[0].tolist() == [0, 0, 0] and bool((shown.diff(dim=0) > 0).all())
    assert float((shown[:, 0] - shown[:, 2]).abs().max()) < 2e-3
    assert agx(torch.tensor([[0.0020392] * 3, [0.11622] * 3]))[:, 1].tolist() == pytest.approx(
        [0.01036, 0.3686], abs=2e-3
    )
    assert all(sum(row) == pytest.approx(1, abs=1e-5) for row in coefficients()["inset"] + coefficients()["outset"])
    assert float(srgb(torch.tensor(0.5))) == pytest.approx(0.735357, abs=1e-5)
    assert display(torch.zeros(1, 3))[0].tolist() == pytest.approx([0.5 / 255] * 3)


def test_filter_offsets_are_balanced():
    around = offsets(4)
    assert around.shape == (16, 2) and float(around.abs().max()) < WIDTH / 2
    assert around.mean(0).tolist() == pytest.approx([0, 0], abs=1e-3)


def test_masks_of_polygons_and_cells():
    square = torch.tensor([[10.0, 10], [20, 10], [20, 20], [10, 20]], dtype=torch.float64)
    (mask,) = polygon_masks([square], 64, 64, margin=0.0)
    assert int(mask.sum()) == 100 and bool(mask[10:20, 10:20].all())
    assert int(polygon_masks([square.flip(0)], 64, 64, margin=1.0)[0].sum()) == 144
    empty, outside = polygon_masks([square[:2], square + 100], 64, 64)
    assert not empty.any() and not outside.any()
    assert mask_cells(mask[None], 32).sum() == 25 and mask_cells(mask[None, :, :40], 32).shape == (1, 32, 32)
    assert mask_cells(torch.zeros(0, 64, 64, dtype=torch.bool)).shape == (0, 32, 32)
    with pytest.raises(InputError, match="32"):
        mask_cells(mask[None, :20])


def test_nearest_boxes_are_the_ones_in_front():
    scene = boxes((1.0, 0.0, 0.5), (-1.0, 0.0, 0.5), (-1.0, 1.5, 0.5))
    index, depth = nearest_boxes(scene)
    assert int(index[30, 32]) == 0 and set(index.unique().tolist()) == {-1, 0, 1, 2}
    ray = scene.rays @ torch.tensor([32.5, 30.5, 1.0])
    assert float(depth[30, 32]) == pytest.approx(float((1.5 - scene.eye[0]) / ray[0]), rel=1e-4)
    assert torch.isinf(nearest_boxes(dataclasses.replace(boxes(), floor=False))[1]).all()


@pytest.mark.parametrize("inference", [True, False])
def test_threads_draw_in_the_callers_mode(inference):
    """A host runs its nodes in inference mode, which threads do not inherit."""
    with torch.inference_mode(inference):
        picture = render_linear(boxes((0.0, 0.0, 0.5), size=96), 2)
    assert picture.is_inference() is inference and bool(torch.isfinite(picture).all())


def test_threads_compute_alone_and_leave_torchs_number_of_threads():
    common = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with _lone_threads(3) as pool:
            assert list(pool.map(lambda _: torch.get_num_threads(), range(9))) == [1] * 9
            assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as other:
            assert other.submit(torch.get_num_threads).result() == 3
        scene = boxes((0.0, 0.0, 0.5), size=160)
        several = render_linear(scene, 2)
        torch.set_num_threads(1)
        assert torch.equal(render_linear(scene, 2), several)
    finally:
        torch.set_num_threads(common)
