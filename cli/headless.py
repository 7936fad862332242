"""Run ComfyUI without a browser: find it, start it, post a workflow, wait, stop. Standard library only.

    from sightline.cli import headless

    tree = headless.find_comfyui()                     # None where there is no ComfyUI (see there for the order)
    with headless.start(tree.path, base, pack=repository, python=sys.executable) as server:
        name = server.upload("chair.png")              # into the input folder; the name is what LoadImage takes
        run = server.run(workflow)                     # API format; blocks; raises Rejected, Failed or Interrupted
        run.files                                      # paths of everything that was written
        run.outputs["7"]["text"]                       # what node 7 showed
        run.cached                                     # ids of nodes that were not run again
        server.run(workflow, on_event=print)           # every event of the WebSocket: progress, executing, ...
        server.interrupt()                             # from on_event or another thread
        server.object_info("SightlineSelfCheck")       # a node's schema

``base`` is a folder of our own: input, output, temp, user, models and custom_nodes lie in it, and ``pack`` is linked
into the last. Nothing is written into the ComfyUI tree, so any installed ComfyUI may serve, and several servers may run
at once (each with its own ``base``; the port is a free one). Other packs of the tree are not loaded.

``install.py`` uses this file before there is an environment: it imports neither ComfyUI nor anything but Python's own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from .events import Events

FLOOR = (0, 30)
PACK_NAME = "ComfyUI-Sightline"
FOLDERS = ("input", "output", "temp", "user", "models", "custom_nodes")


class HeadlessError(RuntimeError):
    """Something about the server or the run; the message is a sentence for the user."""


class StartFailed(HeadlessError):
    """The server ended or did not answer in time."""


class Rejected(HeadlessError):
    """The workflow was not accepted. ``node_errors``: {node id: {"class_type", "errors": [...]}}."""

    def __init__(self, message: str, node_errors: dict):
        super().__init__(message)
        self.node_errors = node_errors


class Failed(HeadlessError):
    """A node raised. ``node_id``, ``node_type``, ``exception_type`` and ``exception_message`` say where and what."""

    def __init__(self, details: dict):
        self.node_id = details.get("node_id")
        self.node_type = details.get("node_type")
        self.exception_type = details.get("exception_type", "")
        self.exception_message = (details.get("exception_message") or "").strip()
        super().__init__(f"Node {self.node_id} ({self.node_type}) failed: {self.exception_message}")


class Interrupted(HeadlessError):
    """The run was interrupted."""


@dataclass(frozen=True)
class Tree:
    """A ComfyUI on disk. ``origin`` says how it was found."""

    path: Path
    version: tuple[int, ...]
    origin: str

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))


def read_tree(path: Path | str, origin: str) -> Tree | None:
    """The ComfyUI at ``path``, or None if there is none."""
    path = Path(path).expanduser()
    marker = path / "comfyui_version.py"
    if not ((path / "main.py").is_file() and (path / "folder_paths.py").is_file() and marker.is_file()):
        return None
    found = re.search(r"__version__\s*=\s*[\"']([0-9.]+)", marker.read_text(encoding="utf-8"))
    return Tree(path.resolve(), tuple(int(n) for n in found[1].split(".") if n) if found else (0,), origin)


def find_comfyui(pack: Path | None = None, home: Path | None = None) -> Tree | None:
    """Look for ComfyUI: ``$COMFYUI_PATH``, the one ``pack`` sits in, ``~/comfy/ComfyUI``.

    Raises HeadlessError if ``$COMFYUI_PATH`` is set but names no usable ComfyUI. Others that are older than the floor
    are passed over.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        tree = read_tree(named, "$COMFYUI_PATH")
        if tree is None:
            raise HeadlessError(f"COMFYUI_PATH is {named}, but no ComfyUI (main.py, comfyui_version.py) lies there.")
        if tree.version < FLOOR:
            floor = ".".join(map(str, FLOOR))
            raise HeadlessError(f"COMFYUI_PATH is ComfyUI {tree.version_text}, but {floor} or newer is needed.")
        return tree
    pack = Path(os.path.abspath(pack or Path(__file__).parents[1]))
    candidates = [(pack.parent.parent, "the ComfyUI this folder sits in")] if pack.parent.name == "custom_nodes" else []
    candidates.append(((home or Path.home()) / "comfy" / "ComfyUI", "~/comfy/ComfyUI"))
    for path, origin in candidates:
        tree = read_tree(path, origin)
        if tree and tree.version >= FLOOR:
            return tree
    return None


