"""What the SparseGen parity modules share: the fixture folder's model, its cameras and its stub renderer."""

from typing import NamedTuple

import torch

from sightline.models.sparsegen import SparseGen, SparseGenConfig
from sightline.models.sparsegen.config import hydra_values

BUFFERS = ("position_range", "renderer.position_range", "renderer.background_color")


class StubRender(NamedTuple):
    color: torch.Tensor
    alpha: torch.Tensor


def load_model(fixture) -> SparseGen:
    """The folder's model (``model_state.safetensors``, ``config.json``) in eval mode."""
    state = fixture.tensors("model_state.safetensors")
    for name in BUFFERS:
        state.pop(name, None)
    options = fixture.json("config.json")
    known = hydra_values(options["cfg"]) | {"vit_heads": options["vit"]["heads"]}
    model = SparseGen(SparseGenConfig.from_state_dict(state, known))
    model.load_state_dict(state)
    return model.eval()


def world_to_camera(R: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
    """PyTorch3D R [...,3,3], T [...,3] (row vectors, x left, y up) -> OpenCV [...,4,4]."""
    out = torch.eye(4).repeat(*R.shape[:-2], 1, 1)
    out[..., :3, :3] = R.mT
    out[..., :3, 3] = T
    return torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0])) @ out


def stub_renderer(means, quats, scales, opacities, colors, viewmats, Ks, width, height) -> StubRender:
    """The fixtures' stand-in for a rasterizer: round blobs of fixed size, blended without order."""
    seen = torch.einsum("bvij,bnj->bvni", viewmats[..., :3, :3], means) + viewmats[..., None, :3, 3]
    at = 2 * seen[..., :2] / seen[..., 2:]
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    squared = (x - at[..., 0, None, None]) ** 2 + (y[:, None] - at[..., 1, None, None]) ** 2
    weight = opacities[:, None, :, None, None] * torch.exp(-8 * squared)
    total = weight.sum(2)
    return StubRender(torch.einsum("bvnhw,bnc->bvhwc", weight, colors) / (total + 1)[..., None], total / (total + 1))


def check_gaussians(ledger, gaussians, tensors, layer: int, atol: float, prefix: str) -> None:
    """Compare one layer's Gaussians with the ``out.layerN.*`` entries."""
    mine = {
        "xyz": gaussians.box,
        "opacity": gaussians.opacities[..., None],
        "rotation": gaussians.quats,
        "scale": gaussians.scales,
        "color": gaussians.colors,
        "xyz_offset": gaussians.xyz_offset,
    }
    for name, value in mine.items():
        ledger.close(f"{prefix}.{name}", value, tensors[f"out.layer{layer}.{name}"], atol=atol)
