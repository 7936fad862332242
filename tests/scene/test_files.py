import errno
import os
import shutil
import signal
import subprocess

import pytest

from sightline.scene.errors import InputError
from sightline.scene.files import Outputs, inside, read_bytes, writing


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_all_results_appear_together_at_the_end(tmp_path):
    with Outputs() as outputs:
        first, folder = outputs.file(tmp_path / "a.ply"), outputs.folder(tmp_path / "frames")
        first.write(b"one")
        folder.write(b"x", "0.png")
        folder.write(b"y", "1.png")
        assert not (tmp_path / "a.ply").exists() and not (tmp_path / "frames").exists()
        assert first.temporary.parent == tmp_path and first.temporary.suffix == ".ply"
    assert names(tmp_path) == ["a.ply", "frames", "frames/0.png", "frames/1.png"]
    assert (tmp_path / "a.ply").read_bytes() == b"one"


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_nothing_is_left_of_a_run_that_fails(tmp_path, error):
    (tmp_path / "old.ply").write_bytes(b"old")
    with pytest.raises(type(error)):
        with Outputs(overwrite=True) as outputs:
            outputs.file(tmp_path / "old.ply").write(b"new")
            outputs.file(tmp_path / "b.gif").write(b"new")
            outputs.folder(tmp_path / "frames").write(b"new", "0.png")
            raise error
    assert names(tmp_path) == ["old.ply"] and (tmp_path / "old.ply").read_bytes() == b"old"


def test_existing_files_are_refused_before_the_work(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"old")
    (tmp_path / "frames").mkdir()
    with Outputs() as outputs:
        with pytest.raises(InputError, match="exists"):
            outputs.file(tmp_path / "a.ply")
        with pytest.raises(InputError, match="exists"):
            outputs.folder(tmp_path / "frames")
    assert (tmp_path / "a.ply").read_bytes() == b"old"


def test_overwriting_is_done_when_asked_for(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"old")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "9.png").write_bytes(b"old")
    with Outputs(overwrite=True) as outputs:
        outputs.file(tmp_path / "a.ply").write(b"new")
        outputs.folder(tmp_path / "frames").write(b"new", "0.png")
    assert (tmp_path / "a.ply").read_bytes() == b"new"
    assert names(tmp_path) == ["a.ply", "frames", "frames/0.png"]


def test_a_file_that_appears_meanwhile_is_kept_and_the_rest_taken_back(tmp_path):
    with pytest.raises(InputError, match="appeared while we worked"):
        with Outputs() as outputs:
            outputs.file(tmp_path / "a.ply").write(b"new")
            outputs.file(tmp_path / "b.gif").write(b"new")
            (tmp_path / "b.gif").write_bytes(b"theirs")
    assert names(tmp_path) == ["b.gif"] and (tmp_path / "b.gif").read_bytes() == b"theirs"


@pytest.mark.parametrize("links", [True, False])
def test_replaced_files_come_back_when_a_later_rename_fails(tmp_path, monkeypatch, links):
    (tmp_path / "a.ply").write_bytes(b"old")
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "9.png").write_bytes(b"old")
    real = {name: getattr(os, name) for name in ("link", "rename")}

    def refuse(name):
        def move(source, target):
            if str(target).endswith("b.gif") or (name == "link" and not links):
                raise PermissionError(errno.EACCES, "denied", str(target))
            real[name](source, target)

        return move

    for name in real:
        monkeypatch.setattr(os, name, refuse(name))
    with pytest.raises(InputError, match="cannot be written"):
        with Outputs(overwrite=True) as outputs:
            outputs.file(tmp_path / "a.ply").write(b"new")
            outputs.folder(tmp_path / "frames").write(b"new", "0.png")
            outputs.file(tmp_path / "b.gif").write(b"new")
    assert names(tmp_path) == ["a.ply", "frames", "frames/9.png"] and (tmp_path / "a.ply").read_bytes() == b"old"


def test_what_cannot_be_read_is_not_called_an_output(tmp_path):
    with pytest.raises(PermissionError):
        with Outputs() as outputs:
            outputs.file(tmp_path / "a.ply")
            raise PermissionError(errno.EACCES, "denied", "/weights.pth")


