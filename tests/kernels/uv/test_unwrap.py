"""Unwrapping: what every result must be, workers that fail, hang or are stopped."""

import subprocess
import time

import pytest
import torch

from sightline.kernels.raster import rasterize
from sightline.kernels.uv import pool
from sightline.kernels.uv.measure import uv_quality
from sightline.kernels.uv.unwrap import check_texture_size, unwrap
from sightline.scene.errors import InputError

pytest.importorskip("xatlas", reason="xatlas is not installed")


def bumpy_ball(subdivisions: int = 3):
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = torch.tensor(mesh.vertices).float()
    bumps = 1 + 0.2 * torch.sin(5 * vertices).prod(1, keepdim=True)
    return vertices * bumps, torch.tensor(mesh.faces)


def soup():
    vertices, faces = bumpy_ball(2)
    return vertices[faces].reshape(-1, 3), torch.arange(3 * len(faces)).reshape(-1, 3)


def sheet_folded():
    """A strip that turns back over itself four times: every side of a box sees layers behind each other."""
    u, v = torch.meshgrid(torch.linspace(0, 4, 49), torch.linspace(0, 1, 7), indexing="ij")
    place = torch.stack([torch.sin(u * 3.1416) * 0.5 + 0.02 * u, v, 0.05 * u], -1).reshape(-1, 3)
    i = torch.arange(48 * 7).reshape(48, 7)[:, :6].reshape(-1)
    return place, torch.cat([torch.stack([i, i + 7, i + 1], 1), torch.stack([i + 1, i + 7, i + 8], 1)])


def check(vertices, faces, done, resolution, padding):
    assert torch.equal(vertices[done.source][done.faces], vertices[faces]), "every corner stays where it was"
    assert 0 <= float(done.uv.min()) and float(done.uv.max()) <= 1
    assert len(done.faces) == len(faces) == len(done.chart)
    found = rasterize(done.uv[done.faces] * resolution, (resolution, resolution))
    chart = torch.where(found.face >= 0, done.chart[found.face.clamp(min=0)], -1)
    for shift in range(1, int(padding) + 1):
        for axis in (0, 1):
            a, b = chart.narrow(axis, 0, resolution - shift), chart.narrow(axis, shift, resolution - shift)
            assert not ((a >= 0) & (b >= 0) & (a != b)).any(), f"charts {shift} texels apart"
    twice = rasterize(done.uv[done.faces].flip(0) * resolution, (resolution, resolution)).face
    twice = torch.where(twice >= 0, len(faces) - 1 - twice, -1)
    inside = found.weights.amin(-1) > 0.02
    assert ((twice != found.face) & inside).sum() <= 0.005 * (found.face >= 0).sum(), "charts fold over themselves"


@pytest.mark.parametrize("method", ["xatlas", "box"])
@pytest.mark.parametrize("make", [bumpy_ball, soup, sheet_folded])
def test_charts_do_not_touch_and_corners_stay(make, method):
    vertices, faces = make()
    done = unwrap(vertices, faces, 256, 3, method=method, workers=2, patch_faces=400)
    check(vertices, faces, done, 256, 3)
    assert done.boxes == 0 or method == "box"
    if make is not soup:
        # a vertex is doubled only where charts meet
        first = done.chart[torch.arange(len(faces)).repeat_interleave(3)].view(-1, 3)
        pairs = torch.stack([faces.flatten(), first.flatten()], 1).unique(dim=0)
        assert len(done.source) <= 1.1 * len(pairs)
    quality = uv_quality(vertices[done.source], done.faces, done.uv)
    assert quality.stretch < (1.1 if method == "xatlas" else 1.5) and quality.mirrored < 0.01
    assert abs(quality.fill - done.fill) < 0.02


def test_a_given_seed_of_workers_does_not_matter():
    vertices, faces = bumpy_ball()
    one, two = (unwrap(vertices, faces, 256, 2, workers=n, patch_faces=300) for n in (1, 2))
    assert torch.equal(one.uv, two.uv) and torch.equal(one.faces, two.faces)


@pytest.fixture
def processes(monkeypatch):
    """Every process that is started; at the end none may be left."""
    started = []
    start = subprocess.Popen

    def remember(*args, **options):
        started.append(start(*args, **options))
        return started[-1]

    monkeypatch.setattr(pool.subprocess, "Popen", remember)
    yield started
    assert started and all(process.poll() is not None for process in started)


@pytest.mark.parametrize("text", ["import time; time.sleep(60)", "raise SystemExit", "import sys; sys.stdin.read(9)"])
def test_workers_that_hang_or_die_leave_box_charts(tmp_path, monkeypatch, processes, text):
    fake = tmp_path / "worker.py"
    fake.write_text(text)
    monkeypatch.setattr(pool, "WORKER", fake)
    monkeypatch.setattr(pool, "START_TIME", 0.2)
    vertices, faces = bumpy_ball(2)
    done = unwrap(vertices, faces, 128, 2, workers=2, time_limit=0.1)
    assert done.boxes > 0
    check(vertices, faces, done, 128, 2)


def test_stopping_ends_all_workers_at_once(processes):
    vertices, faces = bumpy_ball(5)
    stopped = []

    def stop(done, total):
        if done >= 30 and len(processes) == 2:
            stopped.append(time.monotonic())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unwrap(vertices, faces, 512, 2, workers=2, progress=stop, patch_faces=5000)
    assert time.monotonic() - stopped[0] < 2


def test_the_surface_is_named_when_it_is_broken():
    vertices, faces = bumpy_ball(1)
    broken = vertices.clone()
    broken[3] = torch.nan
    for bad, text in (
        ((vertices, faces[:0]), "no faces"),
        ((vertices, faces + 1), "name vertices 1 to 42, but the mesh has 42"),
        ((broken, faces), "1 vertices of the mesh are not finite"),
        ((vertices[:, :2], faces), r"\[V, 3\]"),
    ):
        with pytest.raises(InputError, match=text):
            unwrap(*bad)
    with pytest.raises(InputError, match="40000 texels was asked for"):
        unwrap(vertices, faces, 40000)
    with pytest.raises(InputError, match="padding of 99"):
        check_texture_size(256, 99)
    apart, corners = soup()
    apart = apart + 3 * torch.arange(len(corners)).repeat_interleave(3)[:, None]
    with pytest.raises(InputError, match="320 charts with 8 texels between them do not fit"):
        unwrap(apart, corners, 64, 8, method="box")
