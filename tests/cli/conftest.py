import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A SparseGen of random numbers, small enough for a run in a few hundredths of a second."""
    from sightline.models.sparsegen import SparseGen, SparseGenConfig, save_sparsegen

    torch.manual_seed(0)
    config = SparseGenConfig(
        embed_dims=32, depth_num=8, num_query=16, num_gs_per_query=4, num_encoder_layers=1, num_decoder_layers=1,
        num_heads=4, ffn_dims=64, head_sets=1, vit_dims=24, vit_depth=1, vit_heads=2, vit_mlp_dims=48, vit_grid=8,
        patch_size=8, image_size=64, input_size=64, ray_convention="centered",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_sparsegen(SparseGen(config), path)
    return path


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """A red disk on nothing, 48x48 with transparency."""
    y, x = np.mgrid[:48, :48] - 23.5
    array = np.zeros((48, 48, 4), np.uint8)
    array[..., 0] = 220
    array[..., 3] = 255 * (x**2 + y**2 < 15**2)
    path = tmp_path_factory.mktemp("pictures") / "disk.png"
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def run(capsys):
    """Run the command line in this process: run("sparsegen", ...) -> (exit code, stdout, stderr)."""
    from sightline.cli.main import main

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
