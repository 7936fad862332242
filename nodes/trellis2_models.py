"""Families of TRELLIS.2 and Pixal3D models under the host's memory management, and their loaders."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from ..models.trellis2.cascade import Cascade, load_cascade
from ..models.trellis2.family import core_family, embedded_family, find_dinov3, find_naf, own_encoder, read_encoder
from ..scene.errors import InputError
from . import host
from .host import io

CATEGORY = f"{host.CATEGORY}/TRELLIS.2 and Pixal3D"
EMBEDDED = "pixal3d-tiny (embedded)"
NONE = "none found"
BESIDE = "beside the models"


class HostedCascade(Cascade):
    """A family whose networks are under the host's memory management."""

    @classmethod
    def of(cls, family: Cascade) -> HostedCascade:
        """The same family, computed where the host computes."""
        return cls(family.config, family.models, family.image_encoder, family.naf, device=host.render_device())

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
        flow = next(role for role in sorted(self.models) if "_flow_model" in role)
        return self.get(flow).config.image_attn_mode != "global"

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


def load_published_encoder(roots: list[Path], cascade: Cascade) -> None:
    """Give a family DINOv3 and, where it is there, NAF, each as its makers published it, from below model folders."""
    cascade.image_encoder = find_dinov3(roots)
    try:
        cascade.naf = find_naf(roots)
    except InputError as error:
        if "was not found" not in str(error):
            raise


def encoder_input() -> io.Input:
    """Which image encoder a family looks through."""
    encoders = [*host.weight_files(host.ENCODER_FOLDER), BESIDE]
    return io.Combo.Input(
        "image_encoder", options=encoders, default=encoders[0],
        tooltip=f"DINOv3 ViT-L/16, and for Pixal3D also NAF, in one file of models/{host.ENCODER_FOLDER}: "
                f"dino_v3_L_naf_fp32.safetensors, the file ComfyUI itself uses. {BESIDE}: as their makers "
                f"published them, below models/{host.TRELLIS2_FOLDER}. The embedded models have their own.",
    )  # fmt: skip


def models_output() -> io.Output:
    return host.Trellis2Models.Output(
        id="model", display_name="model", tooltip="The models, for the samplers and the decoder."
    )


def give_encoder(cascade: Cascade, image_encoder: str) -> None:
    """The image encoder that was chosen."""
    if image_encoder == BESIDE:
        load_published_encoder(host.folders(host.TRELLIS2_FOLDER), cascade)
    else:
        cascade.image_encoder, cascade.naf = read_encoder(host.weight_path(host.ENCODER_FOLDER, image_encoder))


class Trellis2Loader(io.ComfyNode):
    """Published pairs -> a family of models."""

    @classmethod
    def define_schema(cls):
        families = [EMBEDDED, *host.pipeline_files(host.TRELLIS2_FOLDER)]
        return io.Schema(
            node_id="SightlineTrellis2Loader",
            display_name="Load TRELLIS.2 or Pixal3D Models",
            category=CATEGORY,
            description="Load a family of TRELLIS.2 or Pixal3D models: the small one in this pack, or as they were "
                        "published, pipeline.json and the networks in ckpts. Every network is read when it is first "
                        "used. Files are never executed.",
            search_aliases=["trellis2 loader", "pixal3d loader", "image to 3d model", "slat"],
            inputs=[
                io.Combo.Input(
                    "models", options=families, default=families[0],
                    tooltip=f"{EMBEDDED}: small weights of this pack (Apache-2.0) that know toy furniture, at "
                            f"resolution 512 alone. Or a pipeline.json in models/{host.TRELLIS2_FOLDER} with the "
                            "networks it names, as microsoft/TRELLIS.2-4B (MIT) and TencentARC/Pixal3D (MIT; not for "
                            "use in the EU, says its model card) are published; pipeline_mv.json is Pixal3D for "
                            "several pictures.",
                ),
                encoder_input(),
            ],
            outputs=[models_output()],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, models, image_encoder):
        if models == EMBEDDED:
            return models
        places = [host.weight_path(host.TRELLIS2_FOLDER, models)]
        if image_encoder != BESIDE:
            places.append(host.weight_path(host.ENCODER_FOLDER, image_encoder))
        return "|".join(host.file_state(place) for place in places)

    @classmethod
    @host.one_sentence
    def execute(cls, models, image_encoder) -> io.NodeOutput:
        if models == EMBEDDED:
            cascade = HostedCascade.of(embedded_family())
            host.tell(f"{models}: {len(cascade.models)} networks")
            return io.NodeOutput(cascade)
        pipeline = host.weight_path(host.TRELLIS2_FOLDER, models)
        search = host.folders(host.TRELLIS2_FOLDER)
        cascade = HostedCascade.of(load_cascade(pipeline, search=search))
        cascade.image_encoder = own_encoder(pipeline, search)
        if cascade.image_encoder is None:
            give_encoder(cascade, image_encoder)
        host.tell(f"{models}: {len(cascade.models)} networks" + ("" if cascade.naf is None else ", NAF"))
        return io.NodeOutput(cascade)


