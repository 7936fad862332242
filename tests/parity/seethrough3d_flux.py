"""What the seethrough3d parity modules share: conditions, adapters and transformers out of a fixture."""

import json

import pytest
import torch

from sightline.models.seethrough3d.lora import adapters, build_lora
from sightline.models.seethrough3d.tokens import Condition

LORAS = "lora"


def part(tensors, prefix):
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def option(meta, name):
    """An option of a fixture; some are written as text."""
    value = meta[name]
    return json.loads(value) if isinstance(value, str) else value


def loras(tensors, meta):
    """The adapters of all LoRAs of a fixture, `lora0.*` and so on, each with its weight."""
    found = []
    for index, weight in enumerate(option(meta, "lora_weights")):
        published = part(tensors, f"{LORAS}{index}.")
        # With several conditions the keys of file `index` carry that number; every file is read as one adapter.
        published = {name.replace(f"_loras.{index}.", "_loras.0."): value for name, value in published.items()}
        found += adapters(build_lora(published), float(weight))
    return found


def conditions(tokens, segmasks, call_ids, count=1):
    """For each picture its conditions; tokens [B, count*C, D], segmasks [B, K, h, h], call_ids[b][k] or None."""
    rows = []
    for item, (own, masks) in enumerate(zip(tokens, segmasks)):
        spans = () if call_ids is None else tuple(tuple(span) for span in call_ids[item])
        row = [
            Condition(chunk, tuple(masks.shape[1:]), spans, masks.bool(), adapter)
            for adapter, chunk in enumerate(own.chunk(count))
        ]
        rows.append(row)
    return rows


def transformer(tensors, meta):
    """diffusers' transformer with a fixture's weights."""
    diffusers = pytest.importorskip("diffusers", reason="the diffusers path needs diffusers (pip install diffusers)")
    model = diffusers.FluxTransformer2DModel(**option(meta, "config"))
    model.load_state_dict(part(tensors, "model."), strict=True)
    return model.eval().requires_grad_(False)


def segmasks(tensors):
    masks = tensors["in.segmasks"]
    return masks if masks.ndim == 4 else masks[None]


def no_grad(test):
    return torch.no_grad()(test)
