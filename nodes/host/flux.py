"""Core's own FLUX.1: the only file that knows its patches and its text encoders; its layers are in flux_layers.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.ops
import torch
from comfy.ldm.flux.layers import timestep_embedding
from comfy.ldm.flux.math import apply_rope1
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import CallbacksMP as Callbacks
from comfy.patcher_extension import WrappersMP as Wrappers
from torch import Tensor

from ...models.seethrough3d.blocks import Branch, double_block, single_block
from ...models.seethrough3d.diffusers_flux import chosen
from ...models.seethrough3d.lora import Adapter, adapters, load_lora
from ...models.seethrough3d.prompt import TEXT_TOKENS, Encode
from ...models.seethrough3d.tokens import VAE_SCALE, VAE_SHIFT, Condition, condition_ids, pack, text_links
from ...scene.errors import InputError
from .devices import LoadedModel
from .flux_layers import CoreDouble, CoreSingle, flux_shape, narrow

KEY = "sightline_occlusion"  # under which our conditions, patches and call state travel
KEPT = 8  # batches of conditions whose constant parts are kept at once
PATCH = 2 * 2  # latent pixels a token
UNREAD = (
    "The conditioning holds a layout, and the model has no occlusion LoRA, which alone can read it; connect "
    "Occlusion LoRA Loader between the model and the sampler or guider."
)


# --- text encoders ---------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """Text in which parentheses are no prompt weights."""
    return text.replace("(", "\\(").replace(")", "\\)")


def _tokens(clip: Any, text: str, length: int) -> dict:
    tokens = clip.tokenize(escaped(text), tokenizer_options={"t5xxl_min_length": length})
    if not isinstance(tokens, dict) or "t5xxl" not in tokens or "l" not in tokens:
        raise InputError("`clip` is not FLUX's: load clip_l and t5xxl with DualCLIPLoader, type flux.")
    return tokens


def t5_encode(clip: Any) -> Encode:
    """Text -> T5 token ids without the end token, by the tokenizer of a CLIP object."""

    def encode(text: str) -> list[int]:
        ids = [token for batch in _tokens(clip, text, 1)["t5xxl"] for token, *_ in batch]
        if not all(isinstance(token, int) for token in ids):
            raise InputError("The prompt names a textual inversion (embedding:...), which T5 has not; leave it out.")
        return ids[:-1]

    return encode


def encode_text(clip: Any, text: str, guidance: float) -> list:
    """Core's conditioning of a prompt with T5 at 512 tokens; parentheses are plain characters."""
    conditioning = clip.encode_from_tokens_scheduled(_tokens(clip, text, TEXT_TOKENS))
    return [[states, {**values, "guidance": guidance}] for states, values in conditioning]


def encode_control(vae: Any, pixels: Tensor, draw: Callable[[tuple[int, ...]], Tensor] | None = None) -> Tensor:
    """Control images [B, 3, S, S] in [-1, 1] -> condition tokens [B, C, 4c], by core's VAE of FLUX.

    draw(shape) -> noise: take a sample of the latent instead of its mean; InputError for a VAE without deviations.
    """
    channels = getattr(vae, "latent_channels", None)
    moments: list[Tensor] = []
    regularization = getattr(vae.first_stage_model, "regularization", None)
    if draw is not None and regularization is None:
        raise InputError("`vae` gives no distribution to draw from; set `condition_latent` to mean.")
    if draw is not None:
        watch = regularization.register_forward_pre_hook(lambda module, inputs: moments.append(inputs[0]))
    try:
        latent = vae.encode((pixels.permute(0, 2, 3, 1) + 1) / 2)
    finally:
        if draw is not None:
            watch.remove()
    if latent.ndim != 4 or pixels.shape[-1] != 8 * latent.shape[-1]:
        raise InputError(
            f"`vae` makes latents {list(latent.shape)} of {pixels.shape[-1]} pixels (channels: {channels}); FLUX.1 has "
            "16 channels at an eighth of the size: load ae.safetensors."
        )
    if draw is not None:
        mean, log_variance = torch.cat(moments).float().to(latent.device).chunk(2, dim=1)
        latent = mean + torch.exp(0.5 * log_variance.clamp(-30, 20)) * draw(tuple(mean.shape)).to(mean)
    return pack((latent.float() - VAE_SHIFT) * VAE_SCALE)


# --- conditioning ----------------------------------------------------------------------------------------------------


