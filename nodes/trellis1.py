"""TRELLIS (v1) with RelaxFlow: loader, tokens of pictures, two samplers, two decoders."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.relaxflow.visibility import mask_of_voxels
from ..models.trellis1.family import PUBLISHED_SAMPLER, load_trellis1
from ..models.trellis2.preprocess import as_bytes, cut_outs
from ..models.trellis2.samplers import SamplerSettings
from ..pipelines.relaxflow import (
    Branches,
    Completion,
    decode,
    encode,
    occupied_voxels,
    prepare_picture,
    sample_latent,
    sample_structure,
)
from ..scene.errors import InputError
from ..scene.sparse import SparseTensor
from . import host
from .host import io
from .host import relax as room
from .relax_settings import PAPER, relax_input
from .sampler_widgets import guidance_interval, interval_inputs, rescale_input, seed_input, steps_input
from .trellis2_models import BESIDE, NONE

CATEGORY = f"{host.CATEGORY}/TRELLIS"
FOLDER = room.TRELLIS1_FOLDER


def model_input() -> io.Input:
    return room.Trellis1Models.Input("model", tooltip="The models of Load TRELLIS Models.")


def sampler_inputs() -> list:
    """The widgets of both samplers, with the published defaults, and what they take of RelaxFlow."""
    published = PUBLISHED_SAMPLER
    return [
        seed_input(),
        steps_input(published.steps),
        io.Float.Input(
            "guidance", default=published.guidance_strength, min=0.0, max=100.0, step=0.1,
            tooltip="How strongly the picture is followed: one more than TRELLIS's cfg_strength; 1 follows it plainly, "
                    "at half the cost.",
        ),
        *interval_inputs(published.guidance_interval),
        rescale_input(published.rescale_t),
        io.Boolean.Input(
            "hold_seen", default=False, advanced=True,
            tooltip="Beyond the paper: what `visibility` shows keeps the states of the picture's own run, which is "
                    "sampled first, at twice the time. Off, it is only guided by the picture.",
        ),
    ]  # fmt: skip


def branch_inputs() -> list:
    """The sockets of the prior branch."""
    return [
        room.TokensType.Input(
            "prior", optional=True,
            tooltip="Picture Tokens of the priors: pictures of what the hidden part may look like. Without them this "
                    "is TRELLIS itself.",
        ),
        relax_input(),
        host.VisibilityType.Input(
            "visibility", optional=True,
            tooltip="From Visibility Mask (frame z_up): what is seen is left to the picture.",
        ),
    ]  # fmt: skip


def sampler_settings(steps, guidance, guidance_start, guidance_end, rescale_t) -> SamplerSettings:
    """The widgets as the library's options."""
    return SamplerSettings(steps, guidance, 0.0, guidance_interval(guidance_start, guidance_end), rescale_t)


def branches(tokens: list[Tensor], prior: list[Tensor] | None, device) -> Branches:
    """The conditions of one object; InputError for several observations."""
    if len(tokens) != 1:
        raise InputError(f"`tokens` is of {len(tokens)} pictures; the picture of one object is needed.")
    others = [one.to(device) for one in prior or ()]
    return Branches(tokens[0].to(device), others, "blend" if others else "obs")


