"""A layout of boxes and words becomes a FLUX picture: words, control image, noise, steps, picture.

The FLUX parts are those of diffusers and transformers (optional: `pip install diffusers transformers`); they are used
as they are, the condition branch is ours. In ComfyUI the same branch runs on its own FLUX (nodes/flux_occlusion.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.seethrough3d.diffusers_flux import transformer_shape, velocity
from ..models.seethrough3d.lora import Adapter, adapters, load_lora
from ..models.seethrough3d.prompt import TEXT_TOKENS, PromptParts, check_parts, token_spans, transformers_encode
from ..models.seethrough3d.schedule import GUIDANCE, STEPS, euler, flux_sigmas, image_tokens, released_rounding
from ..models.seethrough3d.tokens import CONDITION_SIZE, Condition, condition_pixels, mask_cells, pack, unpack
from ..scene.errors import InputError, MissingDependency

HINT = "`pip install diffusers transformers sentencepiece` (with --no-deps where torch must stay as it is)"


@dataclass(eq=False)
class FluxParts:
    """FLUX.1 as diffusers and transformers hold it; device: where each part works, the others wait on the CPU."""

    transformer: Any
    vae: Any
    t5: Any = None
    t5_tokenizer: Any = None
    clip: Any = None
    clip_tokenizer: Any = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @contextmanager
    def on_device(self, module: Any) -> Iterator[Any]:
        """A part on the device, back on the CPU afterwards."""
        if self.device.type == "cpu":
            yield module
            return
        try:
            yield module.to(self.device)
        finally:
            module.to("cpu")


def load_flux(folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> FluxParts:
    """FLUX.1 from a local folder in diffusers' layout; nothing is downloaded.

    dtype: default bfloat16 on a GPU, float32 on a CPU. Raises InputError for a folder that is none, MissingDependency
    without diffusers or transformers.
    """
    folder, device = Path(folder), torch.device(device)
    if not (folder / "model_index.json").is_file():
        raise InputError(f"{folder} is no FLUX.1 folder: it has no model_index.json; give a local copy of FLUX.1-dev.")
    try:
        from diffusers import AutoencoderKL, FluxTransformer2DModel
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast
    except ImportError as error:
        raise MissingDependency(f"FLUX outside ComfyUI needs diffusers and transformers ({error}); {HINT}.") from error
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    options = dict(local_files_only=True, torch_dtype=dtype)

    def part(kind: Any, name: str, **options: Any) -> Any:
        try:
            return kind.from_pretrained(str(folder), subfolder=name, local_files_only=True, **options)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / name} cannot be loaded: {' '.join(str(error).split())[:200]}") from None

    del options["local_files_only"]
    return FluxParts(
        part(FluxTransformer2DModel, "transformer", **options).eval(),
        part(AutoencoderKL, "vae", **options).eval(),
        part(T5EncoderModel, "text_encoder_2", **options).eval(),
        part(T5TokenizerFast, "tokenizer_2"),
        part(CLIPTextModel, "text_encoder", **options).eval(),
        part(CLIPTokenizer, "tokenizer"),
        device,
    )


def load_adapters(path: str | Path, flux: FluxParts, strength: float = 1.0) -> tuple[Adapter, ...]:
    """The LoRA of a file for this FLUX, on its device and in its dtype; errors as `load_lora`."""
    lora = load_lora(path, transformer_shape(flux.transformer), dtype=flux.transformer.dtype)
    return adapters(lora.to(flux.device), strength)


@torch.no_grad()
def encode_prompt(flux: FluxParts, text: str) -> tuple[Tensor, Tensor]:
    """The T5 states [1, 512, E] and the pooled CLIP state [1, P] of a prompt; padding is part of the sequence."""
    ids = flux.t5_tokenizer(
        text, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    with flux.on_device(flux.t5) as t5:
        states = t5(ids.to(flux.device))[0]
    ids = flux.clip_tokenizer(text, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with flux.on_device(flux.clip) as clip:
        pooled = clip(ids.to(flux.device)).pooler_output
    return states, pooled


@torch.no_grad()
def encode_condition(flux: FluxParts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A control image [B, 3, S, S] in [-1, 1] -> condition tokens [B, C, 4c]; with a generator its latent is drawn."""
    with flux.on_device(flux.vae) as vae:
        posterior = vae.encode(pixels.to(flux.device, vae.dtype)).latent_dist
        if generator is None:
            latent = posterior.mode()
        else:
            noise = torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float32)
            latent = posterior.mean + posterior.std * noise.to(posterior.mean)
        return pack((latent - vae.config.shift_factor) * vae.config.scaling_factor)


