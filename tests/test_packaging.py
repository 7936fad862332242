"""The wheel holds what the package needs and nothing else; the metadata are what ComfyUI's registry asks for."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MADE_HERE = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "results", "node_modules")
PACKAGES = ("cli", "kernels", "models", "nodes", "pipelines", "scene", "training")
DATA_FOLDERS = ("web", "locales", "workflows", "subgraphs")
DATA_TYPES = (".safetensors", ".json", ".yaml", ".npz")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of a copy of this tree, built without network."""
    room = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, room / "tree", ignore=MADE_HERE)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    answer = subprocess.run([sys.executable, "-c", build], cwd=room / "tree", capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr[-3000:]
    return next(room.glob("*.whl"))


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def shipped() -> set[str]:
    """What must be in it, read from the tree."""
    names = {"__init__.py", "__main__.py", "LICENSE"}
    for folder in PACKAGES:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", *DATA_TYPES) and "__pycache__" not in path.parts:
                names.add(path.relative_to(ROOT).as_posix())
    for folder in DATA_FOLDERS:
        names |= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {f"sightline/{name}" for name in names}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    assert contents(wheel) == shipped()


def test_the_wheel_runs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = subprocess.run(
        [sys.executable, "-c", "import sightline.cli.main as m; print(m.__file__)"],
        capture_output=True, text=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "site"), where.stderr
    answer = subprocess.run(
        [sys.executable, "-m", "sightline", "--help"], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert answer.returncode == 0 and "sparsegen" in answer.stdout, answer.stderr


@pytest.fixture(scope="module")
def project() -> str:
    return (ROOT / "pyproject.toml").read_text("utf-8")


def listed(project: str, key: str) -> list[str]:
    return re.findall(r'"([^"]+)"', re.search(rf"^{key} = \[(.*?)\]", project, re.M | re.S)[1])


def test_requirements_leave_the_host_alone(project):
    lines = [line.strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line.strip()]
    assert not [line for line in lines if re.match(r"(torch\w*|numpy|transformers)\b", line)]
    assert not [line for line in lines if re.search(r"==|<|@|://|--", line)]
    assert sorted(listed(project, "dependencies")) == sorted([*lines, "torch", "numpy"])


def test_install_py_gets_the_tools_of_the_dev_extra(project):
    environment = (ROOT / "_install" / "environment.py").read_text("utf-8")
    tools = re.findall(r'"([^"]+)"', re.search(r"^TEST_TOOLS = (.*)$", environment, re.M)[1])
    assert sorted(tools) == sorted(set(listed(project, "dev")) - {"ruff"})


def test_registry_metadata(project):
    name = re.search(r'^name = "(.+)"', project, re.M)[1]
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,98}", name) and "comfyui" not in name
    version = re.search(r'^version = "(.+)"', project, re.M)[1]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    comfy = project.split("[tool.comfy]")[1].split("\n[")[0]
    for key in ("PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"):
        assert re.search(rf'^{key} = ".+"', comfy, re.M), key
    # WEB_DIRECTORY serves the web folder already; a second entry would load every script twice.
    assert not re.search(r"^web =", comfy, re.M)
    icon = re.search(r'^Icon = ".*/main/(.+)"', comfy, re.M)[1]
    width, height = re.search(r'<svg [^>]*width="(\d+)" height="(\d+)"', (ROOT / icon).read_text("utf-8")).groups()
    assert width == height and int(width) <= 400
    banner = re.search(r'^Banner = ".*/main/(.+)"', comfy, re.M)[1]
    with Image.open(ROOT / banner) as picture:
        assert picture.width * 9 == picture.height * 21
    included = listed(comfy, "includes")
    assert all((ROOT / folder).is_dir() for folder in included), included
    assert {f"{folder}/" for folder in DATA_FOLDERS} <= set(included)


def test_the_registry_gets_no_tests():
    left_out = (ROOT / ".comfyignore").read_text("utf-8").split()
    assert {"tests/", "docs/"} <= set(left_out)
    assert all((ROOT / name).exists() for name in left_out), left_out


def test_the_manager_installs_nothing():
    """``install.py`` without arguments is what ComfyUI-Manager runs: it only reports."""
    env = {**os.environ, "PATH": "", "PIP_NO_INDEX": "1"}
    before = {path.name for path in ROOT.iterdir()}
    answer = subprocess.run([sys.executable, ROOT / "install.py"], capture_output=True, text=True, cwd=ROOT, env=env)
    assert answer.returncode == 0, answer.stderr
    assert "sightline" in answer.stdout.lower() and "torch" in answer.stdout
    assert {path.name for path in ROOT.iterdir()} == before


def test_every_change_runs_the_test_command():
    command = "python3 install.py test"
    assert f"\n{command}" in (ROOT / ".ci" / "run").read_text("utf-8")
    for page in ("README.md", "CONTRIBUTING.md"):
        assert command in (ROOT / page).read_text("utf-8")
