import pytest
import torch
from repair_meshes import ball

from sightline.cli.main import main
from sightline.scene.gltf import Part, encode_glb
from sightline.scene.mesh_read import read_mesh


@pytest.fixture
def torn(tmp_path):
    vertices, faces = ball(8)
    path = tmp_path / "torn.glb"
    colors = torch.from_numpy(vertices).float() + 0.5
    path.write_bytes(encode_glb([Part(torch.from_numpy(vertices).float(), torch.from_numpy(faces[2:]), colors=colors)]))
    return path


def test_a_glb_is_finished(torn, tmp_path, capsys):
    out = tmp_path / "out.glb"
    assert main(["finish", str(torn), "-o", str(out), "--holes", "10", "--faces", "400"]) == 0
    said = capsys.readouterr().out
    for line in ("border edges", "faces added over holes", "decimated from", f"{out}: "):
        assert line in said
    part = read_mesh(out)
    assert 300 < len(part.faces) <= 400 and part.colors is not None
    assert main(["finish", str(out), "-o", str(tmp_path / "out.ply")]) == 0
    assert len(read_mesh(tmp_path / "out.ply").faces) == len(part.faces)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-o", "out.obj"], "does not end in"),
        (["-o", "out.glb", "--holes", "-1"], "`holes`"),
        (["-o", "out.glb", "--remesh", "4"], "`remesh`"),
    ],
)
def test_bad_options(torn, tmp_path, capsys, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert main(["finish", str(torn), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["torn.glb"]


def test_no_mesh(tmp_path, capsys):
    path = tmp_path / "no.glb"
    path.write_bytes(b"no mesh")
    assert main(["finish", str(path), "-o", str(tmp_path / "out.glb")]) == 2
    assert not (tmp_path / "out.glb").exists()
