import hashlib
import json
import sys

import pytest

from sightline.cli.main import main
from sightline.pipelines import selfcheck


@pytest.fixture
def report(capsys):
    def call():
        code = main(["selfcheck", "--json"])
        report = json.loads(capsys.readouterr().out)
        assert code == (1 if report["problems"] else 0)
        return report

    return call


def test_the_report_says_what_is_here(report):
    import torch

    found = report()
    assert found["libraries"]["torch"] == torch.__version__
    assert found["python"].split(".")[0] == str(sys.version_info[0])
    assert found["devices"][0]["kind"] == "cpu" and found["devices"][0]["threads"] >= 1
    assert found["sightline"] == selfcheck.package_version() != "unknown"
    assert {entry["name"] for entry in found["optional"]} >= {"gsplat", "av", "lpips"}


def test_the_text_has_every_part(capsys):
    main(["selfcheck"])
    text = capsys.readouterr().out
    for part in ("sightline", "devices", "ComfyUI", "accelerators", "embedded weights", "optional libraries"):
        assert part in text


def test_accelerators_are_listed_with_their_verdicts(report, monkeypatch, capsys):
    from sightline.kernels import backends

    monkeypatch.setattr(backends, "KNOWN", {})
    monkeypatch.setattr(backends, "_verdicts", {})
    for name, error in (("good", 1e-6), ("bad", 1.0)):
        backends.register(backends.Accelerator(name, "sums", "torch", lambda device, error=error: error))
    backends.register(backends.Accelerator("absent", "sums", "no_such_library", "x:y", install="pip install absent"))
    verdicts = {entry["name"]: entry["verdict"] for entry in report()["accelerators"]}
    assert verdicts == {"good": "agreed", "bad": "disagreed", "absent": "not found"}
    main(["selfcheck"])
    text = capsys.readouterr().out
    assert (
        "good (sums): agreed" in text
        and "worst error 1.0e+00" in text
        and "absent (sums): not found (pip install absent)" in text
    )


def make_host(folder, version):
    folder.mkdir(parents=True)
    for name in ("main.py", "folder_paths.py"):
        (folder / name).write_text("raise SystemExit('the self check must not run this')\n")
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return folder


def test_comfyui_is_found_without_being_imported(report, tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(make_host(tmp_path / "host", "0.33.0")))
    host = report()["host"]
    assert (host["found"], host["version"], host["path"]) == (True, "0.33.0", str((tmp_path / "host").resolve()))


def test_a_named_comfyui_that_is_none_is_a_problem(report, tmp_path, monkeypatch):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    found = report()
    assert not found["host"]["found"] and any("COMFYUI_PATH" in problem for problem in found["problems"])


def test_no_comfyui_is_no_problem(report, tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    found = report()
    assert found["host"] == {"found": False} and not any("COMFYUI" in problem for problem in found["problems"])


def known(path, sha256):
    from sightline.models.weights import Weights, WeightsFile

    return Weights(name="w", title="W", source="here", licence="Apache-2.0",
                   files=(WeightsFile("w", sha256=sha256),), parameters=1, domain="all", path=path)  # fmt: skip


@pytest.mark.parametrize("state", ["ok", "missing", "changed"])
def test_embedded_weights_are_compared_with_their_checksum(report, tmp_path, monkeypatch, state):
    path = tmp_path / "w.safetensors"
    if state != "missing":
        path.write_bytes(b"numbers")
    digest = hashlib.sha256(b"numbers" if state == "ok" else b"others").hexdigest()
    monkeypatch.setattr("sightline.models.sparsegen.weights.ALL", (known(path, digest), known(None, None)))
    monkeypatch.setattr(selfcheck, "FAMILIES", {})
    found = report()
    assert len(found["weights"]) == 1 and found["weights"][0]["state"].startswith(state)
    assert any("weights w are" in problem for problem in found["problems"]) == (state != "ok")


def test_embedded_families_are_compared_with_their_checksum(report, tmp_path, monkeypatch):
    found = {entry["name"]: entry["state"] for entry in report()["weights"]}
    assert found == {"sparsegen-tiny": "ok", "pixal3d-tiny": "ok", "genrecon-tiny": "ok"}
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.safetensors").write_bytes(b"numbers")
    monkeypatch.setattr(selfcheck, "FAMILIES", {str(tmp_path / "some"): "0" * 64, str(tmp_path / "none"): "0" * 64})
    *_, changed, missing = report()["weights"]
    assert changed["state"].startswith("changed") and changed["bytes"] == 7 and missing["state"] == "missing"


def test_one_broken_part_hides_no_other(report, monkeypatch):
    def broken():
        raise RuntimeError("driver is gone\nlong story")

    monkeypatch.setattr(selfcheck, "devices", broken)
    found = report()
    assert found["devices"] == [] and found["weights"]
    assert "devices could not be looked at (RuntimeError: driver is gone)." in found["problems"]


def test_missing_libraries_are_listed(report, monkeypatch):
    monkeypatch.setattr(selfcheck, "REQUIRED", ("torch", "no_such_library"))
    found = report()
    assert found["libraries"]["no_such_library"] is None
    assert "no_such_library is not installed." in found["problems"]