@dataclass
class Run:
    """What became of one workflow."""

    prompt_id: str
    outputs: dict
    messages: list
    files: list[Path]
    seconds: float
    cached: set[str] = field(default_factory=set)


class Server:
    """A running ComfyUI; see the module's docstring."""

    def __init__(
        self,
        url: str,
        base: Path,
        process: subprocess.Popen | None = None,
        log: Path | None = None,
        output: Path | None = None,
    ):
        self.url, self.base, self.process, self.log = url.rstrip("/"), Path(base), process, log
        self.output = Path(output) if output else self.base / "output"

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc) -> None:
        self.stop()

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    def request(self, path: str, data: bytes | None = None, kind="application/json", timeout: float = 60) -> bytes:
        """GET ``path``, or POST ``data`` to it.

        Raises urllib.error.HTTPError for a refusal, HeadlessError if the server has ended, OSError for other failures.
        """
        request = urllib.request.Request(self.url + path, data=data, headers={"Content-Type": kind} if data else {})
        try:
            with DIRECT.open(request, timeout=timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.2)  # a process that just died needs a moment until its end can be seen
            self.must_live()
            raise

    def get(self, path: str):
        return json.loads(self.request(path))

    def post(self, path: str, payload: dict):
        answer = self.request(path, json.dumps(payload).encode())
        return json.loads(answer) if answer else None

    def object_info(self, node: str | None = None) -> dict:
        """All node schemas, or the one of ``node``."""
        return self.get("/object_info" + (f"/{urllib.parse.quote(node)}" if node else ""))

    def upload(self, path: Path | str, name: str | None = None) -> str:
        """Put a picture into the input folder under ``name`` (replacing one of that name); returns the name to use."""
        path = Path(path)
        boundary, name = uuid.uuid4().hex, name or path.name
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{boundary}\r\n'
        head += f'Content-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = json.loads(self.request("/upload/image", body, f"multipart/form-data; boundary={boundary}"))
        return "/".join(filter(None, (answer.get("subfolder"), answer["name"])))

    def interrupt(self) -> None:
        """Ask the running workflow to stop."""
        self.request("/interrupt", b"{}")

    def free(self) -> None:
        """Drop cached results and loaded models before the next run."""
        self.post("/free", {"unload_models": True, "free_memory": True})

    # -- workflows ----------------------------------------------------------------------------------------------------

    def queue(self, workflow: dict, client_id: str | None = None) -> str:
        """Queue a workflow in API format; returns its id or raises Rejected."""
        try:
            answer = self.post("/prompt", {"prompt": workflow, "client_id": client_id or uuid.uuid4().hex})
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            answer = json.loads(error.read())
            raise Rejected(*rejection(answer)) from None
        return answer["prompt_id"]

    def run(self, workflow: dict, timeout: float = 600, on_event=None) -> Run:
        """Queue a workflow and wait for its end.

        on_event: called with every event ({"type": ..., "data": {...}}) of the server's WebSocket meanwhile.
        Raises Rejected, Failed, Interrupted, or HeadlessError after ``timeout`` seconds or when the server is gone.
        """
        client, started = uuid.uuid4().hex, time.monotonic()
        events = Events(self.url, client) if on_event else None
        try:
            prompt_id = self.queue(workflow, client)
            while (entry := self.finished(prompt_id)) is None:
                self.check(started, timeout)
                if events is None:
                    time.sleep(0.05)
                elif (event := events.next(0.25)) is not None:
                    on_event(event)
            while events and (event := events.next(0.05)) is not None:  # what came in while it ended
                on_event(event)
        finally:
            if events:
                events.close()
        return self.judge(prompt_id, entry, time.monotonic() - started)

    def wait(self, prompt_id: str, timeout: float = 600) -> Run:
        """Wait for a workflow that ``queue`` accepted; raises like ``run``."""
        started = time.monotonic()
        while (entry := self.finished(prompt_id)) is None:
            self.check(started, timeout)
            time.sleep(0.05)
        return self.judge(prompt_id, entry, time.monotonic() - started)

    def finished(self, prompt_id: str) -> dict | None:
        """The history entry of a workflow once it has ended."""
        entry = self.get(f"/history/{prompt_id}").get(prompt_id)
        return entry if entry and entry.get("status") else None

    def must_live(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            raise HeadlessError(f"ComfyUI ended with code {self.process.returncode}.\n{self.tail()}")

    def check(self, started: float, timeout: float) -> None:
        self.must_live()
        if time.monotonic() - started > timeout:
            self.interrupt()
            raise HeadlessError(f"The workflow did not finish within {timeout:.0f} seconds.")

    def judge(self, prompt_id: str, entry: dict, seconds: float) -> Run:
        messages = entry["status"].get("messages", [])
        said = {kind: data for kind, data in messages}
        if "execution_interrupted" in said:
            raise Interrupted("The workflow was interrupted.")
        if "execution_error" in said:
            raise Failed(said["execution_error"])
        if entry["status"].get("status_str") != "success":
            raise HeadlessError(f"The workflow ended as {entry['status'].get('status_str')!r}.\n{self.tail()}")
        outputs = entry.get("outputs", {})
        cached = set(said.get("execution_cached", {}).get("nodes", ()))
        return Run(prompt_id, outputs, messages, self.files(outputs), seconds, cached)

    def files(self, outputs: dict) -> list[Path]:
        """The files that the outputs of a run name."""
        found = []
        for shown in outputs.values():
            for entries in shown.values():
                for item in entries if isinstance(entries, list) else ():
                    if isinstance(item, dict) and "filename" in item:
                        kind = item.get("type", "output")
                        room = self.output if kind == "output" else self.base / kind
                        found.append(room / item.get("subfolder", "") / item["filename"])
        return found

    # -- the process --------------------------------------------------------------------------------------------------

    def tail(self, lines: int = 15) -> str:
        """The end of the server's log."""
        if self.log is None or not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def stop(self, patience: float = 10) -> None:
        """End the server (if it is ours) and wait until it is gone."""
        if self.process is None or self.process.poll() is not None:
            return
        for end in (end_politely, end_at_once):
            end(self.process)
            try:
                self.process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue


def rejection(answer: dict) -> tuple[str, dict]:
    """One sentence and the per-node errors of a refused workflow."""
    error, nodes = answer.get("error", {}), answer.get("node_errors", {})
    reasons = [error.get("message", "")] if isinstance(error, dict) else [str(error)]
    for node, entry in nodes.items():
        for problem in entry.get("errors", ()):
            what = f"{problem['message']} {problem.get('details', '')}"
            reasons.append(f"node {node} ({entry.get('class_type')}): {what}")
    return "ComfyUI refused the workflow: " + "; ".join(r.strip() for r in reasons if r), nodes


def start(
    comfyui: Path | str,
    base: Path | str,
    pack: Path | str | None = None,
    python: str = sys.executable,
    device: str = "auto",
    output: Path | str | None = None,
    extra: tuple[str, ...] = (),
    timeout: float = 180,
    env: dict | None = None,
) -> Server:
    """Start ComfyUI from the tree ``comfyui`` with all its folders in ``base``, and return once it answers.

    pack: the node pack to link in and load (only it); None loads no pack. python: the interpreter that has ComfyUI's
    requirements. device: "cpu", "gpu", or "auto" = what torch of that interpreter finds. output: where results go
    instead of ``base/output``. extra: further arguments of ComfyUI's main.py. env: variables to add.
    Raises StartFailed with the end of the log.
    """
    comfyui, base = Path(comfyui).resolve(), Path(base).resolve()
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    arguments = ["--base-directory", str(base), "--user-directory", str(base / "user")]
    arguments += ["--database-url", "sqlite:///" + (base / "user" / "comfyui.db").as_posix()]
    arguments += ["--listen", "127.0.0.1", "--disable-auto-launch", "--disable-api-nodes", "--disable-all-custom-nodes"]
    if pack is not None:
        link(base / "custom_nodes" / PACK_NAME, Path(pack).resolve())
        arguments += ["--whitelist-custom-nodes", PACK_NAME]
    if output is not None:
        output = Path(output).resolve()
        output.mkdir(parents=True, exist_ok=True)
        arguments += ["--output-directory", str(output)]
    if device == "cpu" or (device == "auto" and not has_accelerator(python)):
        arguments.append("--cpu")
    # Waiting threads sleep: spinning ones make a busy machine up to 100 times slower.
    variables = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    variables |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", **(env or {})}
    log = base / "user" / "server.log"
    for attempt in range(3):  # a free port may be taken by someone else before the server binds it
        port = free_port()
        command = [python, str(comfyui / "main.py"), *arguments, "--port", str(port), *extra]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=base, env=variables,
                start_new_session=os.name == "posix",
            )  # fmt: skip
        server = Server(f"http://127.0.0.1:{port}", base, process, log, output)
        try:
            await_answer(server, timeout)
            if pack is not None:
                check_pack(server)
            return server
        except StartFailed:
            server.stop()
            if attempt == 2 or "address already in use" not in server.tail(60).lower():
                raise
        except BaseException:
            server.stop()
            raise


