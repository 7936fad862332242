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
    from ..pipelines.selfcheck import as_text, self_check

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
