"""The attention mask at real size: which text tokens each condition token reads."""

import numpy as np
import torch
from PIL import Image

from sightline.kernels.split_attention import dense_mask
from sightline.models.seethrough3d.tokens import Condition, text_links

SYSTEM, KIND, SUFFIX = "seethrough3d", "mask_full", ".png"


def test_condition_rows(fixture, ledger):
    meta = fixture.json(f"{fixture.name}.json")
    cells = fixture.tensors(f"layout_{meta['scene']}.safetensors")["masks_32"].bool()
    count = meta["condition_tokens"]
    condition = Condition(torch.zeros(count, 1), tuple(cells.shape[1:]), tuple(map(tuple, meta["call_ids"])), cells)
    base = meta["text_tokens"] + meta["image_grid"][0] * meta["image_grid"][1]
    found = dense_mask(text_links([[condition]]), base)[0, 0]
    with Image.open(fixture.path) as picture:
        expected = torch.from_numpy(np.array(picture.convert("L")) > 127)
    ledger.exact("flux.mask.full_size", found[base:], expected)
    ledger.exact("flux.mask.count", int(found[base:].sum()), meta["allowed_count"])
    assert bool(found[:base].all())
