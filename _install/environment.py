"""The Python environment of the demo and the tests: ``.venv``, or the one that runs us if it has everything."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import urllib.request
from pathlib import Path

from running import ROOM, ROOT, Failure, Steps, python_says, run, say

VENV = ROOT / ".venv"

TORCH = "torch==2.13.0"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # the default index has CUDA builds only, for Linux
# Packages that require torch are installed without their dependencies, so that pip never swaps the torch we chose.
BESIDE_TORCH = {
    "torchvision": "torchvision==0.28.0",
    "torchaudio": "torchaudio==2.11.0",
    "torchsde": "torchsde==0.2.6",
    "trampoline": "trampoline==0.1.2",
    "spandrel": "spandrel==0.4.2",
    "kornia": "kornia==0.9.0",
    "kornia-rs": "kornia-rs",
}
PINNED_BY_COMFYUI = ("comfy-kitchen", "comfy-aimdo")  # require torch too, in the version the tree asks for
TEST_TOOLS = ["pytest>=8", "hypothesis", "setuptools>=70.1", "trimesh", "diffusers", "accelerate"]


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv() -> Steps:
    """``.venv`` with pip; made anew if it was left half made or belongs to another Python."""
    steps = Steps(VENV / "sightline-steps.json")
    key = f"Python {sys.version_info.major}.{sys.version_info.minor} at {VENV}"
    if steps.done.get("venv") != key:
        steps.done = {}
        free, needed = shutil.disk_usage(ROOT).free / 1e9, 9 if shutil.which("nvidia-smi") else 4
        if free < needed:
            raise Failure(f"The environment needs about {needed} GB of disk space; {free:.1f} GB are free at {ROOT}.")
        say(f"Making the Python environment {VENV} (about 2.5 GB with a CPU torch).")

    def create():
        run("python -m venv", [sys.executable, "-m", "venv", "--clear", VENV])

    try:
        steps.do("venv", key, create)
    except Failure as failure:
        raise Failure(f"{failure} (On Debian and Ubuntu `apt install python3-venv` is needed.)") from None
    return steps


def pip(what: str, arguments: list, constrained: bool = True) -> None:
    """``pip install`` in ``.venv``; constrained = never replace the torch that is there."""
    env = {}
    if constrained:
        version = python_says(venv_python(), "import importlib.metadata as m; print(m.version('torch'))")
        (ROOM / "torch.txt").write_text(f"torch=={version}\n", encoding="utf-8")
        env["PIP_CONSTRAINT"] = str(ROOM / "torch.txt")
    command = [venv_python(), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-q", *arguments]
    run(what, command, env=env)


@functools.cache
def torch_source() -> list[str]:
    """Where torch comes from: the named index; for Linux without an NVIDIA GPU the CPU builds, if their index answers.

    Else pip's own settings decide (elsewhere than on Linux the default index has the right builds).
    """
    named = os.environ.get("SIGHTLINE_TORCH_INDEX")
    if named:
        return ["--index-url", named]
    if sys.platform == "linux" and not shutil.which("nvidia-smi"):
        with contextlib.suppress(OSError, ValueError):
            request = urllib.request.Request(TORCH_CPU_INDEX + "/torch/", method="HEAD")
            urllib.request.urlopen(request, timeout=5).close()
            return ["--index-url", TORCH_CPU_INDEX]
    return []


def split_requirements(tree) -> tuple[list[str], list[str]]:
    """The tree's requirements: those that require torch (in the versions we tried), and the others."""
    beside, others = dict(BESIDE_TORCH), []
    for line in (tree.path / "requirements.txt").read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        name = re.match(r"[A-Za-z0-9._-]*", line)[0].lower()
        if name in PINNED_BY_COMFYUI:
            beside[name] = line
        elif name and name != "torch" and name not in beside:
            others.append(line)
    return sorted(beside.values()), others


def needs(tree, tests: bool) -> list[str]:
    """Names of all distributions that the demo (or the tests) use."""
    beside, others = split_requirements(tree)
    ours = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    lines = ["torch", *beside, *others, *ours, *(TEST_TOOLS if tests else ())]
    return sorted({re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in lines})


def current_suits(tree, tests: bool) -> bool:
    """Whether the Python that runs us has everything already (an activated ComfyUI environment, for example)."""
    if importlib.util.find_spec("torch") is None:
        return False
    code = f"""
import importlib.metadata as m, importlib.util as u, os
for name in {needs(tree, tests)!r}: m.version(name)
import torch, torchvision, torchaudio
if {tests}: assert os.path.dirname(os.path.realpath(u.find_spec("sightline").origin)) == {str(ROOT)!r}
print("yes")"""
    return python_says(sys.executable, code) == "yes"


def environment(tree, tests: bool) -> str:
    """An interpreter with torch, the requirements of ComfyUI and ours; made in ``.venv`` unless this one has them."""
    if Path(sys.prefix).resolve() != VENV and current_suits(tree, tests):
        say(f"Python: {sys.executable} has everything; nothing is installed into it.")
        return sys.executable
    steps, python = make_venv(), venv_python()

    def companions():
        pip("installing what goes with torch", ["--no-deps", *torch_source(), *pair])
        pip("installing what goes with torch", ["--no-deps", *(b for b in beside if b not in pair)])

    beside, others = split_requirements(tree)
    pair = [BESIDE_TORCH["torchvision"], BESIDE_TORCH["torchaudio"]]  # must be of the same build as torch
    ours = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    steps.do("torch", TORCH, lambda: pip("installing torch", [*torch_source(), TORCH], constrained=False))
    steps.do("torch's companions", " ".join(beside), companions)
    steps.do("ComfyUI's requirements", " ".join(others), lambda: pip("installing ComfyUI's requirements", others))
    steps.do("Sightline's requirements", " ".join(ours), lambda: pip("installing Sightline's requirements", ours))
    if tests:
        steps.do("test tools", " ".join(TEST_TOOLS), lambda: pip("installing the test tools", TEST_TOOLS))
    stamp = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    steps.do("sightline", f"{ROOT} {stamp}", lambda: pip("installing Sightline", ["--no-deps", "-e", ROOT]))
    steps.do("check", " ".join(beside), lambda: repair(python))
    return str(python)


SHIM = '''"""Lets torchvision import beside a CPU torch when its own library, a CUDA build, cannot load."""
import importlib.abc
import sys


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            for operator in ("nms", "qnms"):
                if not hasattr(torch.ops.torchvision, operator):
                    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    torch.library.define("torchvision::" + operator, schema)


sys.meta_path.insert(0, Finder())
'''


def repair(python: Path) -> None:
    """Make torchvision and torchaudio importable beside a CPU torch where their wheels are CUDA builds."""
    site = Path(python_says(python, "import sysconfig; print(sysconfig.get_paths()['purelib'])"))
    if python_says(python, "import torchvision") is None:
        (site / "_sightline_torchvision_shim.py").write_text(SHIM, encoding="utf-8")
        (site / "_sightline_torchvision_shim.pth").write_text("import _sightline_torchvision_shim\n", encoding="utf-8")
    if python_says(python, "import torchaudio") is None:  # without its libraries it runs in pure-Python mode
        for library in (site / "torchaudio" / "lib").glob("*.so"):
            library.unlink()
    for name in ("torchvision", "torchaudio"):
        if python_says(python, f"import {name}") is None:
            raise Failure(f"{name} cannot be imported in {VENV}; delete that folder and run again.")
