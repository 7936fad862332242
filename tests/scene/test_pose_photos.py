"""Photos without poses: what is said without pycolmap, and, where it is installed, poses that are right."""

import json
import sys

import numpy as np
import pytest
from PIL import Image
from scene_captures import look

from sightline.cli import main
from sightline.scene.captures import NoPoses, find_layout, read_capture
from sightline.scene.errors import InputError, MissingDependency
from sightline.scene.pose_photos import plain_photos, pose_photos

SIZE, FOCAL = (240, 180), 200.0


def noise(u, v, wall):
    """Brightness of a wall at places in meters: random blobs of several sizes."""
    value = np.zeros_like(u)
    for octave, cell in enumerate((0.4, 0.2, 0.1, 0.05)):
        draw = np.random.default_rng([wall, octave])
        table = draw.uniform(-1, 1, (256, 256))
        a, b = u / cell, v / cell
        i, j = np.floor(a).astype(int), np.floor(b).astype(int)
        s, t = (3 * f**2 - 2 * f**3 for f in (a - i, b - j))
        corner = [table[(i + di) % 256, (j + dj) % 256] for di in (0, 1) for dj in (0, 1)]
        value += (corner[0] * (1 - t) + corner[1] * t) * (1 - s) + (corner[2] * (1 - t) + corner[3] * t) * s
    return value


def photo(pose):
    """A photo from within the corner of three patterned walls, at x = 2, y = 2 and z = 0."""
    width, height = SIZE
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(x - width / 2) / FOCAL, (y - height / 2) / FOCAL, np.ones_like(x)], -1) @ pose[:3, :3]
    eye = -pose[:3, :3].T @ pose[:3, 3]
    best, value = np.full(x.shape, np.inf), np.zeros(x.shape)
    for wall, (axis, place) in enumerate(((0, 2.0), (1, 2.0), (2, 0.0))):
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (place - eye[axis]) / rays[..., axis]
        hit = (t > 0) & (t < best)
        point = eye + np.where(hit, t, 0)[..., None] * rays
        u, v = (point[..., k] + 50 for k in range(3) if k != axis)
        best, value = np.where(hit, t, best), np.where(hit, noise(u, v, wall), value)
    picture = np.clip(128 + 60 * value, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([picture] * 3, -1))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos") / "images"
    folder.mkdir()
    eyes = []
    for i in range(8):
        eyes.append([-0.8 + 0.25 * i, -0.6 + 0.12 * (i % 3), 1.2 + 0.05 * i])
        photo(look(eyes[-1], [1.9, 1.7, 0.6])).save(folder / f"{i:02d}.png")
    return folder, np.array(eyes)


def test_without_pycolmap_one_sentence_names_it(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    out = tmp_path / "out"
    assert main.main(["genrecon", "--path", str(photos[0].parent), "--output_path", str(out), "--plan_only"]) == 2
    said = capsys.readouterr().err.strip()
    assert "8 photos without poses" in said and "pip install pycolmap" in said and "\n" not in said
    assert not out.exists()
    with pytest.raises(MissingDependency):
        pose_photos(photos[0], ["00.png", "01.png", "02.png"], tmp_path / "model")


def test_folders_without_poses(photos, tmp_path, capsys):
    with pytest.raises(NoPoses, match="pycolmap"):
        find_layout(photos[0].parent)
    assert (
        plain_photos(photos[0].parent)
        == plain_photos(photos[0])
        == (photos[0], sorted(f"{i:02d}.png" for i in range(8)))
    )
    (tmp_path / "empty").mkdir()
    assert plain_photos(tmp_path / "empty") is None
    words = ["genrecon", "--path", str(tmp_path / "empty"), "--output_path", str(tmp_path / "out"), "--plan_only"]
    assert main.main(words) == 2 and "holds no poses" in capsys.readouterr().err
    with pytest.raises(InputError, match="from 3 to"):
        pose_photos(photos[0], ["00.png", "01.png"], tmp_path / "model")


def test_photos_are_posed(photos, tmp_path):
    """The cameras found stand where the photos were taken, up to a turn, a shift and a scale."""
    pytest.importorskip("pycolmap", reason="pycolmap is optional; it finds poses of plain photos")
    folder, eyes = photos
    _, names = plain_photos(folder)
    assert pose_photos(folder, names, tmp_path / "out" / "colmap") == "COLMAP posed 8 of 8 photos"
    assert pose_photos(folder, names, tmp_path / "out" / "colmap").startswith("the poses in"), "posed twice"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["colmap"]
    scene = read_capture(folder.parent, "colmap", model=str(tmp_path / "out" / "colmap"), pictures=str(folder))
    assert sorted(p.name for p in scene.photos) == names and len(scene.points) > 100
    found = np.stack([p.pose[:3, 3] for p in sorted(scene.photos, key=lambda p: p.name)])
    a, b = found - found.mean(0), eyes - eyes.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    scale = (s * [1, 1, np.sign(np.linalg.det(u @ vt))]).sum() / (a**2).sum()
    assert np.abs(scale * a @ turn - b).max() < 0.05


def test_a_plan_of_plain_photos(photos, tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is optional; it finds poses of plain photos")
    out = tmp_path / "out"
    words = ["genrecon", "--path", str(photos[0].parent), "--output_path", str(out), "--plan_only"]
    words += ["--min_points_per_chunk", "20", "--skip_point_cleaning", "--num_imgs_per_scene", "8", "--align", "off"]
    assert main.main(words) == 0
    assert "COLMAP posed 8 of 8 photos" in capsys.readouterr().err
    views = json.loads((out / "cameras.json").read_text())["scene"]
    assert [view["img_path"] for view in views] == sorted(view["img_path"] for view in views) and len(views) >= 3


def test_photos_that_show_nothing_leave_nothing(tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is optional; it finds poses of plain photos")
    for i in range(3):
        Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / f"{i}.png")
    out = tmp_path / "deep" / "out"
    assert main.main(["genrecon", "--path", str(tmp_path), "--output_path", str(out), "--plan_only"]) == 2
    assert "no common poses" in capsys.readouterr().err.strip().splitlines()[-1] and not out.exists()
