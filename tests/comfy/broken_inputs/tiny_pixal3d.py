"""Lets core's loaders read Pixal3D files much smaller than the published ones, which `native_pixal3d_files.py` writes.

Core takes the sizes from its own code and offers no other way from a node; here a tensor in the file says them.
"""

import contextlib
import functools
import json
from unittest import mock

import comfy.clip_vision
import comfy.model_detection
import comfy.sd
import torch
from comfy.ldm.trellis2 import vae

SIZES = "sightline_test_sizes"
detect = comfy.model_detection.detect_unet_config
load_clip_vision, start_vae = comfy.clip_vision.load_clipvision_from_sd, comfy.sd.VAE.__init__


def sizes(weights):
    """What the file says of its sizes; None for any other file."""
    return json.loads(bytes(weights[SIZES].tolist())) if SIZES in weights else None


def detect_any_size(weights, *args, **kwargs):
    found = detect(weights, *args, **kwargs)
    return {**found, **(sizes(weights) or {})} if found else found


def load_clip_vision_of_any_size(weights, *args, **kwargs):
    said = sizes(weights)
    with contextlib.ExitStack() as changed:
        if said:
            model, naf = comfy.clip_vision.ClipVisionModel, comfy.clip_vision.NAF
            changed.enter_context(
                mock.patch.object(comfy.clip_vision, "ClipVisionModel", lambda config: model(said["dino"]))
            )
            changed.enter_context(
                mock.patch.object(comfy.clip_vision, "NAF", functools.partial(naf, **said["naf"]))
            )  # fmt: skip
        return load_clip_vision(weights, *args, **kwargs)


def start_vae_of_any_size(self, sd=None, *args, **kwargs):
    said = sizes(sd or {})
    if said is None:
        return start_vae(self, sd, *args, **kwargs)

    core = vae.ShapeVae

    def tiny():
        network = core.__new__(core)
        torch.nn.Module.__init__(network)
        network.shape_dec = vae.FlexiDualGridVaeDecoder(resolution=256, **said["shape"])
        network.struct_dec = vae.SparseStructureDecoder(**said["structure"])
        network.register_buffer("resolution", torch.tensor(1024.0), persistent=False)
        return network

    with mock.patch.object(vae, "ShapeVae", tiny):
        return start_vae(self, sd, *args, **kwargs)


comfy.model_detection.detect_unet_config = detect_any_size
comfy.clip_vision.load_clipvision_from_sd = load_clip_vision_of_any_size
comfy.sd.VAE.__init__ = start_vae_of_any_size
