"""The installer's parts: steps that are done once, the lock, what is said when something fails, the archive's paths."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightline.cli import headless

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def installer(tmp_path, monkeypatch):
    """The installer's modules, working in a folder of their own."""
    monkeypatch.syspath_prepend(str(ROOT / "_install"))
    for name in ("running", "environment", "comfyui"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import comfyui
    import environment
    import running

    room = tmp_path / "room"
    room.mkdir()
    for module in (running, environment, comfyui):
        monkeypatch.setattr(module, "ROOM", room)
    monkeypatch.setattr(environment, "VENV", tmp_path / "venv")
    yield SimpleNamespace(running=running, environment=environment, comfyui=comfyui, room=room)
    for name in ("running", "environment", "comfyui"):
        sys.modules.pop(name, None)


def test_a_step_is_done_once_and_again_when_its_input_changes(installer, tmp_path):
    done = []

    def fail():
        raise installer.running.Failure("no")

    path = tmp_path / "steps.json"
    steps = installer.running.Steps(path)
    steps.do("a", "1", lambda: done.append("a1"))
    with pytest.raises(installer.running.Failure):
        steps.do("b", "1", fail)
    again = installer.running.Steps(path)  # a second run, after the first was interrupted in b
    again.do("a", "1", lambda: done.append("never"))
    again.do("b", "1", lambda: done.append("b1"))
    again.do("a", "2", lambda: done.append("a2"))
    assert done == ["a1", "b1", "a2"]
    path.write_text("{ half a file")
    assert installer.running.Steps(path).done == {}


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        (
            "WARNING: Temporary failure in name resolution\nERROR: No matching distribution found for torch",
            "the network cannot be reached",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", "not to be had for this Python"),
        ("[Errno 13] Permission denied: '/x'", "cannot be written"),
        ("something nobody foresaw", "see the log"),
    ],
)
def test_a_failed_command_is_one_sentence_with_its_cause(installer, output, sentence):
    with pytest.raises(installer.running.Failure, match=sentence) as failure:
        installer.running.run("installing x", [sys.executable, "-c", f"import sys; sys.exit({output!r})"])
    assert output.splitlines()[-1] in (installer.room / "install.log").read_text()
    assert "\n" not in str(failure.value) and str(failure.value).startswith("installing x failed")