class Trellis2CoreLoader(io.ComfyNode):
    """ComfyUI's own files -> a family of models."""

    @classmethod
    def define_schema(cls):
        networks = host.weight_files(host.DIFFUSION_FOLDER) or [NONE]
        vaes = host.weight_files(host.VAE_FOLDER) or [NONE]
        return io.Schema(
            node_id="SightlineTrellis2CoreLoader",
            display_name="Load TRELLIS.2 or Pixal3D from ComfyUI Files",
            category=CATEGORY,
            description="Load the files that ComfyUI's own TRELLIS.2 and Pixal3D nodes use into this pack's networks: "
                        "the diffusion model and both VAEs, in float32, bfloat16 or float16. Quantized files (int8) "
                        "run in ComfyUI's own nodes only.",
            search_aliases=["trellis2 single file", "pixal3d checkpoint", "diffusion model 3d", "core trellis2"],
            inputs=[
                io.Combo.Input(
                    "diffusion_model", options=networks, default=networks[0],
                    tooltip=f"All flow networks in one file of models/{host.DIFFUSION_FOLDER}.",
                ),
                io.Combo.Input(
                    "shape_vae", options=vaes, default=vaes[0],
                    tooltip=f"The structure and shape decoder in one file of models/{host.VAE_FOLDER}: "
                            "trellis_2_shape_vae_bf16.safetensors.",
                ),
                io.Combo.Input(
                    "texture_vae", options=vaes, default=vaes[0],
                    tooltip=f"The texture decoder in models/{host.VAE_FOLDER}: "
                            "trellis_2_texture_vae_bf16.safetensors.",
                ),
                encoder_input(),
            ],
            outputs=[models_output()],
        )  # fmt: skip

    @classmethod
    def files(cls, diffusion_model, shape_vae, texture_vae) -> list[Path]:
        return [
            host.weight_path(host.DIFFUSION_FOLDER, diffusion_model),
            host.weight_path(host.VAE_FOLDER, shape_vae),
            host.weight_path(host.VAE_FOLDER, texture_vae),
        ]

    @classmethod
    def fingerprint_inputs(cls, diffusion_model, shape_vae, texture_vae, image_encoder):
        places = cls.files(diffusion_model, shape_vae, texture_vae)
        if image_encoder != BESIDE:
            places.append(host.weight_path(host.ENCODER_FOLDER, image_encoder))
        return "|".join(host.file_state(place) for place in places)

    @classmethod
    @host.one_sentence
    def execute(cls, diffusion_model, shape_vae, texture_vae, image_encoder) -> io.NodeOutput:
        cascade = HostedCascade.of(core_family(cls.files(diffusion_model, shape_vae, texture_vae)))
        give_encoder(cascade, image_encoder)
        host.tell(f"{diffusion_model}: {len(cascade.models)} networks" + ("" if cascade.naf is None else ", NAF"))
        return io.NodeOutput(cascade)
