"""Data-dependent start for short runs: every linear map begins with centered outputs of a chosen spread.

Plain initialization leaves the anchors nearly alike (their embeddings differ by a few percent of their common part),
so all of them read the same average of the pictures and a short run never leaves the mean image. Centering and
scaling each layer once, on one batch (in the manner of LSUV, Mishkin & Matas 2016), removes that plateau.
"""

from __future__ import annotations

import fnmatch

import torch
from torch import nn

from ...models.sparsegen import SparseGen
from ...models.sparsegen.embeddings import assemble_views, view_times
from .step import TrainingViews, add_noise

# Name pattern -> standard deviation of the centered outputs; the first match counts.
SPREADS = (
    ("feature_extractor.model.blocks.*.attn.qkv", 1.0),
    ("feature_extractor.model.blocks.*.attn.proj", 0.5),
    ("feature_extractor.model.blocks.*.mlp.fc1", 1.0),
    ("feature_extractor.model.blocks.*.mlp.fc2", 0.5),
    ("input_proj", 1.0),
    ("position_encoder.0", 1.0),
    ("position_encoder.2", 0.6),
    ("adapt_pos3d.0", 1.0),
    ("adapt_pos3d.2", 0.4),
    ("query_embedding.0", 1.0),
    ("query_embedding.2", 1.0),
    ("transformer.*_proj", 1.0),
    ("transformer.*.fc1", 1.0),
    ("transformer.*.fc2", 0.5),
    ("gs_decoder.*.0", 1.0),
    ("gs_decoder.*.2", 1.0),
    ("gs_decoder.*.color.4", 0.7),
    ("gs_decoder.*.xyz.4", 0.3),
)


@torch.no_grad()
def calibrate(model: SparseGen, views: TrainingViews) -> SparseGen:
    """Center and scale the layers named in ``SPREADS`` in place, in the order in which one forward pass meets them."""
    hooks = []
    for name, module in model.named_modules():
        spread = next((s for pattern, s in SPREADS if fnmatch.fnmatchcase(name, pattern)), None)
        if spread is not None and isinstance(module, (nn.Linear, nn.Conv2d)):
            hooks.append(module.register_forward_hook(_adjusting(spread)))
    training = model.training
    model.eval()
    clean = views.images[:, : views.clean]
    given = views.clean + views.noisy
    t = torch.full((len(clean),), 1000)
    generator = torch.Generator().manual_seed(0)
    source = views.images[:, views.clean : given]
    noisy = add_noise(source, torch.randn(source.shape, generator=generator).to(source), t.to(source.device))
    cameras = views.world_to_camera[:, :given]
    times = view_times(views.clean, views.noisy, t.to(clean.device))
    model(assemble_views(model.config, clean, noisy, cameras), times, cameras, layers="all")
    for hook in hooks:
        hook.remove()
    return model.train(training)


def _adjusting(spread: float):
    done = []

    def adjust(module: nn.Module, _inputs, output: torch.Tensor):
        if done:
            return output
        done.append(True)
        axis = 1 if isinstance(module, nn.Conv2d) else output.ndim - 1
        others = [k for k in range(output.ndim) if k != axis]
        mean = output.mean(others)
        shape = [1] * output.ndim
        shape[axis] = -1
        centered = output - mean.view(shape)
        factor = spread / float(centered.std().clamp_min(1e-6))
        module.weight.mul_(factor)
        module.bias.sub_(mean).mul_(factor)
        return centered * factor

    return adjust
