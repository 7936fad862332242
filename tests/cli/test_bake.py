"""The command `bake`, from files to files."""

import io
import json

import numpy as np
import pytest
import torch
from gltf_validation import check_glb
from PIL import Image

from sightline.cli.main import main
from sightline.scene.gltf import Part, encode_glb


@pytest.fixture
def ball(tmp_path):
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    vertices = torch.tensor(mesh.vertices).float()
    colors = torch.cat([vertices + 0.5, torch.ones(len(vertices), 1)], 1)
    path = tmp_path / "ball.glb"
    path.write_bytes(encode_glb([Part(vertices, torch.tensor(mesh.faces), colors=colors)]))
    return path


def test_vertex_colors_become_a_texture(ball, tmp_path, capsys):
    out, picture = tmp_path / "out.glb", tmp_path / "out.png"
    options = ["--size", "128", "--unwrap", "box", "--license", "CC0-1.0", "--render", str(picture)]
    assert main(["bake", str(ball), "-o", str(out), *options]) == 0
    assert "1,280 faces, 128 px, OPAQUE" in capsys.readouterr().out
    data = out.read_bytes()
    tree = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert tree["asset"]["extras"] == {"license": "CC0-1.0"} and len(tree["images"]) == 3
    shown = np.asarray(Image.open(picture))
    assert shown.shape == (384, 4 * 384, 3) and shown.std() > 20
    check_glb(data)


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".usdz"])
def test_other_formats(ball, tmp_path, suffix):
    out = tmp_path / f"out{suffix}"
    assert main(["bake", str(ball), "-o", str(out), "--size", "64", "--unwrap", "box", "--no-normal-map"]) == 0
    names = {".obj": {"out.obj", "out.mtl", "out.png"}}.get(suffix, {"out" + suffix})
    assert {p.name for p in tmp_path.glob("out*")} == names


def test_voxels(ball, tmp_path):
    x, y, z = np.mgrid[0:16, 0:16, 0:16].reshape(3, -1)
    near = np.abs(np.sqrt(((np.stack([x, y, z], 1) + 0.5) / 16 - 0.5) ** 2 @ np.ones(3)) - 0.4) < 0.12
    coord = np.stack([x, y, z], 1)[near].astype(np.uint16)
    color = np.tile(np.array([[200, 100, 50]], np.uint8), (len(coord), 1))
    stream = io.BytesIO()
    np.savez(stream, coord=coord, base_color=color)
    (tmp_path / "v.npz").write_bytes(stream.getvalue())
    out = tmp_path / "out.ply"
    assert main(["bake", str(ball), "-o", str(out), "--size", "64", "--unwrap", "box",
                 "--voxels", str(tmp_path / "v.npz")]) == 0  # fmt: skip
    import trimesh

    assert (trimesh.load(out).visual.vertex_colors[:, :3] == [200, 100, 50]).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-o", "out.fbx"], "does not end in .glb"),
        (["-o", "out.glb", "--size", "40000"], "40000 texels"),
        (["-o", "out.glb", "--render", "x.gif"], ".png or .jpg"),
        (["-o", "ball.glb"], "exists"),
        (["-o", "out.glb", "--reference", "none.ply"], "does not exist"),
    ],
)
def test_bad_input_leaves_nothing(ball, tmp_path, capsys, monkeypatch, options, text):
    monkeypatch.chdir(tmp_path)
    assert main(["bake", str(ball), "--unwrap", "box", *options]) == 2
    assert text in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"ball.glb"}


@pytest.mark.parametrize(("name", "case"), [("unwrap", dict(side=6)), ("bake", dict(side=6, resolution=24))])
def test_our_contender_of_the_bench_runs(name, case):
    pytest.importorskip("xatlas", reason="xatlas is not installed")
    from sightline.cli import bench

    op = bench.operations()[name]
    found = op.contenders[0].prepare({"texture": 64, "padding": 2, "device": "cpu", **case})()
    assert all(tensor.numel() and tensor.isfinite().all() for tensor in found.values())
