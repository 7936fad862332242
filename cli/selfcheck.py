"""What is installed and works: versions, devices, ComfyUI, accelerators, weights, optional libraries.

The exit code is 0 where nothing that is needed is missing, else 1.
"""

from __future__ import annotations

import argparse
import json


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "selfcheck", help="versions, devices, ComfyUI, accelerators, embedded weights", description=__doc__
    )
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the report of `pipelines.selfcheck` and the ComfyUI that would be used."""
    from ..pipelines.selfcheck import self_check

    report = self_check()
    report["host"] = find_host()
    if "error" in report["host"]:
        report["problems"].append(report["host"]["error"])
    print(json.dumps(report, indent=2) if args.json else as_text(report))
    return 1 if report["problems"] else 0


def find_host() -> dict:
    """The ComfyUI that would be used: found, path, version, origin; or error. ComfyUI itself is not imported."""
    from .headless import HeadlessError, find_comfyui

    try:
        tree = find_comfyui()
    except HeadlessError as error:
        return {"found": False, "error": str(error)}
    if tree is None:
        return {"found": False}
    return {"found": True, "path": str(tree.path), "version": tree.version_text, "origin": tree.origin}


def as_text(report: dict) -> str:
    """The report for people."""
    lines = [f"sightline {report['sightline']} in {report['path']}"]
    libraries = ", ".join(f"{name} {version or 'MISSING'}" for name, version in report["libraries"].items())
    lines.append(f"  python {report['python']} on {report['platform']}; {libraries}")
    lines.append("devices")
    for device in report["devices"]:
        size = f"{device['memory_gib']} GiB" if "memory_gib" in device else f"{device.get('threads', '?')} threads"
        lines.append(f"  {device['kind']}: {device['name']}, {size}" if device["kind"] != "mps" else "  mps: Apple GPU")
    host = report["host"]
    where = f"{host['version']} in {host['path']} ({host['origin']})" if host["found"] else "not found (set COMFYUI_PATH)"
    lines.append(f"ComfyUI\n  {where}")
    lines.append("accelerators (used only after they agreed with our own code)")
    lines += [_accelerator(entry) for entry in report["accelerators"]] or ["  none known"]
    lines.append("embedded weights")
    for entry in report["weights"]:
        detail = f", {entry['bytes'] / 1e6:.1f} MB, sha256 {entry['sha256'][:12]}, {entry['licence']}" if "bytes" in entry else ""
        lines.append(f"  {entry['name']}: {entry['state']}{detail}")
    lines.append("optional libraries")
    for entry in report["optional"]:
        state = entry["version"] or f"not installed ({entry['install']})"
        lines.append(f"  {entry['name']}: {state}; for {entry['for']}")
    lines += ["problems", *(f"  {problem}" for problem in report["problems"])] if report["problems"] else ["no problems"]
    return "\n".join(lines)


def _accelerator(entry: dict) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in entry.items() if key not in ("name", "verdict") and value is not None)
    return f"  {entry.get('name', '?')}: {entry.get('verdict', '?')}" + (f" ({rest})" if rest else "")
