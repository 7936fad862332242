"""The command line: `python -m sightline COMMAND ...` (or `sightline COMMAND ...`).

A command is a module or package of `cli` that is named in `COMMANDS` and has two functions:

    def add_parser(subparsers) -> None:
        parser = subparsers.add_parser("bench", help="one line", description=__doc__)
        parser.add_argument(...)
        parser.set_defaults(run=run)

    def run(args: argparse.Namespace) -> int | None:   # the exit code, None = 0
        import torch                                    # everything heavy is imported here, so that --help is instant
        ...

What `run` raises decides how the program ends:

| raised | printed on stderr | exit code |
|---|---|---|
| InputError, MissingDependency, an OSError about a file | its one sentence | 2 |
| KeyboardInterrupt, Interrupted, SIGTERM | "Stopped; nothing was written." | 130 |
| anything else | the traceback: it is our mistake | 1 |

Results go to stdout, progress (`cli.progress.Progress`) and messages to stderr.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from ..scene.errors import InputError, Interrupted, MissingDependency

COMMANDS = (
    "seethrough3d", "sparsegen", "pixal3d", "trellis2", "texture", "genrecon", "download", "dataset", "train",
    "relaxflow", "sam3d", "layout", "finish", "bake", "bench", "selfcheck",
)  # fmt: skip


class OneLineParser(argparse.ArgumentParser):
    """argparse, but a wrong command line is answered by one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command registered."""
    parser = OneLineParser(prog="sightline", description="Images to 3D: splats, meshes and scenes.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=OneLineParser)
    for name in COMMANDS:
        importlib.import_module(f".{name}", __package__).add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see the module's table)."""
    # Before torch is imported: threads that wait by sleeping. Spinning ones make a busy machine up to 100 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    previous = _stop_on_sigterm()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # warnings of libraries are for developers: python -W default shows them
                warnings.simplefilter("ignore")
            return int(args.run(args) or 0)
    except (KeyboardInterrupt, Interrupted):
        return _say("Stopped; nothing was written.", 130)
    except (InputError, MissingDependency) as error:
        return _say(str(error), 2)
    except BrokenPipeError:  # the reader of our output went away (`| head`); not worth a message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        return _say(f"{error.filename}: {error.strerror}.", 2)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)


def _say(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code


def _stop_on_sigterm():
    """Let SIGTERM end us as Ctrl+C does, so that temporary files are removed; returns the former handler."""

    def stop(number, frame):
        raise KeyboardInterrupt

    try:
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: whoever called us owns the signals
        return None
