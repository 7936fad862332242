"""Accelerators: optional libraries that compute one of our operations quicker.

None is required. Each is looked for without importing it, imported and compared once with the torch code it stands in
for, on a small example, and used only if it agreed. To add one, write its comparison beside the torch code and name it
in `KNOWN`:

    Accelerator("gsplat", "splat rasterization", "gsplat", ".splat.gsplat_backend:compare", device="cuda", ...)

and ask `usable("gsplat")` before using it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Accelerator:
    """An optional library behind one operation."""

    name: str  # how it is called here
    operation: str  # what it computes, for people
    module: str  # what is imported
    compare: (
        str | Callable[[torch.device], float]
    )  # worst error against the torch code; "module:function" is imported late
    device: str = "cpu"  # the device type it needs
    tolerance: float = 1e-4  # on the worst error
    install: str = ""  # what to type to get it


@dataclass(frozen=True)
class Verdict:
    """What became of one accelerator: `state` is one of the constants below."""

    state: str
    worst_error: float | None = None
    reason: str | None = None


AGREED, DISAGREED, BROKEN, NOT_FOUND, NO_DEVICE, NOT_COMPARED = (
    "agreed",
    "disagreed",
    "broken",
    "not found",
    "no device",
    "not compared",
)

KNOWN: dict[str, Accelerator] = {}
_verdicts: dict[str, Verdict] = {}


def register(accelerator: Accelerator) -> None:
    """Make an accelerator known; one of the same name is replaced and its verdict forgotten."""
    KNOWN[accelerator.name] = accelerator
    _verdicts.pop(accelerator.name, None)


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def found() -> list[str]:
    """Names of the accelerators that are installed; nothing is imported or compared."""
    return [name for name, accelerator in KNOWN.items() if is_installed(accelerator.module)]


def verdict(name: str) -> Verdict:
    """Compare an accelerator with the torch code, the first time; later calls return the same."""
    if name not in _verdicts:
        _verdicts[name] = _compare(KNOWN[name])
    return _verdicts[name]


def usable(name: str) -> bool:
    """Whether an accelerator is there and agreed with the torch code."""
    return verdict(name).state == AGREED


def report(compare: bool = True) -> list[dict]:
    """Every known accelerator: name, operation, verdict, version, worst_error, reason, install.

    compare: import and compare what has not been compared yet; without, such an entry's verdict is "not compared".
    """
    entries = []
    for name, accelerator in KNOWN.items():
        installed = is_installed(accelerator.module)
        if compare or name in _verdicts:
            result = verdict(name)
        else:
            result = Verdict(NOT_COMPARED if installed else NOT_FOUND)
        entries.append(
            {
                "name": name,
                "operation": accelerator.operation,
                "verdict": result.state,
                "worst_error": result.worst_error,
                "reason": result.reason,
                "version": _version(accelerator.module) if installed else None,
                "install": None if installed else accelerator.install or None,
            }
        )
    return entries


def has_device(kind: str) -> bool:
    """Whether PyTorch can compute on a device type here."""
    if kind == "cuda":
        return torch.cuda.is_available()
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind == "cpu"


def _compare(accelerator: Accelerator) -> Verdict:
    if not is_installed(accelerator.module):
        return Verdict(NOT_FOUND)
    if not has_device(accelerator.device):
        return Verdict(NO_DEVICE, reason=f"it needs a {accelerator.device} device")
    try:
        importlib.import_module(accelerator.module)
        compare = accelerator.compare
        if isinstance(compare, str):
            module, function = compare.split(":")
            compare = getattr(importlib.import_module(module, __package__), function)
        with torch.enable_grad():  # also when the first use is under no_grad
            error = float(compare(torch.device(accelerator.device)))
    except Exception as failure:  # whatever a foreign library raises, we go on without it
        text = " ".join(str(failure).split())
        return Verdict(BROKEN, reason=f"{type(failure).__name__}: {text[:300]}")
    if not error <= accelerator.tolerance:
        return Verdict(DISAGREED, error, f"worst error {error:.1e}, allowed {accelerator.tolerance:.0e}")
    return Verdict(AGREED, error)


def _version(module: str) -> str | None:
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return None


register(
    Accelerator(
        "gsplat",
        "splat rasterization",
        "gsplat",
        ".splat.gsplat_backend:compare",
        device="cuda",
        install="pip install gsplat (CUDA; compiles at first use)",
    )
)
register(
    Accelerator(
        "flash_attn",
        "attention over items of unequal lengths",
        "flash_attn",
        ".attention:compare_flash",
        device="cuda",
        tolerance=2e-2,  # of values of about 1, in bfloat16
        install="pip install flash-attn (CUDA; compiles on install)",
    )
)
register(
    Accelerator(
        "nvdiffrast",
        "rasterization of texture charts",
        "nvdiffrast",
        ".nvdiffrast_backend:compare",
        device="cuda",
        tolerance=1e-3,  # of weights; it rounds corners to 1/16 of a pixel
        install="pip install nvdiffrast (CUDA; compiles on install; licence forbids commercial use)",
    )
)