def test_file_systems_without_hard_links_work_too(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    with Outputs() as outputs:
        outputs.file(tmp_path / "a.ply").write(b"new")
    assert names(tmp_path) == ["a.ply"]


def test_writers_that_want_a_path_get_one(tmp_path):
    with writing(tmp_path / "w.safetensors") as temporary:
        temporary.write_bytes(b"new")
        assert temporary.suffix == ".safetensors"
    assert names(tmp_path) == ["w.safetensors"]
    with pytest.raises(InputError, match="exists"):
        with writing(tmp_path / "w.safetensors"):
            pass


def test_outputs_that_make_no_sense_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with Outputs(overwrite=True) as outputs:
        outputs.file(tmp_path / "once")
        for make, path, says in (
            (outputs.file, tmp_path / "no" / "a.ply", "does not exist"),
            (outputs.file, tmp_path, "is a folder"),
            (outputs.folder, tmp_path / "file", "is a file"),
            (outputs.file, tmp_path / "once", "named twice"),
            (outputs.file, "", "empty"),
            (outputs.file, "a\0b", "zero byte"),
        ):
            with pytest.raises(InputError, match=says):
                make(path)


def test_only_the_allowed_folders(tmp_path):
    allowed, other = tmp_path / "output", tmp_path / "other"
    allowed.mkdir()
    other.mkdir()
    (allowed / "link").symlink_to(other)
    (allowed / "file.ply").symlink_to(other / "target.ply")
    (other / "back").symlink_to(allowed)
    with Outputs(roots=[allowed]) as outputs:
        linked = (allowed / "link" / "a.ply", allowed / "file.ply")
        for path in (
            other / "a.ply",
            allowed / ".." / "a.ply",
            *linked,
            allowed,
            tmp_path / "output-not" / "a.ply",
            "/a",
        ):
            with pytest.raises(InputError, match="outside the allowed folders"):
                outputs.file(path)
        outputs.file(allowed / "a.ply").write(b"x")
        outputs.file(other / "back" / "b.ply").write(b"x")
    assert names(other) == ["back"]
    assert sorted(p.name for p in allowed.iterdir()) == ["a.ply", "b.ply", "file.ply", "link"]


def test_inside_follows_links(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert inside(tmp_path / "link" / "a", [tmp_path / "real"]) == (tmp_path / "real" / "a").resolve()
    assert inside(tmp_path / "link" / "a", None) == (tmp_path / "real" / "a").resolve()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 64 KiB, where we may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if not done or done.returncode:
        pytest.skip("mounting a tmpfs is not permitted here; test_a_file_size_limit_is_a_full_disk runs instead")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk):
    with pytest.raises(InputError, match="The disk is full .*nothing was written") as error:
        with Outputs() as outputs:
            outputs.file(small_disk / "a.ply").write(b"fits")
            outputs.folder(small_disk / "frames").write(b"x" * 100_000, "0.png")
    assert "\n" not in str(error.value)
    assert names(small_disk) == []


def test_a_full_disk_under_other_writers(small_disk):
    import torch
    from safetensors.torch import save_file

    big = {"w": torch.zeros(100_000)}
    for write in (lambda p: save_file(big, str(p)), lambda p: torch.save(big, p)):
        with pytest.raises(InputError, match="The disk is full"):
            with writing(small_disk / "w.bin") as temporary:
                write(temporary)
        assert names(small_disk) == []


def test_a_file_size_limit_is_a_full_disk(tmp_path):
    resource = pytest.importorskip("resource", reason="Windows has no file size limits")
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, previous[1]))
    try:
        with pytest.raises(InputError, match="The disk is full"):
            with Outputs() as outputs:
                outputs.file(tmp_path / "small").write(b"fits")
                outputs.file(tmp_path / "a.ply").write(b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(tmp_path) == []


def test_reading_has_limits(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(b"x" * 11)
    for name, says in (("empty", "0 bytes"), ("big", "11 bytes"), ("none", "does not exist"), (".", "folder")):
        with pytest.raises(InputError, match=says):
            read_bytes(tmp_path / name, 10, "a thing")
    assert read_bytes(tmp_path / "big", 11, "a thing") == b"x" * 11
