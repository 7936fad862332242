import pytest

from sightline.cli import download as command
from sightline.models import download
from sightline.models.weights import Weights, WeightsFile
from sightline.pipelines import published


@pytest.fixture
def asked(monkeypatch):
    """Replaces the registry by two small sets and the network by a list of the addresses asked for."""
    files = [WeightsFile("a.json", repo="o/r"), WeightsFile("a.safetensors", 4_000_000_000, "ab", repo="o/r")]
    model = Weights("model", "A model", "the hub", "MIT", tuple(files), "tests", needs=("eyes",))
    eyes = Weights("eyes", "Eyes", "the hub", "Research only", (WeightsFile("e.bin", 3, repo="o/e"),), "tests")
    monkeypatch.setattr(published, "SETS", (model, eyes))
    monkeypatch.setattr(command, "comfyui_models", lambda: [])
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    urls = []

    def fetch(url, target, size, sha256, progress):
        urls.append(url)
        target.write_bytes(b"abc")
        if progress:
            progress(3, 3)
        return target

    monkeypatch.setattr(download, "fetch", fetch)
    return urls


def test_without_consent_nothing_is_fetched(run, asked, tmp_path):
    code, out, err = run("download", "model", "--to", tmp_path / "w")
    assert code == 2 and out == "" and asked == []
    for expected in ("licence: MIT", "licence: Research only", "4.00 GB  o/r/a.safetensors", "?  o/r/a.json"):
        assert expected in err
    assert err.splitlines()[-1] == (
        f"4.00 GB in 3 files would go to {tmp_path / 'w'}; "
        "read the licences above and add --accept-licence to fetch them."
    )
    assert not (tmp_path / "w").exists()


def test_with_consent(run, asked, tmp_path):
    code, out, err = run("download", "model", "--to", tmp_path, "--accept-licence", "--progress")
    assert code == 0 and "3 files" in out and "3 of them fetched now" in out
    assert asked == [f"https://huggingface.co/o/{n}" for n in (
        "r/resolve/main/a.json", "r/resolve/main/a.safetensors", "e/resolve/main/e.bin")]  # fmt: skip
    assert (tmp_path / "o" / "r" / "a.json").read_bytes() == b"abc"
    assert "3/3 e.bin" in err


def test_alone(run, asked, tmp_path):
    assert run("download", "model", "--to", tmp_path, "--accept-licence", "--alone")[0] == 0
    assert len(asked) == 2


def test_what_is_there_needs_no_consent(run, asked, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "o" / "e").mkdir(parents=True)
    (tmp_path / "o" / "e" / "e.bin").write_bytes(b"abc")
    code, out, err = run("download", "eyes", "--to", tmp_path)
    assert (code, err) == (0, "") and "0 of them fetched now" in out and asked == []


def test_sets_share_files(run, asked, tmp_path, monkeypatch):
    other = Weights("other", "Other", "the hub", "MIT", (WeightsFile("deep/e.bin.pt", 3, repo="o/f"),), "tests")
    same = Weights("same", "Same", "the hub", "MIT", (WeightsFile("e.bin.pt", 3, repo="o/e"),), "tests")
    monkeypatch.setattr(published, "SETS", (other, same))
    assert run("download", "same", "--to", tmp_path, "--accept-licence")[0] == 0
    code, out, err = run("download", "other", "--to", tmp_path)
    assert code == 0 and "0 of them fetched now" in out and "found: " in err and len(asked) == 1
    assert (tmp_path / "o" / "f" / "deep" / "e.bin.pt").read_bytes() == b"abc"


def test_the_list(run, asked, tmp_path):
    code, out, _ = run("download", "list", "--to", tmp_path)
    assert code == 0
    assert "model: not here, 4.00 GB, MIT" in out and "needs eyes" in out and f"folder: {tmp_path}" in out
    (tmp_path / "o" / "e").mkdir(parents=True)
    (tmp_path / "o" / "e" / "e.bin").write_bytes(b"abc")
    assert "eyes: here" in run("download", "list", "--to", tmp_path)[1]
    assert asked == []


def test_the_default_folder(run, asked, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_WEIGHTS", str(tmp_path / "mine"))
    assert f"folder: {tmp_path / 'mine'}" in run("download", "list")[1]
    monkeypatch.delenv("SIGHTLINE_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(tmp_path / "sightline" / "weights") in run("download", "list")[1]


def test_what_the_user_brings_is_named(run, asked, monkeypatch, tmp_path):
    base = Weights("base", "The base model", "a gated hub", "Non-Commercial", (), "tests")
    lora = Weights(
        "lora", "A LoRA", "the hub", "MIT", (WeightsFile("l.safetensors", repo="o/l"),), "t", needs=("base",)
    )
    monkeypatch.setattr(published, "SETS", (lora,))
    monkeypatch.setattr(published, "BROUGHT", (base,))
    code, out, err = run("download", "lora", "--to", tmp_path, "--accept-licence")
    assert code == 0 and asked == ["https://huggingface.co/o/l/resolve/main/l.safetensors"]
    assert "needs, and you bring: The base model, Non-Commercial, a gated hub" in err


def test_the_systems_that_are_known():
    assert {"pixal3d", "trellis2", "seethrough3d"} <= {one.name for one in published.SETS}
    known = {one.name for one in (*published.SETS, *published.BROUGHT)}
    assert all(set(one.needs) <= known for one in published.SETS)


def test_unknown_names(run, asked, tmp_path):
    code, _, err = run("download", "gold", "--to", tmp_path)
    assert code == 2 and "'gold'; there are model, eyes" in err
