"""SeeThrough3D on ComfyUI's own FLUX.1: Occlusion LoRA Loader, Occlusion-Aware FLUX Conditioning, Sigmas."""

from __future__ import annotations

import torch

from ..models.seethrough3d.prompt import check_parts, parts_from_lines, released_spans, token_spans
from ..models.seethrough3d.schedule import BASE_SHIFT, GUIDANCE, MAX_SHIFT, STEPS, flux_sigmas, image_tokens
from ..models.seethrough3d.tokens import CONDITION_SIZE, Condition, condition_pixels, mask_cells
from ..scene.errors import InputError
from . import host
from .host import flux, io, layout_types

CATEGORY = f"{host.CATEGORY}/SeeThrough3D"
LORA_FOLDER = "loras"  # core's
NONE = "none found"
MEAN, DRAWN = "mean", "as released"


class OcclusionLoraLoader(io.ComfyNode):
    """The SeeThrough3D LoRA on a FLUX.1 MODEL."""

    @classmethod
    def define_schema(cls):
        files = host.weight_files(LORA_FOLDER) or [NONE]
        return io.Schema(
            node_id="SightlineOcclusionLoraLoader",
            display_name="Occlusion LoRA Loader",
            category=CATEGORY,
            description="Give FLUX.1-dev the SeeThrough3D LoRA, which acts on the tokens of the control image alone: "
                        "pictures without a layout stay bit for bit what they were. Works on fp8, GGUF and offloaded "
                        "models and together with ordinary LoRAs; put it behind nodes that change the model's blocks.",
            search_aliases=["seethrough3d", "see through 3d", "occlusion lora", "3d layout", "flux lora"],
            inputs=[
                io.Model.Input("model", tooltip="FLUX.1-dev from Load Diffusion Model, with any LoRAs you like."),
                io.Combo.Input(
                    "lora_name", options=files, default=files[0],
                    tooltip="The SeeThrough3D file (lora.safetensors of the release) in models/loras; ordinary LoRAs "
                            "are refused.",
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=2.0, step=0.01,
                    tooltip="How strongly the layout acts; 1 is what it was trained with, 0 leaves the base weights "
                            "alone.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    id="model", display_name="model",
                    tooltip="The model for the sampler or guider; its layout comes with Occlusion-Aware FLUX "
                            "Conditioning.",
                )
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, model, lora_name, strength):
        try:
            return f"{host.file_state(host.weight_path(LORA_FOLDER, lora_name))}:{strength}"
        except InputError:
            return f"{lora_name}:{strength}"

    @classmethod
    @host.one_sentence
    def execute(cls, model, lora_name, strength) -> io.NodeOutput:
        flux.flux_shape(model)
        if lora_name == NONE:
            raise InputError(f"models/{LORA_FOLDER} is empty; put the SeeThrough3D lora.safetensors there.")
        loaded = flux.load_hosted_lora(host.weight_path(LORA_FOLDER, lora_name), model)
        return io.NodeOutput(flux.with_lora(model, loaded, strength))


class OcclusionConditioning(io.ComfyNode):
    """A layout's words, control image and silhouettes as FLUX conditioning."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineOcclusionConditioning",
            display_name="Occlusion-Aware FLUX Conditioning",
            category=CATEGORY,
            description="Bind each box of a layout to its words: encodes the prompt with T5 at 512 tokens, the control "
                        "image with the VAE, and lets each cell of it read the description of the boxes that cover it, "
                        "hidden parts included. Needs a model from Occlusion LoRA Loader.",
            search_aliases=["seethrough3d", "3d layout to image", "regional prompt", "box conditioning", "occlusion"],
            inputs=[
                io.Clip.Input("clip", tooltip="FLUX's text encoders: clip_l and t5xxl from DualCLIPLoader, type flux."),
                io.Vae.Input("vae", tooltip="FLUX.1's VAE (ae.safetensors)."),
                io.Image.Input(
                    "control_image",
                    tooltip="The Occlusion Control Render, brought to 512 pixels a side. Several pictures are several "
                            "conditions, one for each Occlusion LoRA of the model, in their order.",
                ),
                io.Mask.Input(
                    "masks",
                    tooltip="The whole silhouette of each object, hidden parts included: one mask per description, in "
                            "the same order.",
                ),
                io.String.Input(
                    "subjects", multiline=True, default="",
                    tooltip="One description per line, in the order of the masks; not used while `prompt` is "
                            "connected. Parentheses are plain characters here.",
                ),
                io.String.Input(
                    "background", multiline=True, default="",
                    tooltip="What surrounds the objects, for example \"in a cozy living room\"; not used while "
                            "`prompt` is connected.",
                ),
                io.Float.Input(
                    "guidance", default=GUIDANCE, min=0.0, max=100.0, step=0.1,
                    tooltip="FLUX's distilled guidance; 3.5 is what the authors use. Leave the sampler's cfg at 1.",
                ),
                io.Combo.Input(
                    "condition_latent", options=[MEAN, DRAWN], default=MEAN, advanced=True,
                    tooltip="mean: the control image's most likely latent. as released: a random draw of it, as the "
                            "official code takes, with `draw_seed` and `latent` as the sampler's; it also counts the "
                            "words as the official code does.",
                ),
                io.Int.Input(
                    "draw_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, advanced=True,
                    tooltip="Of the draw, the same as the sampler's noise seed; only used with `as released`.",
                ),
                layout_types.PromptPartsType.Input(
                    "prompt", optional=True, tooltip="The words of a layout, from the 3D Layout Editor."
                ),
                io.Latent.Input(
                    "latent", optional=True,
                    tooltip="The empty latent that will be sampled; only `as released` needs it, to draw after the "
                            "sampler's noise.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="conditioning", display_name="conditioning",
                    tooltip="Positive conditioning for a guider or sampler: words, guidance and layout.",
                ),
                io.String.Output(
                    id="text", display_name="text", tooltip="The whole prompt, as the text encoders read it."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, clip, vae, control_image, masks, subjects, background, guidance, condition_latent, draw_seed,
        prompt=None, latent=None,
    ) -> io.NodeOutput:  # fmt: skip
        parts = parts_from_lines(subjects, background) if prompt is None else prompt
        check_parts(parts)
        silhouettes = host.masks(masks)
        if len(silhouettes) != len(parts.subjects):
            raise InputError(
                f"`masks` holds {len(silhouettes)} masks and the prompt {len(parts.subjects)} descriptions; each "
                "object needs one of both, in the same order."
            )
        released = condition_latent == DRAWN
        encode = flux.t5_encode(clip)
        spans = token_spans(encode, parts)  # also checks the length
        spans = released_spans(encode, parts) if released else spans
        draw = cls.noise_after(latent, draw_seed, vae) if released else None
        pixels = condition_pixels(host.pictures(control_image)[:, :3])
        tokens = flux.encode_control(vae, pixels, draw).cpu()
        side = CONDITION_SIZE // 16
        cells = mask_cells(silhouettes, (side, side))
        conditions = [
            Condition(one, (side, side), tuple(map(tuple, spans)), cells, adapter) for adapter, one in enumerate(tokens)
        ]
        if hidden := [subject for subject, on in zip(parts.subjects, cells) if not bool(on.any())]:
            host.tell(f"Not in the picture: {', '.join(hidden)}")
        conditioning = flux.encode_text(clip, parts.text, guidance)
        return io.NodeOutput(flux.with_conditions(conditioning, conditions), parts.text)

    @staticmethod
    def noise_after(latent, seed: int, vae):
        """The draws of a generator that has already drawn the sampler's noise."""
        if latent is None:
            raise InputError("`condition_latent` is `as released` and `latent` is open; connect the empty latent.")
        shape = list(latent["samples"].shape)
        shape[1] = getattr(vae, "latent_channels", shape[1])
        generator = torch.Generator().manual_seed(seed)
        torch.randn(shape, generator=generator)
        return lambda size: torch.randn(size, generator=generator)


class FluxSigmas(io.ComfyNode):
    """FLUX.1-dev's own noise levels."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineFluxSigmas",
            display_name="FLUX Dynamic-Shift Sigmas",
            category=CATEGORY,
            description="The noise levels FLUX.1-dev's pipeline uses, shifted by the picture's size; ComfyUI's simple "
                        "and normal schedules are near, but not equal. For SamplerCustomAdvanced with euler.",
            search_aliases=["flux scheduler", "dynamic shifting", "sigmas", "mu", "timestep shift"],
            inputs=[
                io.Int.Input("steps", default=STEPS, min=1, max=10000, tooltip="Number of steps; the authors use 25."),
                io.Int.Input(
                    "width", default=1024, min=16, max=16384, step=16, tooltip="Width of the picture in pixels."
                ),
                io.Int.Input(
                    "height", default=1024, min=16, max=16384, step=16, tooltip="Height of the picture in pixels."
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.01, max=1.0, step=0.01,
                    tooltip="Below 1, only the last part of the levels, for image to image.",
                ),
                io.Float.Input(
                    "base_shift", default=BASE_SHIFT, min=0.0, max=100.0, step=0.01, advanced=True,
                    tooltip="The shift at 256 tokens (256 pixels a side).",
                ),
                io.Float.Input(
                    "max_shift", default=MAX_SHIFT, min=0.0, max=100.0, step=0.01, advanced=True,
                    tooltip="The shift at 4096 tokens (1024 pixels a side).",
                ),
            ],
            outputs=[
                io.Sigmas.Output(id="sigmas", display_name="sigmas", tooltip="Noise levels for SamplerCustomAdvanced.")
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, steps, width, height, denoise, base_shift, max_shift) -> io.NodeOutput:
        return io.NodeOutput(flux_sigmas(steps, image_tokens(width, height), base_shift, max_shift, denoise))
