"""The one real ComfyUI of a run, which the host and the browser tests share: our pack and a pack of broken inputs."""

import os
import sys
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


def running_server(tmp_path_factory):
    """Yield the server (`sightline.cli.headless.Server`), with on a free port; skip without ComfyUI."""
    tree = headless.find_comfyui()
    if tree is None:
        pytest.skip("there is no ComfyUI here (set COMFYUI_PATH)")
    base = tmp_path_factory.mktemp("comfyui")
    write_weights(base / "models" / "sparsegen")
    (base / "custom_nodes").mkdir()
    headless.link(base / "custom_nodes" / BROKEN_PACK, HERE / "broken_inputs")
    packs = ("--whitelist-custom-nodes", headless.PACK_NAME, BROKEN_PACK)
    with headless.start(
        tree.path, base, pack=ROOT, python=sys.executable, device="cpu", extra=packs, env={"OMP_NUM_THREADS": "1"}
    ) as running:
        for picture in sorted((ROOT / "workflows" / "inputs").glob("*.png")):
            running.upload(picture)
        yield running
