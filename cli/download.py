"""Published weights onto this machine, only when asked.

Without --accept-licence the licences, files and sizes are shown and nothing is fetched. A transfer that broke off is
continued by the same command. Files that lie in a folder of --search, or in the models folder of the ComfyUI that is
found here, are used instead of fetched where name and size agree.

  python -m sightline download list
  python -m sightline download pixal3d --accept-licence
  HF_ENDPOINT=https://my.mirror python -m sightline download trellis2 --to /models --accept-licence
"""

from __future__ import annotations

import argparse
import sys


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "download",
        help="get published weights (nothing else ever downloads any)",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("name", metavar="NAME", help="a set of weights, or `list` for all of them")
    add("--to", metavar="DIR", help="folder of the weights (default: $SIGHTLINE_WEIGHTS or the user's cache folder)")
    add("--search", action="append", default=[], metavar="DIR", help="folder with weights to use instead; repeatable")
    add("--accept-licence", action="store_true", help="the licences shown are accepted; fetch the files")
    add("--alone", action="store_true", help="leave out the further sets that this one needs")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show, ask, fetch."""
    from ..models.download import default_folder, get, plan, size_text, total_text
    from ..scene.errors import InputError
    from .progress import Progress

    folder = args.to or default_folder()
    if args.name == "list":
        return show_all(folder)
    chosen, brought = with_needs(args.name, args.alone)
    items = plan(chosen, folder, [folder, *args.search, *comfyui_models()])  # sets share files
    missing = [item for item in items if item.found is None]
    if missing:
        for one in chosen:
            print(f"{one.name}: {one.title}\n  licence: {one.licence}\n  from: {one.source}", file=sys.stderr)
        for one in brought:
            print(f"needs, and you bring: {one.title}, {one.licence}, {one.source}", file=sys.stderr)
    elsewhere = [item for item in items if item.found not in (None, item.target)]
    for item in elsewhere:
        print(f"found: {item.found}", file=sys.stderr)
    if missing and not args.accept_licence:
        for item in missing:
            print(f"  {size_text(item.file.bytes):>9}  {item.file.repo}/{item.file.name}", file=sys.stderr)
        raise InputError(
            f"{total_text(missing)} in {len(missing)} files would go to {folder}; "
            "read the licences above and add --accept-licence to fetch them."
        )
    for number, item in enumerate([*elsewhere, *missing], 1):
        label = f"{number}/{len(elsewhere) + len(missing)} {item.target.name}"
        with Progress(label, args.progress, unit="B") as progress:
            get(item, progress)
    print(
        f"{', '.join(one.name for one in chosen)}: {len(items)} files in {folder}, {len(missing)} of them fetched now"
    )
    return 0


def with_needs(name: str, alone: bool = False):
    """The set called `name` with the ones it needs, and those the user brings; InputError for an unknown name."""
    from ..pipelines.published import find, needs

    chosen = find(name)
    fetched, brought = needs(chosen)
    return [chosen, *([] if alone else fetched)], brought


def show_all(folder) -> int:
    """A line for each set: name, what is there, size, licence, purpose."""
    from ..models.download import plan, total_text
    from ..pipelines.published import SETS

    for one in SETS:
        items = plan([one], folder)
        there = sum(item.found is not None for item in items)
        state = "here" if there == len(items) else "not here" if not there else f"{there} of {len(items)} files here"
        needs = f"; needs {', '.join(one.needs)}" if one.needs else ""
        print(f"{one.name}: {state}, {total_text(items)}, {one.licence}\n    {one.domain}{needs}")
    print(f"folder: {folder}")
    return 0


def comfyui_models() -> list:
    """The models folder of the ComfyUI that is found on this machine, if there is one."""
    from .headless import HeadlessError, find_comfyui

    try:
        tree = find_comfyui()
    except HeadlessError:
        return []
    return [tree.path / "models"] if tree is not None else []