def draw_noise(flux: FluxParts, width: int, height: int, generator: torch.Generator) -> Tensor:
    """The noise a picture of FLUX begins with, packed: [1, N, 4c], drawn in float32 on the CPU."""
    image_tokens(width, height)
    channels = flux.transformer.config.in_channels // 4
    noise = torch.randn(1, channels, height // 8, width // 8, generator=generator, dtype=torch.float32)
    return pack(noise).to(flux.device, flux.transformer.dtype)


@torch.no_grad()
def sample_latents(
    flux: FluxParts,
    noise: Tensor,
    text: Tensor,
    pooled: Tensor,
    rows: Sequence[Sequence[Condition]],
    lora: Sequence[Adapter],
    width: int,
    height: int,
    *,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    as_released: bool = False,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """Packed noise [B, N, 4c] -> packed latents, over FLUX's own noise levels.

    rows: the conditions of each picture; as_released: round timesteps, guidance and positions to bfloat16 as the
    official inference does. callback(done, steps, latents); what it raises stops the sampling.
    """
    sigmas, grid = flux_sigmas(steps, image_tokens(width, height)), (height // 16, width // 16)
    cache: dict = {}
    with flux.on_device(flux.transformer) as transformer:
        strength = torch.full((len(noise),), guidance, dtype=torch.float32, device=flux.device)
        if as_released:
            strength = released_rounding(strength * 1000, torch.bfloat16).float() / 1000

        def flow(x: Tensor, sigma: Tensor) -> Tensor:
            time = sigma.to(flux.device).expand(len(x))
            if as_released:
                time = released_rounding(time * 1000, torch.bfloat16).float() / 1000
            ids = torch.bfloat16 if as_released else torch.float32
            return velocity(transformer, x, text, pooled, time, strength, grid, rows, lora, cache=cache, ids_dtype=ids)

        return euler(flow, noise, sigmas, callback)


@torch.no_grad()
def decode_picture(flux: FluxParts, latents: Tensor, width: int, height: int) -> Tensor:
    """Packed latents [B, N, 4c] -> pictures [B, 3, H, W] in [0, 1], float32 on the CPU."""
    with flux.on_device(flux.vae) as vae:
        latent = unpack(latents, height // 16, width // 16) / vae.config.scaling_factor + vae.config.shift_factor
        picture = vae.decode(latent.to(vae.dtype), return_dict=False)[0]
    return (picture.float().cpu() / 2 + 0.5).clamp(0, 1)


def layout_to_picture(
    flux: FluxParts,
    lora: Sequence[Adapter],
    parts: PromptParts,
    control: Tensor,
    masks: Tensor,
    *,
    width: int = 1024,
    height: int = 1024,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    seed: int = 42,
    as_released: bool = False,
    callback: Callable[[int, int, Tensor], None] | None = None,
) -> Tensor:
    """A layout's control image, silhouettes and words -> a picture [1, 3, H, W] in [0, 1].

    control: [1, 3, h, w] in [0, 1], the occlusion control render; masks: [K, h, w] amodal silhouettes, one per
    description of `parts`, in its order. as_released: draw the condition's latent and round as the official inference
    does (see `sample_latents`). Raises InputError for what does not fit together.
    """
    check_parts(parts)
    if masks.ndim != 3 or len(masks) != len(parts.subjects):
        raise InputError(f"`masks` is of {list(masks.shape)} and there are {len(parts.subjects)} descriptions.")
    spans = token_spans(transformers_encode(flux.t5_tokenizer), parts)
    text, pooled = encode_prompt(flux, parts.text)
    generator = torch.Generator().manual_seed(seed)
    noise = draw_noise(flux, width, height, generator)
    tokens = encode_condition(flux, condition_pixels(control), generator if as_released else None)[0]
    side = CONDITION_SIZE // 16
    condition = Condition(tokens, (side, side), tuple(map(tuple, spans)), mask_cells(masks, (side, side)))
    latents = sample_latents(
        flux, noise, text, pooled, [[condition]], lora, width, height,
        steps=steps, guidance=guidance, as_released=as_released, callback=callback,
    )  # fmt: skip
    return decode_picture(flux, latents, width, height)
