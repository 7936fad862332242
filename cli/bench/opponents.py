"""Where to find what others made: imported from where it is installed, never copied."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from ..headless import HeadlessError, find_comfyui
from .op import Missing


def comfyui(module: str, device: str = "cpu") -> ModuleType:
    """A module of the installed ComfyUI ($COMFYUI_PATH, the one around this folder, ~/comfy/ComfyUI).

    Raises Missing where there is none, or where its requirements are not installed here.
    """
    try:
        tree = find_comfyui()
    except HeadlessError as error:
        raise Missing(str(error)) from error
    if tree is None:
        raise Missing("no ComfyUI found; set COMFYUI_PATH to one")
    path, arguments = str(tree.path), sys.argv
    if path not in sys.path:
        sys.path.insert(0, path)
    try:
        # ComfyUI decides on import which device it computes on, from the command line.
        sys.argv = ["main.py", *(["--cpu"] if device == "cpu" else [])]
        importlib.import_module("comfy.options").enable_args_parsing()
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:200]
        raise Missing(
            f"{module} of ComfyUI {tree.version_text} in {path} cannot be imported: {type(error).__name__}: {text}"
        ) from error
    finally:
        sys.argv = arguments


def comfyui_name(label: str) -> str:
    """`label` with the version of the ComfyUI that would be used, for tables."""
    try:
        tree = find_comfyui()
    except HeadlessError:
        return label
    return f"{label} (ComfyUI {tree.version_text})" if tree else label


def library(name: str, install: str | None = None) -> ModuleType:
    """An installed library; raises Missing with the install hint."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} is not installed; pip install {install or name}") from error
