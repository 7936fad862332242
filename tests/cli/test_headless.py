"""The headless client against a small stand-in for ComfyUI's main.py (the real one is used by tests/comfy)."""

import json
import struct
from pathlib import Path

import pytest

from sightline.cli import headless
from sightline.cli.events import Events

STAND_IN = """
import http.server, json, os, sys
arg = lambda name: sys.argv[sys.argv.index(name) + 1]
BASE, history = arg("--base-directory"), {}
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *a): pass
    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code); self.end_headers(); self.wfile.write(body)
    def do_GET(self):
        if self.path == "/system_stats": return self.answer(200, {"argv": sys.argv[1:], "cwd": os.getcwd()})
        self.answer(200, history if self.path.startswith("/history/") else {})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path != "/prompt": return self.answer(200, {})
        kind = body["prompt"]["1"]["class_type"]
        if kind == "Unknown":
            errors = {"1": {"class_type": kind, "errors": [{"message": "no such thing", "details": "x"}]}}
            return self.answer(400, {"error": {"message": "not valid"}, "node_errors": errors})
        if kind == "Dies": os._exit(7)
        messages = [["execution_cached", {"nodes": ["9"]}]]
        if kind == "Raises":
            messages += [["execution_error", {"node_id": "1", "node_type": kind, "exception_message": "bad pixels"}]]
        if kind == "Stops": messages += [["execution_interrupted", {}]]
        files = [{"filename": "a.png", "subfolder": "s", "type": t} for t in ("output", "temp")]
        status = {"status_str": "error" if len(messages) > 1 else "success", "messages": messages}
        outputs = {"1": {"images": files, "animated": [True]}}
        if kind != "Endless": history["id"] = {"outputs": outputs, "status": status}
        self.answer(200, {"prompt_id": "id"})
print("stand-in is up")
for line in os.environ.get("STAND_IN_LOG", "").split("|"): print(line, flush=True)
if os.environ.get("STAND_IN_EXIT"): sys.exit("cannot start: out of unicorns")
http.server.ThreadingHTTPServer(("127.0.0.1", int(arg("--port"))), Handler).serve_forever()
"""


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_tree(tmp_path / "ComfyUI", "0.33.0")


def make_tree(path: Path, version: str) -> Path:
    path.mkdir(parents=True)
    (path / "main.py").write_text(STAND_IN)
    (path / "folder_paths.py").write_text("")
    (path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return path


def workflow(kind: str) -> dict:
    return {"1": {"class_type": kind, "inputs": {}}}


def test_runs_a_workflow_and_names_its_files(tree, tmp_path):
    pack = tmp_path / "pack"
    pack.mkdir()
    with headless.start(tree, tmp_path / "base", pack=pack, device="cpu", output=tmp_path / "out") as server:
        argv = server.get("/system_stats")["argv"]
        run = server.run(workflow("Good"))
        assert run.files == [tmp_path / "out" / "s" / "a.png", tmp_path / "base" / "temp" / "s" / "a.png"]
        assert run.cached == {"9"}
        assert "--cpu" in argv and argv[argv.index("--whitelist-custom-nodes") + 1] == headless.PACK_NAME
    assert (tmp_path / "base" / "custom_nodes" / headless.PACK_NAME).resolve() == pack
    assert server.process.poll() is not None
    assert sorted(p.name for p in tree.iterdir()) == ["comfyui_version.py", "folder_paths.py", "main.py"]


def test_what_goes_wrong_is_told_apart(tree, tmp_path):
    with headless.start(tree, tmp_path / "base", device="cpu") as server:
        with pytest.raises(headless.Rejected, match=r"node 1 \(Unknown\): no such thing x") as rejected:
            server.run(workflow("Unknown"))
        assert rejected.value.node_errors["1"]["class_type"] == "Unknown"
        with pytest.raises(headless.Failed, match=r"Node 1 \(Raises\) failed: bad pixels"):
            server.run(workflow("Raises"))
        with pytest.raises(headless.Interrupted):
            server.run(workflow("Stops"))
    with headless.start(tree, tmp_path / "base", device="cpu") as server:
        with pytest.raises(headless.HeadlessError, match="did not finish within 0 seconds"):
            server.run(workflow("Endless"), timeout=0.2)
        with pytest.raises(headless.HeadlessError, match="ended with code 7"):
            server.run(workflow("Dies"))


def test_a_server_that_ends_at_start_shows_its_log(tree, tmp_path):
    with pytest.raises(headless.StartFailed, match="out of unicorns"):
        headless.start(tree, tmp_path / "base", device="cpu", env={"STAND_IN_EXIT": "1"})


def test_a_pack_that_cannot_be_imported_is_an_error(tree, tmp_path):
    log = f"Traceback (most recent call last):|NameError: x|Import times:| 0 s (IMPORT FAILED): /{headless.PACK_NAME}"
    with pytest.raises(headless.StartFailed, match="could not import the node pack(.|\n)*NameError: x"):
        headless.start(tree, tmp_path / "base", pack=tmp_path, device="cpu", env={"STAND_IN_LOG": log})


def test_a_foreign_folder_in_the_place_of_the_link_is_kept(tmp_path):
    place = tmp_path / "custom_nodes" / "X"
    place.mkdir(parents=True)
    (place / "precious.txt").write_text("mine")
    with pytest.raises(headless.StartFailed, match="in the way"):
        headless.link(place, tmp_path)
    assert (place / "precious.txt").read_text() == "mine"


def test_finds_comfyui_in_order(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    home, around = tmp_path / "home", tmp_path / "around"
    pack = around / "custom_nodes" / "ComfyUI-Sightline"
    assert headless.find_comfyui(pack, home) is None
    make_tree(home / "comfy" / "ComfyUI", "0.30.1")
    assert headless.find_comfyui(pack, home).version == (0, 30, 1)
    make_tree(around, "0.33.0")
    assert headless.find_comfyui(pack, home).path == around.resolve()
    named = make_tree(tmp_path / "named", "0.40.0")
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert headless.find_comfyui(pack, home).path == named.resolve()


def test_passes_over_what_is_too_old_but_not_silently_if_named(tmp_path, monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    old = make_tree(tmp_path / "comfy" / "ComfyUI", "0.3.60")
    assert headless.find_comfyui(tmp_path / "pack", tmp_path) is None
    monkeypatch.setenv("COMFYUI_PATH", str(old))
    with pytest.raises(headless.HeadlessError, match=r"ComfyUI 0\.3\.60, but 0\.30 or newer"):
        headless.find_comfyui(tmp_path / "pack", tmp_path)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(headless.HeadlessError, match="no ComfyUI"):
        headless.find_comfyui(tmp_path / "pack", tmp_path)


@pytest.mark.parametrize("size", [3, 125, 126, 65535, 65536, 70000])
def test_reads_events_however_they_are_cut(size):
    payload = json.dumps({"type": "x" * size}).encode()
    length = len(payload)
    head = bytes([length]) if length < 126 else struct.pack(">BH", 126, length) if length < 65536 else None
    text = b"\x81" + (head or struct.pack(">BQ", 127, length)) + payload
    stream = b"\x82\x02\x00\x01" + text + text  # a preview, then two events

    class Socket:
        def __init__(self):
            self.left = stream

        def settimeout(self, seconds):
            pass

        def recv(self, _):
            if not self.left:
                raise TimeoutError
            block, self.left = self.left[:7919], self.left[7919:]
            return block

    events = Events.__new__(Events)
    events.socket, events.buffer = Socket(), b""
    assert events.next(1)["type"] == events.next(1)["type"] == "x" * size
    assert events.next(1) is None