class OcclusionCond:
    """A conditioning's conditions as core carries them: repeated for the batch, joined with others' of equal size."""

    readers = 0  # samplings under way of models that read conditions

    def __init__(self, rows: Sequence[Sequence[Condition]]) -> None:
        self.rows = tuple(tuple(row) for row in rows)

    def process_cond(self, batch_size: int, **kwargs: Any) -> OcclusionCond:
        """One row for each picture of the batch; InputError in the sampling of a model that would not read them."""
        if not OcclusionCond.readers:
            raise InputError(UNREAD)
        rows = (self.rows * -(-batch_size // len(self.rows)))[:batch_size]
        return self if rows == self.rows else OcclusionCond(rows)

    def can_concat(self, other: OcclusionCond) -> bool:
        """Whether both fit into one pass: the same number and grids of conditions, and the same adapters."""
        return [(c.grid, c.adapter) for c in self.rows[0]] == [(c.grid, c.adapter) for c in other.rows[0]]

    def concat(self, others: Sequence[OcclusionCond]) -> tuple:
        """The rows of all, one after the other: what the model receives."""
        return sum((other.rows for other in others), self.rows)

    def size(self) -> list[int]:
        """For core's memory estimate: as of a latent [B, c, pixels] with as many tokens."""
        return [len(self.rows), self.rows[0][0].tokens.shape[-1] // PATCH, PATCH * tokens_of(self.rows)]


def tokens_of(rows: Sequence[Sequence[Condition]]) -> int:
    """Condition tokens beside one picture."""
    return max((sum(len(c.tokens) for c in row) for row in rows), default=0)


def with_conditions(conditioning: list, conditions: Sequence[Condition]) -> list:
    """The conditioning with these conditions for every picture."""
    added = {KEY: OcclusionCond([conditions])}
    return [
        [states, {**values, "model_conds": {**values.get("model_conds", {}), **added}}]
        for states, values in conditioning
    ]


# --- the patch -------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """One call of the network: its condition branch, tokens and positions, and where they begin."""

    network: Any
    branch: Branch
    tokens: Tensor
    ids: Tensor
    rows: int = 0  # of [image | core's own reference tokens], known once the input is embedded


class OcclusionPatch:
    """All that is hung on a MODEL. Without conditions in the conditioning, every block is core's own, untouched."""

    def __init__(self, model: Any, lora: Sequence[Adapter], loaded: Sequence[LoadedModel], replaced: dict) -> None:
        self.model, self.adapters, self.loaded, self.replaced = model, tuple(lora), tuple(loaded), replaced
        self.caches: dict[tuple, dict] = {}

    def wrap(
        self, executor, x, timestep, context, y=None, guidance=None, ref_latents=None, control=None,
        transformer_options=None, **kwargs,
    ):  # fmt: skip
        """Around the network: take the conditions out and let the blocks know them for this call."""
        rows = kwargs.pop(KEY, None)
        if rows is not None:
            call = self.call(executor.class_obj, rows, x, context, y, guidance)
            transformer_options = {**(transformer_options or {}), KEY: call}
        return executor(x, timestep, context, y, guidance, ref_latents, control, transformer_options or {}, **kwargs)

    @staticmethod
    def sampling(executor, *args: Any, **kwargs: Any) -> Any:
        """Around a whole sampling: conditions are read in it."""
        OcclusionCond.readers += 1
        try:
            return executor(*args, **kwargs)
        finally:
            OcclusionCond.readers -= 1

    @staticmethod
    def preparing(executor, model: Any, noise_shape: Sequence[int], conds: dict, *args: Any, **kwargs: Any) -> Any:
        """Around the loading for a sampling: core estimates its memory by this shape, to which the tokens are added."""
        found = (cond.get("model_conds", {}).get(KEY) for group in conds.values() for cond in group)
        extra = max((PATCH * tokens_of(one.rows) for one in found if one is not None), default=0)
        shape = list(noise_shape)
        shape[-2] += -(-extra // shape[-1])
        return executor(model, shape, conds, *args, **kwargs)

    def call(self, network: Any, rows: tuple, x: Tensor, context: Tensor, y, guidance) -> Call:
        """The condition branch of one call; what is the same in every step is kept."""
        if len(rows) != x.shape[0]:
            raise InputError(f"The conditioning holds {len(rows)} layouts for {x.shape[0]} pictures; give one.")
        reach = max((p for row in rows for c in row for span in c.spans for p in span), default=-1)
        if reach >= context.shape[1]:
            raise InputError(f"A description reaches token {reach} of {context.shape[1]}; encode the prompt with ours.")
        if any(c.tokens.shape[-1] != network.in_channels for row in rows for c in row):
            raise InputError("`vae` of the conditioning does not belong to this FLUX: it has other latent channels.")
        vec = self.zero(network, x, y, guidance)
        patch = network.patch_size
        grid = tuple((side + patch // 2) // patch for side in x.shape[2:4])
        key = (rows, x.dtype, x.device, grid)
        cache = self.caches.get(key)
        if cache is None or not torch.equal(cache["vec"], vec) or self.hooked():
            cache = {"vec": vec, "links": text_links(rows, x.device)}
            tokens = torch.cat([torch.stack([row[i].tokens for row in rows]) for i in range(len(rows[0]))], dim=1)
            cache["tokens"] = network.img_in(tokens.to(x.device, x.dtype))
            ids = torch.cat([condition_ids(c.grid, grid, x.device) for c in rows[0]])
            cache["ids"] = ids.expand(x.shape[0], -1, -1)
            if len(self.caches) >= KEPT:
                self.caches.clear()
            self.caches[key] = cache
        branch = Branch(
            cache["links"], chosen(rows, self.adapters), cache["vec"], apply_rope1, narrow,
            cache=None if self.hooked() or torch.is_grad_enabled() else cache,
        )  # fmt: skip
        return Call(network, branch, cache["tokens"], cache["ids"])

    def hooked(self) -> bool:
        """Whether weights may change between the steps, so that nothing computed with them can be kept."""
        patcher = getattr(self.model, "current_patcher", None)
        return getattr(patcher, "current_hooks", None) is not None

    @staticmethod
    def zero(network: Any, x: Tensor, y: Tensor | None, guidance: Tensor | None) -> Tensor:
        """The modulation vector of time zero, [B, D], with this call's guidance and pooled text."""
        params = network.params
        vec = network.time_in(timestep_embedding(torch.zeros(x.shape[0], device=x.device), 256).to(x.dtype))
        if params.guidance_embed and guidance is not None:
            vec = vec + network.guidance_in(timestep_embedding(guidance, 256).to(x.dtype))
        if y is None:
            y = torch.zeros((x.shape[0], params.vec_in_dim), device=x.device, dtype=x.dtype)
        return vec + network.vector_in(y[:, : params.vec_in_dim])

    def post_input(self, args: dict) -> dict:
        """Append the condition tokens and their positions to the image stream."""
        call = args["transformer_options"].get(KEY)
        if call is None:
            return args
        call.rows = args["img"].shape[1]
        img = torch.cat([args["img"], call.tokens.to(args["img"])], dim=1)
        ids = torch.cat([args["img_ids"], call.ids.to(args["img_ids"])], dim=1)
        return {**args, "img": img, "img_ids": ids}

    def double(self, index: int) -> Callable:
        """The replacement of a double block."""

        def run(args: dict, extra: dict) -> dict:
            call = self.of(args, extra, args["img"].shape[1])
            if call is None:
                return self.plain("double_block", index, args, extra)
            text, img = args["txt"], args["img"]
            slices = [text.shape[1], text.shape[1] + img.shape[1]]
            branch = hosted(call.branch, args, slices, slices[0] + call.rows)
            layers = CoreDouble(call.network.double_blocks[index])
            text, img = double_block(layers, index, text, img, args["vec"], args["pe"], branch)
            return {"img": img, "txt": text}

        return run

    def single(self, index: int) -> Callable:
        """The replacement of a single block."""

        def run(args: dict, extra: dict) -> dict:
            options = args["transformer_options"]
            words = options["img_slice"][0]
            call = self.of(args, extra, args["img"].shape[1] - words)
            if call is None:
                return self.plain("single_block", index, args, extra)
            branch = hosted(call.branch, args, options["img_slice"], words + call.rows)
            blocks = call.network.single_blocks
            last = index == len(blocks) - 1
            layers = CoreSingle(blocks[index])
            return {"img": single_block(layers, index, args["img"], args["vec"], args["pe"], branch, last)}

        return run

    @staticmethod
    def of(args: dict, extra: dict, rows: int) -> Call | None:
        """The state of this call, None where there are no conditions."""
        call = args["transformer_options"].get(KEY)
        if call is not None and rows != call.rows + call.branch.links.total:
            raise InputError(
                "Another node adds tokens behind the condition's; put Occlusion LoRA Loader behind it, last."
            )
        return call

    def plain(self, kind: str, index: int, args: dict, extra: dict) -> dict:
        """The block as it was before this patch."""
        before = self.replaced.get((kind, index))
        return extra["original_block"](args) if before is None else before(args, extra)

    def forget(self, *_: Any) -> None:
        """Give back what was kept for the steps of a generation."""
        self.caches.clear()


def hosted(branch: Branch, args: dict, img_slice: list[int], base: int) -> Branch:
    """The branch with the host's attention in it, its override, its mask and its attention patches."""
    options = args["transformer_options"]
    patches = options.get("patches", {})
    before, after, given = patches.get("attn1_patch"), patches.get("attn1_output_patch"), args.get("attn_mask")
    extra_options = {**options, "img_slice": list(img_slice)}

    def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return optimized_attention(q, k, v, q.shape[1], mask=mask, skip_reshape=True, transformer_options=options)

    def edit(q: Tensor, k: Tensor, v: Tensor, pe: Tensor):
        mask = given
        for patch in before or ():
            out = patch(q, k, v, pe=pe, attn_mask=mask, extra_options=extra_options)
            q, k, v, pe, mask = (out.get(n, x) for n, x in zip(("q", "k", "v", "pe", "attn_mask"), (q, k, v, pe, mask)))
        return q, k, v, pe, base_rows(mask, base, k.shape[2])

    def edit_output(rows: Tensor) -> Tensor:
        for patch in after:
            rows = patch(rows, extra_options)
        return rows

    return replace(
        branch,
        attend=attend,
        edit=edit if before or given is not None else None,
        edit_output=edit_output if after else None,
    )


def base_rows(mask: Tensor | None, base: int, length: int) -> Tensor | None:
    """A host's attention mask for the text and image rows; condition tokens stay readable where it knows none."""
    if mask is None:
        return None
    if mask.shape[-2] > base:
        mask = mask[..., :base, :]
    missing = length - mask.shape[-1]
    if missing > 0:
        mask = torch.nn.functional.pad(mask, (0, missing), value=mask.dtype == torch.bool)
    return mask


def load_hosted_lora(path: Path, model: Any) -> LoadedModel:
    """An occlusion LoRA for this MODEL under the host's memory management, of layers that cast as core's do."""
    lora = load_lora(path, flux_shape(model), linear=comfy.ops.manual_cast.Linear)
    return LoadedModel.wrap(lora, lora.shape)


def with_lora(model: Any, loaded: LoadedModel, strength: float) -> Any:
    """A clone of MODEL with one occlusion LoRA more; its adapters follow those that are already there."""
    flux_shape(model)
    patched = model.clone()
    options = patched.model_options["transformer_options"]
    before = patched.get_attachment(KEY)
    replaced = dict(options.get("patches_replace", {}).get("dit", {}))
    lora, all_loaded = adapters(loaded.patcher.model.network, strength), (loaded,)
    if before is not None:
        replaced, lora, all_loaded = before.replaced, before.adapters + lora, before.loaded + all_loaded
        inputs = options["patches"]["post_input"]
        options["patches"]["post_input"] = [p for p in inputs if getattr(p, "__self__", None) is not before]
        for kind in (Wrappers.DIFFUSION_MODEL, Wrappers.OUTER_SAMPLE, Wrappers.PREPARE_SAMPLING):
            patched.remove_wrappers_with_key(kind, KEY)
        patched.remove_callbacks_with_key(Callbacks.ON_CLEANUP, KEY)
    patch = OcclusionPatch(patched.model, lora, all_loaded, replaced)
    patched.set_attachments(KEY, patch)
    patched.set_additional_models(KEY, [one.patcher for one in all_loaded])
    patched.add_wrapper_with_key(Wrappers.DIFFUSION_MODEL, KEY, patch.wrap)
    patched.add_wrapper_with_key(Wrappers.OUTER_SAMPLE, KEY, patch.sampling)
    patched.add_wrapper_with_key(Wrappers.PREPARE_SAMPLING, KEY, patch.preparing)
    counted = patched.get_model_object("memory_usage_factor_conds")
    patched.add_object_patch("memory_usage_factor_conds", (*(name for name in counted if name != KEY), KEY))
    patched.add_callback_with_key(Callbacks.ON_CLEANUP, KEY, patch.forget)
    patched.set_model_patch(patch.post_input, "post_input")
    for index in range(len(patched.model.diffusion_model.double_blocks)):
        patched.set_model_patch_replace(patch.double(index), "dit", "double_block", index)
    for index in range(len(patched.model.diffusion_model.single_blocks)):
        patched.set_model_patch_replace(patch.single(index), "dit", "single_block", index)
    return patched