def await_answer(server: Server, timeout: float) -> None:
    started = time.monotonic()
    while time.monotonic() - started < timeout:
        if server.process.poll() is not None:
            raise StartFailed(f"ComfyUI ended with code {server.process.returncode} at start.\n{server.tail()}")
        try:
            server.request("/system_stats", timeout=5)
            return
        except (OSError, HeadlessError):
            time.sleep(0.1)
    raise StartFailed(f"ComfyUI did not answer within {timeout:.0f} seconds.\n{server.tail()}")


def check_pack(server: Server) -> None:
    """Raise StartFailed, with the traceback, if ComfyUI could not import the pack."""
    log = server.tail(100_000)
    if re.search(rf"IMPORT FAILED.*{PACK_NAME}", log):
        traceback = log[max(log.find("Traceback"), 0) : log.find("Import times")]
        raise StartFailed(f"ComfyUI could not import the node pack.\n{traceback[-2000:].strip()}")


def link(place: Path, target: Path) -> None:
    """Make the folder ``place`` lead to ``target`` (a junction on Windows, which needs no privilege)."""
    if place.resolve() == target:
        return
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        raise StartFailed(f"{place} is in the way: it is not a link to {target}.")
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(place))
    else:
        place.symlink_to(target, target_is_directory=True)


def has_accelerator(python: str) -> bool:
    """Whether torch of that interpreter sees a GPU (CUDA or ROCm, Intel, Apple)."""
    probe = (
        "import torch; xpu = getattr(torch, 'xpu', None); mps = getattr(torch.backends, 'mps', None);"
        "print(int(torch.cuda.is_available() or bool(xpu and xpu.is_available()) or bool(mps and mps.is_available())))"
    )
    answer = subprocess.run([python, "-c", probe], capture_output=True, text=True)
    return answer.returncode == 0 and answer.stdout.strip() == "1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_politely(process: subprocess.Popen) -> None:
    process.terminate()


def end_at_once(process: subprocess.Popen) -> None:
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the server is on this machine: no proxy
