"""The host itself: version, names of types, the menu's category."""

from __future__ import annotations

import logging

from comfy_api.v0_0_2 import ComfyExtension, Types, io, ui  # noqa: F401  (for the nodes)

log = logging.getLogger("sightline")

if not (hasattr(io, "Splat") and hasattr(Types, "SPLAT") and hasattr(io, "Autogrow")):
    raise ImportError("Sightline needs ComfyUI 0.30 or newer: this one has no SPLAT type; update ComfyUI.")

CATEGORY = "Sightline"
PREVIEW_SIZE, PREVIEW_FRAMES = 512, 72  # what nodes show of their own results is no larger or longer
CAMERA_SIZE = 128  # pixels; cameras without a picture carry a size, which whoever draws replaces
ROOM = 3 << 30  # bytes; the host begins to unload models before its memory is full
SPARSEGEN_FOLDER = "sparsegen"
TRELLIS2_FOLDER = "trellis2"
TRELLIS1_FOLDER = "trellis1"
ENCODER_FOLDER, DIFFUSION_FOLDER, VAE_FOLDER = "clip_vision", "diffusion_models", "vae"  # core's
WEIGHT_SUFFIXES = {".safetensors", ".pth"}

SparseGenModel = io.Custom("SIGHTLINE_SPARSEGEN")
Views = io.Custom("SIGHTLINE_VIEWS")
CamerasType = io.Custom("SIGHTLINE_CAMERAS")
Trellis2Models = io.Custom("SIGHTLINE_TRELLIS2")
PictureConditionType = io.Custom("SIGHTLINE_CONDITION")
