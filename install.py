"""Set Sightline up and show it: ``python3 install.py demo``, ``python3 install.py test``, ``python3 install.py``.

demo    make an environment, find or fetch ComfyUI, run shipped workflows on it, print where the results lie
test    make the same environment with the test tools, run all tests (further arguments go to pytest)
(none)  install nothing; print the self check (this is what ComfyUI-Manager calls)

Everything is made inside this folder (``.venv``, ``.sightline``, ``results``), except ComfyUI itself: where none is
found (``$COMFYUI_PATH``, the one around this folder, ``~/comfy/ComfyUI``) it is put into ``~/comfy/ComfyUI``. A found
ComfyUI and a found Python environment are used as they are, never changed. What is done once is not done again; an
interrupted run is taken up where it stopped.

Variables: COMFYUI_PATH = the ComfyUI to use; SIGHTLINE_TORCH_INDEX = the package index to take torch from
(for example that of a ROCm or XPU build); pip's own settings and variables hold as always.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036
    sys.exit(f"Sightline needs Python 3.10 or newer; this is {sys.version.split()[0]}.")

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "_install"))

from comfyui import provide_comfyui  # noqa: E402
from environment import environment, venv_python  # noqa: E402
from running import ROOM, Failure, alone, say  # noqa: E402

sys.path.pop(0)

RESULTS = ROOT / "results"
WORKFLOWS = ROOT / "workflows" / "api"
SHOWN = {"sparsegen": (None,), "pixal3d": ("pixal3d_chair.png", "pixal3d_mug.png", "pixal3d_lamp.png")}


def load_package() -> None:
    """Make ``import sightline.cli`` work from this folder, whatever its name, before anything is installed."""
    spec = importlib.util.spec_from_file_location("sightline", ROOT / "__init__.py")
    sys.modules["sightline"] = importlib.util.module_from_spec(spec)


def demo() -> int:
    """Run the shipped workflows on shipped pictures in a headless ComfyUI and print the results' paths."""
    from sightline.cli import headless

    started, kept = time.monotonic(), []
    with alone():
        tree = provide_comfyui(headless)
        python = environment(tree, tests=False)
        base = ROOM / "demo"
        (base / "input").mkdir(parents=True, exist_ok=True)
        for picture in sorted((ROOT / "workflows" / "inputs").glob("*.png")):
            shutil.copyfile(picture, base / "input" / picture.name)
        say("Starting ComfyUI.")
        try:
            with headless.start(tree.path, base, pack=ROOT, python=python, output=RESULTS) as server:
                for name, pictures in SHOWN.items():
                    for picture in pictures:
                        workflow = with_picture(name, picture)
                        say(f"Running workflows/api/{name}.json{f' with {picture}' if picture else ''}.")
                        result = server.run(workflow, timeout=1800, on_event=Narrator(workflow))
                        found = [path for path in result.files if RESULTS in path.parents]
                        if not found:
                            raise Failure(f"{name} ended without a result; see {base / 'user' / 'server.log'}.")
                        say(f"  {result.seconds:.1f} s")
                        kept += found
        except headless.HeadlessError as error:
            raise Failure(f"{error}\nThe server's log is {base / 'user' / 'server.log'}.") from None
    say(f"Done in {time.monotonic() - started:.0f} s.\n")
    for path in kept:
        say(f"{path}  ({path.stat().st_size / 1024:.0f} kB)")
    return 0


def with_picture(name: str, picture: str | None) -> dict:
    """A shipped workflow, with another of the shipped pictures in its Example Picture node."""
    workflow = json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow.values():
        if picture and node["class_type"] == "SightlineExamplePicture":
            node["inputs"]["picture"] = picture
    return workflow


class Narrator:
    """Says what ComfyUI does: each node once, with its progress where the terminal can show it."""

    def __init__(self, workflow: dict):
        self.titles = {n: node.get("_meta", {}).get("title") or node["class_type"] for n, node in workflow.items()}

    def __call__(self, event: dict) -> None:
        data = event.get("data", {})
        if event.get("type") == "executing" and data.get("node") in self.titles:
            say(f"  {self.titles[data['node']]}")
        elif event.get("type") == "progress" and sys.stdout.isatty():
            print(f"\r    {data['value']}/{data['max']}   \r", end="", flush=True)


def test(arguments: list[str]) -> int:
    """Run all tests in the environment."""
    from sightline.cli import headless

    with alone():
        tree = provide_comfyui(headless)
        python = environment(tree, tests=True)
    env = {**os.environ, "COMFYUI_PATH": str(tree.path)}
    return subprocess.call([python, "-m", "pytest", *arguments], cwd=ROOT, env=env)


def self_check() -> int:
    """Print the self check of the Python that runs us, or of ``.venv``; installs nothing and never fails."""
    if importlib.util.find_spec("torch") is not None:
        from sightline.cli.main import main as command_line

        command_line(["selfcheck"])
    elif venv_python().exists():
        subprocess.call([str(venv_python()), "-m", "sightline", "selfcheck"], cwd=ROOT)
    else:
        say(
            f"Sightline is here, but this Python ({sys.executable}) has no torch: run me with ComfyUI's Python, or try "
            "`python3 install.py demo`, which makes an environment of its own."
        )
    return 0


def main(arguments: list[str]) -> int:
    """The exit code of ``install.py ARGUMENTS``."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server we started is stopped
    load_package()
    from sightline.cli.headless import HeadlessError

    command, rest = (arguments or [""])[0], arguments[1:]
    try:
        if command == "test":
            return test(rest)
        if command == "demo" and not rest:
            return demo()
        if not arguments:
            return self_check()
        say(__doc__)
        return 0 if command in ("-h", "--help", "help") else 2
    except (Failure, HeadlessError) as failure:
        print(f"\n{failure}", file=sys.stderr)
    except OSError as error:
        print(f"\n{error.filename or 'Error'}: {error.strerror}.", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. The next run takes it up from here.", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
