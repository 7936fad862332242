"""The harness itself: discovery over folders and the ledger's judgement."""

import json
from pathlib import Path

import pytest
import torch
from parity_harness import Fixture, Ledger, discover, golden_dirs
from safetensors.torch import save_file


def write(folder: Path, name: str, value: float, **meta) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.full((2,), value)}, folder / name, metadata={k: json.dumps(v) for k, v in meta.items()})
    return folder / name


def test_discovers_by_prefix_over_folders_and_takes_copies_once(tmp_path):
    a, b = tmp_path / "a" / "golden", tmp_path / "b" / "golden"
    write(a / "toy", "raster_64.safetensors", 1.0)
    write(a / "toy", "raster_grad.safetensors", 2.0)
    write(b / "toy", "raster_64.safetensors", 1.0)
    write(b / "toy", "raster_big.safetensors", 3.0)
    names = [f.id for f in discover([a, b], "toy", "raster", ("raster_grad",))]
    assert names == ["toy/raster_64.safetensors", "toy/raster_big.safetensors"]


def test_same_name_with_other_content_is_told_apart_by_folder(tmp_path):
    a, b = tmp_path / "a" / "golden", tmp_path / "b" / "golden"
    write(a / "toy", "ema.safetensors", 1.0)
    write(b / "toy", "ema.safetensors", 2.0)
    names = [f.id for f in discover([a, b], "toy", "ema")]
    assert names == ["toy/ema.safetensors@a-golden", "toy/ema.safetensors@b-golden"]


def test_a_system_folder_itself_json_and_folder_kinds(tmp_path):
    room = tmp_path / "toy"
    (room / "ckpt_tiny").mkdir(parents=True)
    (room / "ckpt_tiny" / "model.pth").write_bytes(b"x")
    (room / "view.json").write_text("[1]")
    assert [f.name for f in discover([room], "toy", "ckpt", (), "/")] == ["ckpt_tiny"]
    assert discover([room], "toy", "view", (), ".json")[0].json() == [1]
    assert discover([room], "toy", "missing") == []


def test_meta_merges_json_beside_and_metadata(tmp_path):
    path = write(tmp_path, "k.safetensors", 1.0, meta={"size": 64}, config={"dim": 3})
    (tmp_path / "k.json").write_text('{"seed": 1}')
    fixture = Fixture("toy", path, "toy/k")
    assert fixture.meta == {"seed": 1, "size": 64, "config": {"dim": 3}}
    assert fixture.tensors()["x"].tolist() == [1.0, 1.0]


def test_missing_golden_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        golden_dirs([str(tmp_path / "nowhere")])


def test_ledger_accepts_and_rejects():
    book = Ledger()
    page = book.page("toy/a", "toy")
    page.close("c", torch.tensor([1.0, 2.0]), [1.0, 2.0 + 5e-6], atol=1e-5)
    one_off = torch.zeros(1000).index_fill(0, torch.tensor([3]), 1.0)
    page.close("c", torch.zeros(1000), one_off, atol=1e-5, fraction=0.999)
    with pytest.raises(AssertionError, match="1 of 1000 elements off"):
        page.close("bad", torch.zeros(1000), one_off, atol=1e-5, fraction=0.9995)
    page.close("c", [2.0], [2.1], of_max=0.1)
    page.exact("keys", {"a": [1]}, {"a": [1]})
    for actual, expected in (([1.0], [1.1]), ([float("nan")], [1.0]), ([1.0], [float("nan")])):
        with pytest.raises(AssertionError):
            page.close("bad", actual, expected, atol=1e-5)
    with pytest.raises(AssertionError, match="shape"):
        page.close("bad", [1.0], [1.0, 1.0], atol=1e-5)
    with pytest.raises(AssertionError):
        page.exact("bad", torch.tensor([1]), torch.tensor([2]))
    assert book.entries["toy", "c", "1e-05"].used == pytest.approx(0.5, abs=0.1)
    assert "| keys | 1 | 0 | exact | exact |" in book.markdown()
