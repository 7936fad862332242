"""Time our operations against what one would otherwise run: same input, same threads, taking turns.

  python -m sightline bench                    everything, small
  python -m sightline bench splat --size M     one operation, at 50,000 Gaussians
  python -m sightline bench splat sparsegen --json

Every contender runs in a process of its own, so the peak memory is its own. The ratio is the contender's median time by
ours, of wall time and of CPU time (which counts on a machine that does other things too). Opponents are taken from
where they are installed (ComfyUI: $COMFYUI_PATH, the one around this folder, ~/comfy/ComfyUI) and named as missing
where they are not. How to add an operation is written in `op.py`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys

from .op import SIZES, Contender, Missing, Op

__all__ = ["Contender", "Missing", "Op", "SIZES", "add_parser", "operations", "run"]
_OWN = ("clock", "op", "opponents", "runner")


def operations() -> dict[str, Op]:
    """Every operation of this folder by its name."""
    found: dict[str, Op] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        if module not in _OWN:
            for op in getattr(importlib.import_module(f".{module}", __package__), "OPS", ()):
                found[op.name] = op
    return found


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "bench",
        help="our operations timed against what one would otherwise run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("ops", nargs="*", metavar="OP", help="operations (default: all; --list names them)")
    add("--size", default="S", choices=[*SIZES, "all"], help="size of the input (default: S)")
    add("--threads", type=int, default=1, metavar="N", help="threads of each contender (default: 1)")
    add(
        "--rounds", type=int, default=7, metavar="N", help="timed runs of each, fewer where one takes long (default: 7)"
    )
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    add("--json", action="store_true", help="print the figures as JSON")
    add("--list", action="store_true", help="name the operations, their sizes and contenders")
    add("--worker", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Time the operations asked for and print the tables."""
    from ...scene.errors import InputError
    from .runner import time_op, work

    known = operations()
    if args.worker:
        task = json.loads(args.worker)
        work(task, known[task["op"]])
        return 0
    unknown = [name for name in args.ops if name not in known]
    if unknown:
        raise InputError(f"There is no operation {unknown[0]!r}; {', '.join(known)} would work.")
    chosen = [known[name] for name in dict.fromkeys(args.ops)] or list(known.values())
    if args.list:
        print(json.dumps([_about(op) for op in chosen], indent=2) if args.json else "\n".join(map(_about_text, chosen)))
        return 0
    tell = (
        (lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True))
        if sys.stderr.isatty()
        else (lambda text: None)
    )
    tables = []
    for op in chosen:
        for size in op.sizes if args.size == "all" else [args.size]:
            table = time_op(op, size, args.threads, args.rounds, args.device, tell)
            tables.append(table)
            tell("")
            if not args.json:
                print(as_text(op, table), flush=True)
    if args.json:
        print(json.dumps(tables, indent=2))
    return 0


def as_text(op: Op, table: dict) -> str:
    """One table for people."""
    case = ", ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in table["case"].items()
    )
    lines = [
        f"{op.name} {table['size']}: {op.summary} ({case}; {table['threads']} thread(s), {table['device']})",
        f"  {'':36} {'median':>9} {'min':>9} {'CPU':>9} {'peak RSS':>9} {'growth':>9} {'ratio':>8} {'of CPU':>8}",
    ]
    for entry in table["contenders"]:
        if "missing" in entry:
            lines.append(f"  {entry['name']:36} {entry['missing']}")
            continue
        ratios = " ".join(f"{entry[key]:7.1f}x" for key in ("ratio", "ratio_cpu") if key in entry)
        lines.append(
            f"  {entry['name']:36} {_seconds(entry['wall_median'])} {_seconds(entry['wall_min'])} "
            f"{_seconds(entry['cpu_median'])} {_megabytes(entry['peak_rss'])} {_megabytes(entry['growth'])} {ratios}"
        )
        said = [entry["note"]] if entry["note"] else []
        said += [f"{name}: {_stage(found)}" for name, found in entry["stages"].items()]
        if entry["cuda_peak"] is not None and not entry["stages"]:
            said.append(f"peak on the device {_megabytes(entry['cuda_peak']).strip()}")
        figures = [f"{name} {value:,.4g}" for name, value in entry.get("figures", {}).items()]
        said += [", ".join(figures)] if figures else []
        if entry.get("difference"):
            said.append(
                "largest difference to ours: "
                + ", ".join(f"{k} {v:.1e}" for k, v in entry["difference"].items())
                + ("" if entry["same"] else " (not the same computation)")
            )
        lines += [f"    {text}" for text in said]
    return "\n".join(lines)


def _about(op: Op) -> dict:
    return {"op": op.name, "summary": op.summary, "sizes": op.sizes, "contenders": [c.name for c in op.contenders]}


def _about_text(op: Op) -> str:
    return f"{op.name}: {op.summary}; {', '.join(op.sizes)}; {', '.join(c.name for c in op.contenders)}"


def _seconds(value: float) -> str:
    return f"{value:8.3f}s" if value >= 0.1 else f"{value * 1e3:7.2f}ms"


def _stage(found: dict) -> str:
    peak = f", {_megabytes(found['cuda_peak']).strip()} on the device" if "cuda_peak" in found else ""
    return _seconds(found["wall_median"]).strip() + peak


def _megabytes(value: int | None) -> str:
    return f"{'?':>9}" if value is None else f"{value / 1e6:7.0f}MB"
