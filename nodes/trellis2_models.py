"""Families of TRELLIS.2 and Pixal3D models under the host's memory management, and their loaders."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import torch

from ..models.trellis2.cascade import Cascade, load_cascade
from ..models.trellis2.dinov3 import VIT_LARGE, load_dinov3
from ..models.trellis2.family import find_dinov3, find_naf
from ..models.trellis2.naf import NafConfig, load_naf
from ..models.trellis2.safetensors_file import SafetensorsFile
from ..scene.errors import InputError
from . import host
from .host import io

CATEGORY = f"{host.CATEGORY}/TRELLIS.2 and Pixal3D"
NONE = "none found"
BESIDE = "beside the models"
NAF_PREFIX = "naf."


class HostedCascade(Cascade):
    """A family whose networks are under the host's memory management."""

    @contextmanager
    def on_device(self, model):
        if model is None:
            yield None
            return
        network = self.get(model) if isinstance(model, str) else model
        hosted = self.__dict__.setdefault("hosted", {})
        if id(network) not in hosted:
            hosted[id(network)] = host.LoadedModel.wrap(network, None)
        yield hosted[id(network)].on_device()

    @property
    def projects(self) -> bool:
        """Whether this is a Pixal3D family, which reads pictures through a camera."""
        return self.get("sparse_structure_flow_model").config.image_attn_mode != "global"

    @property
    def frame(self) -> str:
        """Which way is up in its latents, in core's words."""
        return "y_up" if self.projects else "z_up"

    def check_frame(self, frame: str, name: str) -> None:
        """Raise InputError for a latent of the other family."""
        if frame != self.frame:
            families = {"y_up": "Pixal3D", "z_up": "TRELLIS.2"}
            found, mine = families.get(frame, frame), families[self.frame]
            raise InputError(f"`{name}` was made by {found} and `model` is {mine}; use the same model for all stages.")


def load_encoder(path: Path, cascade: Cascade) -> None:
    """Give a family DINOv3 and, where the file has it, NAF. A .json of the same name holds another size's options."""
    file, options = SafetensorsFile(path), dict(VIT_LARGE)
    beside = path.with_suffix(".json")
    naf_options = {}
    if beside.is_file():
        try:
            options = dict(json.loads(beside.read_text(encoding="utf-8")))
            naf_options = dict(options.pop("naf", {}))
        except (ValueError, TypeError):
            raise InputError(f"{beside} is not a configuration of DINOv3 in JSON.") from None
    parts: tuple[dict, dict] = {}, {}
    for name in file:
        parts[name.startswith(NAF_PREFIX)][name.removeprefix(NAF_PREFIX)] = file[name]
    cascade.image_encoder = load_dinov3(parts[0], options, source=str(path))
    if parts[1]:
        weights = {name: value.to(torch.float32, copy=True) for name, value in parts[1].items()}
        cascade.naf = load_naf(weights, NafConfig.from_args(naf_options), source=str(path))


def load_published_encoder(roots: list[Path], cascade: Cascade) -> None:
    """Give a family DINOv3 and, where it is there, NAF, each as its makers published it, from below model folders."""
    cascade.image_encoder = find_dinov3(roots)
    try:
        cascade.naf = find_naf(roots)
    except InputError as error:
        if "was not found" not in str(error):
            raise


class Trellis2Loader(io.ComfyNode):
    """Published pairs -> a family of models."""

    @classmethod
    def define_schema(cls):
        families = host.pipeline_files(host.TRELLIS2_FOLDER) or [NONE]
        encoders = [*host.weight_files(host.ENCODER_FOLDER), BESIDE]
        return io.Schema(
            node_id="SightlineTrellis2Loader",
            display_name="Load TRELLIS.2 or Pixal3D Models",
            category=CATEGORY,
            description="Load a family of TRELLIS.2 or Pixal3D models as they were published: pipeline.json and the "
                        "networks in ckpts. Every network is read when it is first used. Files are never "
                        "executed.",
            search_aliases=["trellis2 loader", "pixal3d loader", "image to 3d model", "slat"],
            inputs=[
                io.Combo.Input(
                    "models", options=families, default=families[0],
                    tooltip=f"A pipeline.json in models/{host.TRELLIS2_FOLDER} with the networks it names, as "
                            "microsoft/TRELLIS.2-4B (MIT) and TencentARC/Pixal3D (MIT; not for use in the EU, says its "
                            "model card) are published; pipeline_mv.json is Pixal3D for several pictures.",
                ),
                io.Combo.Input(
                    "image_encoder", options=encoders, default=encoders[0],
                    tooltip=f"DINOv3 ViT-L/16, and for Pixal3D also NAF, in one file of models/{host.ENCODER_FOLDER}: "
                            f"dino_v3_L_naf_fp32.safetensors, the file ComfyUI itself uses. {BESIDE}: as their makers "
                            f"published them, below models/{host.TRELLIS2_FOLDER}.",
                ),
            ],
            outputs=[
                host.Trellis2Models.Output(
                    id="model", display_name="model", tooltip="The models, for the samplers and the decoder."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, models, image_encoder):
        places = [host.weight_path(host.TRELLIS2_FOLDER, models)]
        if image_encoder != BESIDE:
            places.append(host.weight_path(host.ENCODER_FOLDER, image_encoder))
        return "|".join(host.file_state(place) for place in places)

    @classmethod
    @host.one_sentence
    def execute(cls, models, image_encoder) -> io.NodeOutput:
        pipeline = host.weight_path(host.TRELLIS2_FOLDER, models)
        search = host.folders(host.TRELLIS2_FOLDER)
        plain = load_cascade(pipeline, search=search, device=host.render_device())
        cascade = HostedCascade(plain.config, plain.models, device=host.render_device())
        if image_encoder == BESIDE:
            load_published_encoder(search, cascade)
        else:
            load_encoder(host.weight_path(host.ENCODER_FOLDER, image_encoder), cascade)
        host.tell(f"{models}: {len(cascade.models)} networks" + ("" if cascade.naf is None else ", NAF"))
        return io.NodeOutput(cascade)
