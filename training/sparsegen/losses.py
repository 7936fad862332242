"""SparseGen's training losses: color, VGG-19 perceptual + SSIM, occupancy and anchor-offset penalty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ...kernels.metrics import ssim
from ...scene.errors import InputError, MissingDependency

# Convolutions of VGG-19's feature stack by their position; the four gaps of 3 hold a ReLU and a pooling layer.
VGG_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
VGG_BLOCK_ENDS = (4, 9, 14, 23, 32)
VGG_MEAN = (123.680, 116.779, 103.939)
# Divisors of the mean absolute differences of picture and blocks, from Chen & Koltun's cascaded refinement networks.
BLOCK_WEIGHTS = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)
VGG_HINT = (
    "give the path of imagenet-vgg-verydeep-19.mat (MatConvNet) or of a safetensors / .pth file with VGG-19 "
    "`features.N.weight` and `features.N.bias`, or set `perceptual: 0`"
)


class VggPerceptualLoss(nn.Module):
    """Sum of mean absolute differences of a picture and five VGG-19 feature blocks (average pooling).

    ``weights`` maps ``features.N.weight`` and ``features.N.bias`` to tensors; widths follow from them. Weights are
    frozen. Call with prediction and target [N, 3, H, W] in [0, 1]; scalar out. Raises InputError for missing keys.
    """

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        self.blocks = nn.ModuleList()
        layers: list[nn.Module] = []
        for position in range(VGG_BLOCK_ENDS[-1]):
            if position in VGG_CONVOLUTIONS:
                names = f"features.{position}.weight", f"features.{position}.bias"
                missing = [name for name in names if name not in weights]
                if missing:
                    raise InputError(f"The VGG-19 weights have no {missing[0]}; {VGG_HINT}.")
                kernel, bias = (weights[name].detach().float() for name in names)
                convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
                convolution.weight.data, convolution.bias.data = kernel.clone(), bias.reshape(-1).clone()
                layers.append(convolution)
            elif position - 1 in VGG_CONVOLUTIONS:
                layers.append(nn.ReLU())
            else:
                layers.append(nn.AvgPool2d(2, 2))
            if position + 1 in VGG_BLOCK_ENDS:
                self.blocks.append(nn.Sequential(*layers))
                layers = []
        self.register_buffer("mean", torch.tensor(VGG_MEAN).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        x, y = prediction * 255.0 - self.mean, target * 255.0 - self.mean
        total = (x - y).abs().mean()
        for block, weight in zip(self.blocks, BLOCK_WEIGHTS):
            x, y = block(x), block(y)
            total = total + (x - y).abs().mean() * weight
        return total / 255.0

    @classmethod
    def from_file(cls, path: str | Path | None) -> VggPerceptualLoss:
        """Read VGG-19 from a file the user gives; nothing is downloaded. Raises InputError when it is not there."""
        if not path or not Path(path).is_file():
            raise InputError(f"The perceptual loss needs VGG-19 weights and `vgg_weights` is {path!r}; {VGG_HINT}.")
        return cls(read_vgg(Path(path)))


def read_vgg(path: Path) -> dict[str, Tensor]:
    """VGG-19 feature weights of a .mat (MatConvNet), .safetensors or .pth file, as ``features.N.*`` tensors."""
    if path.suffix == ".mat":
        try:
            from scipy.io import loadmat
        except ImportError:
            raise MissingDependency("Reading .mat files needs scipy: pip install scipy") from None
        layers = loadmat(path)["layers"][0]
        weights = {}
        for position in VGG_CONVOLUTIONS:
            kernel, bias = layers[position][0][0][2][0][:2]
            weights[f"features.{position}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
            weights[f"features.{position}.bias"] = torch.from_numpy(bias).reshape(-1)
        return weights
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


@dataclass(frozen=True)
class LossOptions:
    """Weights of the four terms. ``kind`` is "l2" or "l1" (color and occupancy).

    ``ssim_alone`` uses SSIM without the perceptual term; as published, SSIM counts only where ``perceptual`` > 0.
    """

    kind: str = "l2"
    occupancy: float = 0.1
    perceptual: float = 0.1
    ssim: float = 0.1
    offset: float = 0.05
    offset_radius: float = 0.1
    ssim_alone: bool = False

    def __post_init__(self):
        if self.kind not in ("l2", "l1"):
            raise InputError(f"`kind` is {self.kind!r}; use 'l2' or 'l1'.")


def offset_penalty(offsets: Tensor, radius: float) -> Tensor:
    """Mean of relu(|offset| - radius)^2: anchors should move their Gaussians little (logit space of the box)."""
    return F.relu(offsets.abs() - radius).square().mean()


def sparsegen_losses(
    color: Tensor,
    target: Tensor,
    alpha: Tensor | None,
    occupancy: Tensor | None,
    offsets: Tensor | None,
    options: LossOptions = LossOptions(),
    perceptual: nn.Module | None = None,
) -> dict[str, Tensor]:
    """The four weighted terms, to be summed (SparseGen, training objective).

    ``color`` and ``target`` [B, V, 3, H, W] in [-1, 1] (renders may exceed it), ``alpha`` and ``occupancy``
    [B, V, 1, H, W] in [0, 1] or None, ``offsets`` the anchors' raw offsets or None; ``perceptual`` a module like
    ``VggPerceptualLoss``. Returns scalars ``color``, ``perceptual`` (with SSIM), ``occupancy``, ``offset``.
    """
    distance = F.mse_loss if options.kind == "l2" else F.l1_loss
    zero = color.new_zeros(())
    terms = {"color": distance(color, target), "perceptual": zero, "occupancy": zero, "offset": zero}
    if options.perceptual > 0 or (options.ssim_alone and options.ssim > 0):
        x, y = (((c.flatten(0, 1) + 1) / 2).clamp(0, 1) for c in (color, target))
        term = zero
        if options.perceptual > 0:
            if perceptual is None:
                raise InputError(f"`perceptual` is {options.perceptual} and no VGG-19 is loaded; {VGG_HINT}.")
            term = perceptual(x, y) * options.perceptual
        if options.ssim > 0:
            term = term + (1 - ssim(x, y)) * options.ssim
        terms["perceptual"] = term
    if alpha is not None and occupancy is not None:
        terms["occupancy"] = distance(alpha, occupancy) * options.occupancy
    if offsets is not None and options.offset > 0:
        terms["offset"] = offset_penalty(offsets, options.offset_radius) * options.offset
    return terms


def total_loss(terms: dict[str, Tensor]) -> Tensor:
    """Sum of the terms that are numbers: a term that is NaN for one batch is left out, as in the published training."""
    return sum(term for term in terms.values() if not bool(torch.isnan(term)))