def test_a_command_that_hangs_is_ended(installer):
    started = time.monotonic()
    with pytest.raises(installer.running.Failure, match="took longer than 0 seconds"):
        installer.running.run("waiting", [sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.3)
    assert time.monotonic() - started < 30


def test_only_one_holds_the_lock(installer):
    with installer.running.alone():
        with open(installer.room / "lock", "a+b") as other:
            assert not installer.running.try_lock(other)
    with open(installer.room / "lock", "a+b") as other:
        assert installer.running.try_lock(other)


def tree(tmp_path, requirements: str) -> headless.Tree:
    (tmp_path / "requirements.txt").write_text(requirements)
    return headless.Tree(tmp_path, (0, 33, 0), "here")


def test_what_requires_torch_is_kept_apart(installer, tmp_path):
    text = "frontend==1.2\ntorch\ntorchsde\ntorchvision\nkornia>=0.7.1\ncomfy-kitchen==0.2.31\n\n# x\nnumpy>=1\n"
    beside, others = installer.environment.split_requirements(tree(tmp_path, text))
    assert others == ["frontend==1.2", "numpy>=1"]
    assert "comfy-kitchen==0.2.31" in beside and "kornia==0.9.0" in beside and "torch" not in beside
    assert {"torch", "numpy", "scipy", "pytest"} <= set(installer.environment.needs(tree(tmp_path, text), tests=True))


def test_a_python_that_lacks_something_is_not_taken(installer, tmp_path):
    lacking = tree(tmp_path, "a-package-nobody-has==1.0\n")
    assert not installer.environment.current_suits(lacking, tests=False)


@pytest.mark.parametrize(
    ("platform", "nvidia", "answers", "named", "expected"),
    [
        ("linux", False, True, None, "cpu"),
        ("linux", False, False, None, None),
        ("linux", True, True, None, None),
        ("win32", False, True, None, None),
        ("darwin", False, True, None, None),
        ("linux", True, True, "https://x/rocm", "https://x/rocm"),
    ],
)
def test_torch_comes_from_the_right_index(installer, monkeypatch, platform, nvidia, answers, named, expected):
    environment = installer.environment

    def urlopen(request, timeout):
        if not answers:
            raise OSError("no route")
        return io.BytesIO()

    monkeypatch.setattr(environment.sys, "platform", platform)
    monkeypatch.setattr(environment.shutil, "which", lambda name: "x" if nvidia else None)
    monkeypatch.setattr(environment.urllib.request, "urlopen", urlopen)
    monkeypatch.delenv("SIGHTLINE_TORCH_INDEX", raising=False)
    if named:
        monkeypatch.setenv("SIGHTLINE_TORCH_INDEX", named)
    index = environment.TORCH_CPU_INDEX if expected == "cpu" else expected
    assert environment.torch_source() == (["--index-url", index] if index else [])


def test_a_full_disk_is_noticed_before_anything_is_made(installer, monkeypatch):
    monkeypatch.setattr(installer.environment.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    monkeypatch.setattr(installer.environment.shutil, "which", lambda _: None)
    with pytest.raises(installer.running.Failure, match="about 4 GB of disk space; 1.0 GB are free"):
        installer.environment.make_venv()
    monkeypatch.setattr(installer.environment.shutil, "which", lambda _: "nvidia-smi")
    with pytest.raises(installer.running.Failure, match="about 9 GB"):
        installer.environment.make_venv()
    assert not installer.environment.VENV.exists()


def archive(members: dict) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def unpack(installer, tmp_path, monkeypatch):
    """Unpack an archive as if pip had downloaded it."""

    def unpack(data: bytes, digest: str | None = None) -> Path:
        monkeypatch.setattr(installer.comfyui, "make_venv", lambda: None)
        monkeypatch.setattr(installer.comfyui, "run", lambda *_: (tmp_path / "x.tar.gz").write_bytes(data))
        monkeypatch.setattr(installer.comfyui, "COMFYUI_SDIST_SHA256", digest or hashlib.sha256(data).hexdigest())
        installer.comfyui.unpack_comfyui(tmp_path / "ComfyUI", tmp_path)
        return tmp_path / "ComfyUI"

    return unpack


def test_only_the_comfyui_tree_is_taken_out_of_the_archive(unpack):
    place = unpack(
        archive({
            "p-1/setup.py": b"raise SystemExit",
            "p-1/vendor/ComfyUI/main.py": b"main",
            "p-1/vendor/ComfyUI/comfy/a.py": b"a",
            "p-1/vendor/ComfyUI/link": None,
            "p-1/vendor/Other/b.py": b"b",
        })
    )  # fmt: skip
    assert sorted(p.relative_to(place).as_posix() for p in place.rglob("*")) == ["comfy", "comfy/a.py", "main.py"]


def test_a_path_that_leaves_the_folder_is_refused(unpack, installer, tmp_path):
    with pytest.raises(installer.running.Failure, match="leaves its folder"):
        unpack(archive({"p-1/vendor/ComfyUI/../../../evil.py": b"x"}))
    assert not list(tmp_path.rglob("evil.py"))


def test_another_archive_is_refused(unpack, installer, tmp_path):
    with pytest.raises(installer.running.Failure, match="not the archive we know"):
        unpack(archive({"p-1/vendor/ComfyUI/main.py": b"x"}), digest="0" * 64)
    assert not (tmp_path / "ComfyUI").exists()


def test_an_unreachable_git_host_leaves_nothing(installer, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(installer.comfyui, "COMFYUI_GIT", (tmp_path / "no-repository").as_uri())
    assert installer.comfyui.clone_comfyui(tmp_path / "ComfyUI") is False
    assert not (tmp_path / "ComfyUI").exists()
    assert "package index" in capsys.readouterr().out


def test_clones_the_tag_where_git_reaches_it(installer, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    (source / "main.py").write_text("v1")

    def git(*arguments):
        who = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *arguments], cwd=source, check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", installer.comfyui.COMFYUI_TAG)
    (source / "main.py").write_text("v2")
    git("commit", "-qam", "two")
    monkeypatch.setattr(installer.comfyui, "COMFYUI_GIT", source.as_uri())
    assert installer.comfyui.clone_comfyui(tmp_path / "ComfyUI")
    assert (tmp_path / "ComfyUI" / "main.py").read_text() == "v1"


def test_an_unknown_command_explains_itself():
    answer = subprocess.run([sys.executable, ROOT / "install.py", "dmeo"], capture_output=True, text=True)
    assert answer.returncode == 2 and "demo" in answer.stdout


def test_a_wrong_comfyui_path_is_one_sentence():
    env = {**os.environ, "COMFYUI_PATH": str(ROOT / "nowhere")}
    answer = subprocess.run([sys.executable, ROOT / "install.py", "demo"], capture_output=True, text=True, env=env)
    assert answer.returncode == 1 and "no ComfyUI" in answer.stderr and "Traceback" not in answer.stderr
