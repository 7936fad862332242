"""Who may know whom, and what library code must never do; read from the source (only the last test imports).

nodes -> pipelines -> models -> kernels, and all of them scene; training sees models, kernels, scene; cli everything but
nodes. Never upwards, never sideways between papers. Only nodes/ knows ComfyUI.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "scene": {"scene"},
    "kernels": {"kernels", "scene"},
    "models": {"models", "kernels", "scene"},
    "pipelines": {"pipelines", "models", "kernels", "scene"},
    "training": {"training", "models", "kernels", "scene"},
    "nodes": {"nodes", "pipelines", "models", "kernels", "scene"},
    "cli": {"cli", "pipelines", "training", "models", "kernels", "scene"},
    "__init__": {"nodes"},
    "__main__": {"cli"},
}
PAPERS = ("sparsegen", "seethrough3d", "pixal3d", "relaxflow", "genrecon")
HOST = (
    "comfy comfy_api comfy_api_nodes comfy_config comfy_execution comfy_extras comfyui_version "
    "app execution folder_paths latent_preview main node_helpers nodes protocol server utils"
).split()
NETWORK = "aiohttp ftplib http httpx huggingface_hub requests smtplib socket ssl urllib urllib3 wget".split()
PROCESSES = "multiprocessing pexpect pty subprocess".split()
PICKLES = "_pickle cloudpickle dill joblib marshal pickle shelve".split()
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "torch.hub.load", "yaml.load"}
# (file, what): the only exceptions, each with its cause
ALLOWED = {
    ("cli/headless.py", "socket"): "talks to the ComfyUI server it started on this machine",
    ("cli/headless.py", "urllib"): "the same",
    ("cli/headless.py", "subprocess"): "starts that server",
    ("cli/events.py", "socket"): "the events of that server",
    ("cli/events.py", "urllib"): "takes its address apart",
    ("cli/bench/runner.py", "subprocess"): "times each contender in a process of its own, for its peak memory",
    ("kernels/uv/pool.py", "subprocess"): "flattens patches in processes that can be ended: xatlas cannot be stopped",
    ("nodes/host/routes.py", "aiohttp"): "answers requests to the server that loaded us",
    ("models/download.py", "urllib"): "fetches published weights; called by the download command and node alone",
    ("models/download.py", "http"): "the exceptions of the same",
    ("models/trellis2/family.py", "pickle"): "names the exception of a refused file; nothing is unpickled",
    ("models/sparsegen/checkpoint.py", "pickle"): "names the exception of a refused checkpoint; nothing is unpickled",
    ("models/sam3d/checkpoint.py", "pickle"): "names the exception of a refused checkpoint; nothing is unpickled",
}
# Import name -> distribution of what may be imported at the top of a module: what pyproject.toml always installs.
REQUIRED = {
    "torch": "torch", "numpy": "numpy", "PIL": "pillow", "yaml": "pyyaml",
    "safetensors": "safetensors", "scipy": "scipy", "tqdm": "tqdm",
}  # fmt: skip


def library_files(root: Path = ROOT) -> list[Path]:
    folders = [path for path in root.iterdir() if path.name in MAY_IMPORT and path.is_dir()]
    files = [file for folder in folders for file in folder.rglob("*.py") if "__pycache__" not in file.parts]
    return sorted([root / "__init__.py", root / "__main__.py", *files])


def imports(tree: ast.AST, parts: tuple[str, ...]):
    """Every import as (line, name from the package root or None, name of an absolute import or None)."""
    package = parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, None, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, None, node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level > 1 else package
            if node.level - 1 > len(package):
                yield node.lineno, "..", None
            elif node.module:
                yield node.lineno, ".".join((*base, *node.module.split("."))), None
            else:
                for alias in node.names:
                    yield node.lineno, ".".join((*base, alias.name)), None


def paper_of(dotted: str) -> str | None:
    return next((paper for paper in PAPERS if paper in dotted.replace("_", ".").split(".")), None)


def called(node: ast.Call) -> str:
    try:
        return ast.unparse(node.func)
    except ValueError:
        return ""


def violations(source: str, file: str) -> list[str]:
    """All broken rules of one library file, as ``file:line: sentence``."""
    parts = tuple(file.removesuffix(".py").split("/"))
    room, found = parts[0], []
    tree = ast.parse(source, file)

    def report(line: int, text: str, what: str = "") -> None:
        if (file, what) not in ALLOWED:
            found.append(f"{file}:{line}: {text}")

    for line, inner, outer in imports(tree, parts):
        if inner is not None:
            target = inner.split(".")[0]
            if target not in MAY_IMPORT[room]:
                report(line, f"{room} may not import {target}")
            ours, theirs = paper_of(".".join(parts)), paper_of(inner)
            sideways = room in ("models", "pipelines", "training") and target == room
            if sideways and theirs and ours != theirs:
                report(line, f"{room}/ of {ours} imports that of {theirs}")
            continue
        top = outer.split(".")[0]
        if top == "sightline":
            report(line, "imports inside the package are relative, so that they hold under custom_nodes/ too")
        if top in HOST and room != "nodes":
            report(line, f"only nodes/ may import ComfyUI ({outer})")
        for names, why in ((NETWORK, "no network"), (PROCESSES, "no processes"), (PICKLES, "no pickle")):
            if top in names:
                report(line, f"{why} in library code ({outer})", top)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in CALLS:
            report(node.lineno, f"{name} is not used in library code", name)
        if name == "torch.load" and not any(ast.unparse(k) == "weights_only=True" for k in node.keywords):
            report(node.lineno, "torch.load needs weights_only=True")
    for node in tree.body:  # only the module level: a lazy import may be optional
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        for name in names:
            top = name.split(".")[0]
            if top not in REQUIRED and top not in sys.stdlib_module_names and not (room == "nodes" and top in HOST):
                report(node.lineno, f"{name} is optional: import it where it is first used, with an install hint")
    return found


def test_the_library_keeps_the_rules():
    files = library_files()
    assert len(files) > 30
    found = [v for file in files for v in violations(file.read_text("utf-8"), file.relative_to(ROOT).as_posix())]
    assert not found, "\n" + "\n".join(found)


def test_every_exception_is_still_needed():
    for file, what in ALLOWED:
        assert what in (ROOT / file).read_text("utf-8"), f"{file} no longer uses {what}: take it off the list"


def test_only_the_host_tests_import_comfyui():
    for file in (ROOT / "tests").rglob("*.py"):
        if file.relative_to(ROOT / "tests").parts[0] == "comfy":
            continue
        for line, _, outer in imports(ast.parse(file.read_text("utf-8")), ("tests", file.stem)):
            assert not outer or outer.split(".")[0] not in HOST, f"{file}:{line} imports {outer}"


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        ("kernels/a.py", "from ..models.x import y", "kernels may not import models"),
        ("scene/a.py", "from ..kernels import splat", "scene may not import kernels"),
        ("scene/a.py", "def f():\n    from .. import cli", "scene may not import cli"),
        ("models/x/a.py", "from ...pipelines import sparsegen", "models may not import pipelines"),
        ("pipelines/genrecon.py", "from .pixal3d import run", "pipelines/ of genrecon imports that of pixal3d"),
        ("models/pixal3d/a.py", "from ..relaxflow.b import c", "models/ of pixal3d imports that of relaxflow"),
        ("cli/a.py", "from ..nodes.host import x", "cli may not import nodes"),
        ("pipelines/a.py", "import comfy.utils", "only nodes/ may import ComfyUI"),
        ("models/a.py", "import sightline.scene", "relative"),
        ("models/a.py", "def f():\n    import requests", "no network"),
        ("scene/a.py", "from urllib.request import urlopen", "no network"),
        ("scene/a.py", "import subprocess", "no processes"),
        ("scene/a.py", "import pickle", "no pickle"),
        ("scene/a.py", "def f(s): return eval(s)", "eval is not used"),
        ("models/a.py", "import torch\ntorch.load('x')", "weights_only"),
        ("models/a.py", "import torch\ntorch.load('x', weights_only=False)", "weights_only"),
        ("kernels/a.py", "import gsplat", "optional"),
        ("scene/a.py", "from .... import x", "may not import"),
    ],
)
def test_the_rules_catch(file, source, complaint):
    assert any(complaint in v for v in violations(source, file))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("kernels/splat/a.py", "from ...scene.errors import InputError\nfrom .tiles import b\nfrom .. import metrics"),
        ("pipelines/genrecon.py", "from ..models.trellis2 import x\nfrom ..scene import cameras"),
        ("nodes/a.py", "import comfy.utils\nfrom comfy_api.latest import io\nfrom ..pipelines import sparsegen"),
        ("kernels/a.py", "import torch\ndef f():\n    import gsplat\n    return torch.load('x', weights_only=True)"),
        ("models/a.py", "def f(model): return model.eval()"),
    ],
)
def test_the_rules_let_pass(file, source):
    assert violations(source, file) == []


HEAVY = (
    "gsplat flash_attn natten nvdiffrast bpy spconv flex_gemm torchsparse warp torchvision torchaudio torchmetrics "
    "lpips torch_fidelity transformers diffusers accelerate wandb tensorboard trimesh xatlas av imageio_ffmpeg"
).split()
PROBE = """
import importlib, sys
import sightline
assert "torch" not in sys.modules, "importing sightline alone imports torch"
for name in {names!r}: importlib.import_module(name)
print(" ".join(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def test_importing_the_library_pulls_in_neither_host_nor_accelerators(tmp_path):
    files = [f.relative_to(ROOT).with_suffix("") for f in library_files() if f.parent != ROOT]
    modules = {".".join(("sightline", *f.parts)).removesuffix(".__init__") for f in files if f.parts[0] != "nodes"}
    code = PROBE.format(names=sorted(modules))
    # Away from the repository: its folders must not pass for top-level modules.
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    loaded = set(answer.stdout.split())
    assert not loaded & set(HOST), loaded & set(HOST)
    assert not loaded & set(HEAVY), loaded & set(HEAVY)