class Trellis1Loader(io.ComfyNode):
    """TRELLIS-image-large as published -> models."""

    @classmethod
    def define_schema(cls):
        families = room.trellis1_pipelines() or [NONE]
        encoders = [BESIDE, *host.weight_files(host.ENCODER_FOLDER)]
        return io.Schema(
            node_id="SightlineTrellis1Loader",
            display_name="Load TRELLIS Models",
            category=CATEGORY,
            description="Load TRELLIS-image-large (the first TRELLIS) as published: pipeline.json, the networks in "
                        "ckpts, and DINOv2. Every network is read when it is first used. Files are never executed.",
            search_aliases=["trellis v1", "trellis image large", "slat", "image to gaussian splat", "relaxflow"],
            inputs=[
                io.Combo.Input(
                    "models", options=families, default=families[0],
                    tooltip=f"A pipeline.json in models/{FOLDER} with the networks it names, as "
                            "microsoft/TRELLIS-image-large (MIT) is published; Download Weights fetches it.",
                ),
                io.Combo.Input(
                    "image_encoder", options=encoders, default=BESIDE,
                    tooltip="DINOv2 ViT-L/14 with registers (Apache-2.0), under its makers' names. "
                            f"{BESIDE}: below models/{FOLDER}. Or a file of models/{host.ENCODER_FOLDER}.",
                ),
            ],
            outputs=[
                room.Trellis1Models.Output(
                    id="model", display_name="model", tooltip="The models, for the TRELLIS nodes."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, models, image_encoder):
        if models == NONE:
            return models
        places = [host.weight_path(FOLDER, models)]
        if image_encoder != BESIDE:
            places.append(host.weight_path(host.ENCODER_FOLDER, image_encoder))
        return "|".join(host.file_state(place) for place in places)

    @classmethod
    @host.one_sentence
    def execute(cls, models, image_encoder) -> io.NodeOutput:
        if models == NONE:
            places = " or ".join(map(str, host.folders(FOLDER)))
            raise InputError(f"There is no pipeline.json of TRELLIS in {places}; Download Weights fetches it.")
        given = None if image_encoder == BESIDE else host.weight_path(host.ENCODER_FOLDER, image_encoder)
        slow_halves = host.render_device().type == "cpu"
        family = load_trellis1(
            host.weight_path(FOLDER, models), formats=None, dinov2=given, search=host.folders(FOLDER),
            dtype="float32" if slow_halves else None,
        )  # fmt: skip
        host.tell(f"{models}: {len(family.networks)} networks")
        return io.NodeOutput(room.HostedTrellis1.of(family))


class Trellis1Tokens(io.ComfyNode):
    """Pictures -> what TRELLIS sees of them."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTrellis1Tokens",
            display_name="Picture Tokens (TRELLIS)",
            category=CATEGORY,
            description="Cut pictures out to their objects as TRELLIS was trained on them and encode them: the picture "
                        "of the object, or the priors, of which a batch counts as many.",
            search_aliases=["trellis condition", "dinov2", "encode prior", "encode observation", "image tokens"],
            inputs=[
                model_input(),
                io.Image.Input("image", tooltip="One picture of the object, or a batch of prior pictures."),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where the object is (white); one for all pictures or one each. Pictures with an alpha "
                            "channel need none. Of a half-hidden object: the part that is seen.",
                ),
                room.TokensType.Input(
                    "before", optional=True,
                    tooltip="Tokens of further pictures, to which these are added: several priors.",
                ),
            ],
            outputs=[
                room.TokensType.Output(
                    id="tokens", display_name="tokens", tooltip="For `tokens` or `prior` of the TRELLIS samplers."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, image, mask=None, before=None) -> io.NodeOutput:
        pictures, prepared = host.pictures(image), []
        cut = as_bytes(pictures.clamp(0, 1)) if mask is None else cut_outs(pictures, host.masks(mask))
        for number, one in enumerate(cut, 1):
            try:
                prepared.append(prepare_picture(one))
            except InputError as error:
                which = "`image`" if len(cut) == 1 else f"Picture {number} of `image`"
                raise InputError(f"{which}: {error}") from error
        return io.NodeOutput([*(before or ()), *(host.result(one) for one in encode(model, prepared))])


class Trellis1Structure(io.ComfyNode):
    """Tokens -> which voxels are there."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTrellis1Structure",
            display_name="Structure Sampler (TRELLIS)",
            category=CATEGORY,
            description="First stage of TRELLIS: where there is something, from the picture alone or, with priors, "
                        "completed by RelaxFlow where the picture shows nothing.",
            search_aliases=["trellis sparse structure", "relaxflow structure", "occupancy", "amodal completion"],
            inputs=[
                model_input(),
                room.TokensType.Input("tokens", tooltip="Picture Tokens of the picture of the object."),
                *sampler_inputs(),
                *branch_inputs(),
            ],
            outputs=[
                io.Voxel.Output(
                    id="voxel", display_name="voxel", tooltip="Occupied voxels, Z up, for the Latent Sampler (TRELLIS)."
                ),
                io.Latent.Output(
                    id="latent", display_name="latent", tooltip="The structure latent in core's format."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, tokens, seed, steps, guidance, guidance_start, guidance_end, rescale_t, hold_seen,
        prior=None, relax=None, visibility=None,
    ) -> io.NodeOutput:  # fmt: skip
        sampler = sampler_settings(steps, guidance, guidance_start, guidance_end, rescale_t)
        latent = sample_structure(
            model, branches(tokens, prior, model.device), (relax or PAPER).structure,
            torch.Generator().manual_seed(seed), sampler=sampler, visible=visibility, anchored=hold_seen,
            progress=host.Progress(),
        )  # fmt: skip
        coords, side = occupied_voxels(model, latent)
        grid = torch.zeros(1, side, side, side)
        grid[0][tuple(coords[:, 1:].long().T.cpu())] = 1
        host.tell(f"{len(coords):,} voxels")
        return io.NodeOutput(host.dense_voxels(grid), host.structure_latent(host.result(latent)))


class Trellis1Latent(io.ComfyNode):
    """Voxels -> structured latents."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTrellis1Latent",
            display_name="Latent Sampler (TRELLIS)",
            category=CATEGORY,
            description="Second stage of TRELLIS: form and color on the voxels, from the picture alone or with priors. "
                        "What Visibility Mask calls seen is left to the picture.",
            search_aliases=["trellis slat", "structured latent", "relaxflow latent", "amodal completion"],
            inputs=[
                model_input(),
                room.TokensType.Input("tokens", tooltip="Picture Tokens of the picture of the object."),
                io.Voxel.Input("voxel", tooltip="Occupied voxels of the Structure Sampler (TRELLIS)."),
                *sampler_inputs(),
                *branch_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    id="latent", display_name="latent", tooltip="The latents, for the TRELLIS decoders."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, tokens, voxel, seed, steps, guidance, guidance_start, guidance_end, rescale_t, hold_seen,
        prior=None, relax=None, visibility=None,
    ) -> io.NodeOutput:  # fmt: skip
        sampler, settings = sampler_settings(steps, guidance, guidance_start, guidance_end, rescale_t), relax or PAPER
        (coords, side), *others = host.occupied(voxel)
        if others:
            raise InputError(f"`voxel` holds {len(others) + 1} objects; the Latent Sampler (TRELLIS) takes one.")
        rows = torch.nn.functional.pad(coords.cpu(), (1, 0))
        seen = None if visibility is None else mask_of_voxels(visibility, rows, side)
        latents = sample_latent(
            model, rows, branches(tokens, prior, model.device), settings.latent, torch.Generator().manual_seed(seed),
            blurs=settings.sparse_blur, sampler=sampler, visible=seen, anchored=hold_seen, progress=host.Progress(),
        )  # fmt: skip
        return io.NodeOutput(room.trellis1_latent(model, latents.feats, latents.coords, side))


def decoded(model, latent: dict, name: str):
    """What a decoder makes of latents."""
    feats, rows = room.read_trellis1_latent(model, latent)
    return decode(model, Completion(SparseTensor(feats, rows)), (name,))[name]


def latent_input() -> io.Input:
    return io.Latent.Input("latent", tooltip="The latents of the Latent Sampler (TRELLIS).")


class Trellis1Splat(io.ComfyNode):
    """Latents -> Gaussians."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTrellis1Splat",
            display_name="Decode Splat (TRELLIS)",
            category=CATEGORY,
            description="Decode the latents of TRELLIS to Gaussians, 32 for every voxel, front to the viewer. Go on "
                        "with Splat Turntable, Save Splat or core's splat nodes.",
            search_aliases=["trellis gaussian", "gaussian splat decoder", "slat to splat"],
            inputs=[model_input(), latent_input()],
            outputs=[io.Splat.Output(id="splat", display_name="splat", tooltip="The Gaussians of the object.")],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, latent) -> io.NodeOutput:
        splats = decoded(model, latent, "gaussian")
        host.tell(f"{len(splats):,} Gaussians")
        return io.NodeOutput(room.trellis1_splat(splats))


class Trellis1Mesh(io.ComfyNode):
    """Latents -> mesh."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTrellis1Mesh",
            display_name="Decode Mesh (TRELLIS)",
            category=CATEGORY,
            description="Decode the latents of TRELLIS to a mesh with colored vertices (FlexiCubes on a grid four "
                        "times as fine as the voxels), Y up. Go on with Mesh Finish, GLB Bake or core's mesh nodes.",
            search_aliases=["trellis mesh", "flexicubes", "slat to mesh"],
            inputs=[model_input(), latent_input()],
            outputs=[
                io.Mesh.Output(id="mesh", display_name="mesh", tooltip="The mesh of the object, Y up."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, latent) -> io.NodeOutput:
        mesh = room.trellis1_mesh(decoded(model, latent, "mesh"))
        host.tell(f"{mesh.faces.shape[1]:,} faces")
        return io.NodeOutput(mesh)
