"""What is installed and works: versions, devices, accelerators, weights, optional libraries.

Everything is looked at separately, so that one broken piece does not hide the others. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# package, what it is for, how to get it
OPTIONAL = (
    ("gsplat", "faster splatting on CUDA", "pip install gsplat"),
    ("av", ".mp4 turntables", "pip install av"),
    ("tqdm", "progress bars", "pip install tqdm"),
    ("yaml", "the configuration beside published checkpoints", "pip install pyyaml"),
    ("lpips", "the metric LPIPS", "pip install lpips torchvision"),
    ("torch_fidelity", "the metric FID", "pip install torch-fidelity"),
    ("accelerate", "launching training on several processes, as torchrun does", "pip install accelerate"),
    ("tensorboard", "training curves", "pip install tensorboard"),
    ("wandb", "training curves", "pip install wandb"),
)
# embedded families of several networks -> sha256 of the lines "FILE SHA256" of their .safetensors files, in order
FAMILIES = {
    "models/trellis2/pixal3d-tiny": "b8b07937125981f70bad58ca539a5f6c6bd54cf310910c12d0e9515b53ff2498",
    "models/genrecon/genrecon-tiny": "3f8f9748f47866217d391dd391e07062b1a8a15ebb36afd9a4af5f5bdebedc5c",
}
REQUIRED = ("torch", "numpy", "PIL", "safetensors", "scipy")


def self_check() -> dict:
    """The report: plain values only, ready for JSON.

    Keys: sightline, path, python, platform, libraries, devices, accelerators, weights, optional, and problems (one
    sentence each; empty where all is well).
    """
    report = {
        "sightline": package_version(),
        "path": str(ROOT),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "libraries": {name: _version(name) for name in REQUIRED},
    }
    problems = [f"{name} is not installed." for name, found in report["libraries"].items() if found is None]
    for part, look in (("devices", devices), ("accelerators", accelerators), ("weights", embedded_weights)):
        try:
            report[part] = look()
        except Exception as error:  # the check reports what is broken instead of breaking
            report[part] = []
            problems.append(f"{part} could not be looked at ({type(error).__name__}: {_line(error)}).")
    for entry in report["weights"]:
        if entry["state"] != "ok":
            problems.append(f"The embedded weights {entry['name']} are {entry['state']}.")
    report["optional"] = [
        {"name": name, "version": _version(name), "for": purpose, "install": hint} for name, purpose, hint in OPTIONAL
    ]
    report["problems"] = problems
    return report


def as_text(report: dict) -> str:
    """The report for people; `host` ({found, path, version, origin}) is what the caller adds."""
    lines = [f"sightline {report['sightline']} in {report['path']}"]
    libraries = ", ".join(f"{name} {version or 'MISSING'}" for name, version in report["libraries"].items())
    lines.append(f"  python {report['python']} on {report['platform']}; {libraries}")
    lines.append("devices")
    for device in report["devices"]:
        size = f"{device['memory_gib']} GiB" if "memory_gib" in device else f"{device.get('threads', '?')} threads"
        lines.append(f"  {device['kind']}: {device['name']}, {size}" if device["kind"] != "mps" else "  mps: Apple GPU")
    host = report["host"]
    where = (
        f"{host['version']} in {host['path']} ({host['origin']})" if host["found"] else "not found (set COMFYUI_PATH)"
    )
    lines.append(f"ComfyUI\n  {where}")
    lines.append("accelerators (used only after they agreed with our own code)")
    lines += [_accelerator(entry) for entry in report["accelerators"]] or ["  none known"]
    lines.append("embedded weights")
    for entry in report["weights"]:
        detail = (
            f", {entry['bytes'] / 1e6:.1f} MB, sha256 {entry['sha256'][:12]}, {entry['licence']}"
            if "bytes" in entry
            else ""
        )
        lines.append(f"  {entry['name']}: {entry['state']}{detail}")
    lines.append("optional libraries")
    for entry in report["optional"]:
        state = entry["version"] or f"not installed ({entry['install']})"
        lines.append(f"  {entry['name']}: {state}; for {entry['for']}")
    lines += (
        ["problems", *(f"  {problem}" for problem in report["problems"])] if report["problems"] else ["no problems"]
    )
    return "\n".join(lines)


def package_version() -> str:
    """The version of this package: of the files themselves, else of the installed distribution."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        found = re.search(r'^version\s*=\s*"([^"]+)"', project.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return _version("sightline") or "unknown"


def devices() -> list[dict]:
    """The devices PyTorch sees: kind, name, and threads or memory in GiB."""
    import torch

    found = [{"kind": "cpu", "name": _cpu_name(), "threads": torch.get_num_threads(),
              "cores": os.cpu_count()}]  # fmt: skip
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            found.append({"kind": f"cuda:{i}", "name": about.name, "memory_gib": round(about.total_memory / 2**30, 1)})
    if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
        found.append({"kind": "mps", "name": "Apple GPU"})
    return found


def accelerators() -> list[dict]:
    """Every accelerator that could stand behind an operation: operation, name, state, and why."""
    from ..kernels import backends

    return [dict(entry) for entry in backends.report()]


def embedded_weights() -> list[dict]:
    """The weights that are part of the package: name, path, bytes, sha256, and state (ok, missing, changed)."""
    from ..models.sparsegen import weights

    entries = []
    for known in weights.ALL:
        if known.path is None:
            continue
        entry = {"name": known.name, "path": str(known.path), "licence": known.licence, "state": "missing"}
        if known.path.is_file():
            data = known.path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            wanted = known.files[0].sha256
            state = "ok" if wanted in (None, digest) else "changed (their checksum is not the released one)"
            entry |= {"bytes": len(data), "sha256": digest, "state": state}
        entries.append(entry)
    return entries + [_family(ROOT / place, wanted) for place, wanted in FAMILIES.items()]


def _family(folder: Path, wanted: str) -> dict:
    """The entry of a folder of networks; its checksum is that of their checksums."""
    entry = {"name": folder.name, "path": str(folder), "licence": "Apache-2.0", "state": "missing"}
    files = sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*.safetensors"))
    if files:
        total, size = hashlib.sha256(), 0
        for name, path in files:
            data = path.read_bytes()
            size += len(data)
            total.update(f"{name} {hashlib.sha256(data).hexdigest()}\n".encode())
        state = "ok" if total.hexdigest() == wanted else "changed (their checksum is not the released one)"
        entry |= {"bytes": size, "sha256": total.hexdigest(), "state": state}
    return entry


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    """The version of an importable package, "present" where it states none, None where it is not there."""
    try:
        if importlib.util.find_spec(name) is None and name not in sys.modules:
            return None
    except (ImportError, ValueError):
        return None
    distribution = {"PIL": "pillow", "yaml": "pyyaml", "torch_fidelity": "torch-fidelity"}.get(name, name)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "present"


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:160]


def _accelerator(entry: dict) -> str:
    error = f"worst error {entry['worst_error']:.1e}" if entry["worst_error"] is not None else None
    details = "; ".join(text for text in (entry["version"], error, entry["reason"], entry["install"]) if text)
    return f"  {entry['name']} ({entry['operation']}): {entry['verdict']}" + (f" ({details})" if details else "")
