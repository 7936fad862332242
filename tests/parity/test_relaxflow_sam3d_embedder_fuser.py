"""The fused condition: all inputs, without point maps, and with inputs zeroed."""

import torch
from relaxflow_parity import MODULE, filled, weights
from torch import nn

from sightline.models.sam3d.fuser import EmbedderFuser
from sightline.models.sam3d.point_patch import PointPatchEmbed

SYSTEM, KIND = "relaxflow", "sam3d_embedder_fuser"


class Toy(nn.Module):
    """The stand-in for DINOv2 with which the fixture was made: one convolution, a token a patch."""

    def __init__(self, weight):
        super().__init__()
        self.c = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], weight.shape[2])
        self.embed_dim = weight.shape[0]

    def forward(self, x):
        return self.c(x).flatten(2).transpose(1, 2)


def fuser(meta, t):
    state = weights(t)
    order = [("cropped" if i % 2 == 0 else "full", name) for i, name in enumerate(meta["order"])]
    groups = [[(name, group) for group, name in order[i : i + 2]] for i in range(0, len(order), 2)]
    window = state["module_list.2.pos_embed_window"].shape[1] - 1
    patch, width = int(window**0.5), state["module_list.2.pos_embed"].shape[1]
    size = state["module_list.2.pos_embed"].shape[2] * patch

    def make():
        toys = [Toy(state[f"module_list.{i}.c.weight"]) for i in (0, 1)]
        return EmbedderFuser(list(zip([*toys, PointPatchEmbed(size, patch, width)], groups)))

    return filled(make, t)


@torch.no_grad()
def test_tokens(fixture, ledger):
    t = fixture.tensors()
    model = fuser(fixture.meta, t)
    assert model.group_row == fixture.meta["pos_groups"]
    assert model.idx_emb.shape[0] == fixture.meta["idx_emb_rows"]
    inputs = {name.removeprefix("in."): value for name, value in t.items() if name.startswith("in.")}
    points = ("pointmap", "rgb_pointmap")
    prior = {name: value for name, value in inputs.items() if name not in points}
    runs = {
        "out_all": model(inputs),
        "out_cropped": model(inputs, "cropped"),
        "out_cropped_and_mask": model(inputs, "cropped_and_mask"),
        "out_force_drop_pointmap": model(inputs, dropped=points),
        "out_no_pointmap": model(prior),
        "out_prior_cropped_and_mask": model(prior, "cropped_and_mask"),
    }
    for name, found in runs.items():
        ledger.close("sam3d.fuser", found, t[name], **MODULE)
