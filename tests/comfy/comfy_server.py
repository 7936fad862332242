"""The one real ComfyUI of a run, which the host and the browser tests share: our pack and a pack of broken inputs."""

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from comfy_graphs import RANDOM, ROOT, SMALL

from sightline.cli import headless
from sightline.models.sparsegen import SparseGen, save_sparsegen

HERE = Path(__file__).parent
BROKEN_PACK = "sightline_test_inputs"


class Runs:
    """Leaves a mark where a pickle that holds it is executed."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def write_weights(folder: Path) -> None:
    """Good weights with random values, and some that have to be refused."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = SparseGen(SMALL)
    save_sparsegen(network, folder / RANDOM)
    data = (folder / RANDOM).read_bytes()
    (folder / "cut_short.safetensors").write_bytes(data[: len(data) // 2])
    torch.save({"diffuser": {f"reconstructor.{k}": v for k, v in network.state_dict().items()}}, folder / "whole.pth")
    data = (folder / "whole.pth").read_bytes()
    (folder / "cut_short.pth").write_bytes(data[: len(data) // 2])
    torch.save({"diffuser": Runs(folder / "executed")}, folder / "foreign_globals.pth")
    (folder / "empty.safetensors").write_bytes(b"")
    from safetensors.torch import save_file

    save_file({"model.diffusion_model.weight": torch.zeros(4, 4)}, str(folder / "other_network.safetensors"))


class Hub(BaseHTTPRequestHandler):
    """Stands for the hub of weights: configurations at once, anything else without end; the server lists `asked`."""

    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(200)
        body = b"{}" if self.path.endswith(".json") else None
        self.send_header("Content-Length", str(len(body) if body else 1_212_559_808))
        self.end_headers()
        try:
            while body is None:
                self.wfile.write(bytes(1 << 20))
                time.sleep(0.1)
            self.wfile.write(body)
        except OSError:  # the other side has gone
            pass

    def log_message(self, *arguments):
        pass


def running_server(tmp_path_factory):
    """Yield the server (`sightline.cli.headless.Server`), with on a free port; skip without ComfyUI."""
    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    base = tmp_path_factory.mktemp("comfyui")
    write_weights(base / "models" / "sparsegen")
    (base / "custom_nodes").mkdir()
    headless.link(base / "custom_nodes" / BROKEN_PACK, HERE / "broken_inputs")
    hub = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    hub.daemon_threads, hub.asked = True, []
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    variables = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "no_proxy": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    packs = ("--whitelist-custom-nodes", headless.PACK_NAME, BROKEN_PACK)
    with headless.start(
        tree.path, base, pack=ROOT, python=sys.executable, device="cpu", extra=packs, env=variables
    ) as running:
        running.hub = hub
        for picture in sorted((ROOT / "workflows" / "inputs").glob("*.png")):
            running.upload(picture)
        yield running
