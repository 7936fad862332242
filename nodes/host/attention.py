"""Core's attention and guiders: logits blurred through the attention override, two branches in one guider."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ...kernels.logit_blur import LogitBlur, blur_qk
from ...models.relaxflow.denoised import lay_out, mix_denoised, step_of
from ...models.relaxflow.priors import pool_priors
from ...models.relaxflow.settings import StageSettings
from ...models.relaxflow.visibility import mask_of_voxels, mask_on_grid
from ...scene.errors import InputError
from .base import io
from .progress import stop_if_interrupted

VisibilityType = io.Custom("SIGHTLINE_VISIBILITY")

_OVERRIDE = "optimized_attention_override"
_COUNTS = "trellis2_coord_counts"
_COORDS = "trellis2_coords"
_PROJECTED = "trellis2_proj_feats"
_TOKENS = ("embeds",)
_COND, _UNCOND = 0, 1  # core's numbers in `cond_or_uncond`
BRANCHES = {"all": (_COND, _UNCOND), "positive": (_COND,), "negative": (_UNCOND,)}


class BlurredAttention:
    """The override that blurs queries and keys before the host's own attention, and the wrapper that watches it.

    branches: which conditions of a guided batch are blurred. previous: an override that was there before. true_axes:
    tokens are blurred along the axes of their cube, voxels or picture instead of in a row. priors: so many of equal
    length lie side by side in the condition, none of which is blurred into the next.
    """

    def __init__(
        self,
        blur: LogitBlur,
        branches: tuple[int, ...],
        alternating: bool,
        previous: Callable | None,
        true_axes: bool = False,
        priors: int = 1,
    ):
        self.blur, self.branches, self.alternating, self.previous = blur, branches, alternating, previous
        self.true_axes, self.priors = true_axes, priors
        self.calls = self.reached = 0
        self.lengths: list[int] | None = None
        self.coords: Tensor | None = None

    def watch(self, executor, *args, **kwargs):
        """Around every evaluation of the model; says where nothing was reached that should have been blurred."""
        counts = kwargs.get(_COUNTS)
        self.calls = self.reached = 0
        self.lengths = None if counts is None else [int(count) for count in counts]
        self.coords = kwargs.get(_COORDS)
        out = executor(*args, **kwargs)
        if self.reached == 0:
            found = f"{self.calls} attentions, none of the kind {self.blur.where!r}" if self.calls else "no attention"
            raise InputError(
                f"The attention of this model could not be blurred: {found} can be reached; choose another "
                "`attention`, or a model that honors ComfyUI's attention override (TRELLIS.2, Pixal3D, FLUX)."
            )
        return out

    def __call__(self, function, q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs):
        number, self.calls = self.calls, self.calls + 1
        # TRELLIS.2 takes turns, self- then cross-attention; elsewhere they differ in length
        cross = number % 2 == 1 if self.alternating else q.shape[-2] != k.shape[-2]
        kind = "cross" if cross else "self"
        if self.blur.touches(kind):
            self.reached += 1
            slots = self._slots(kwargs.get("transformer_options") or {}, q.shape[0])
            if any(slots):
                q, k = self._blurred(q, k, heads, kind, slots, bool(kwargs.get("skip_reshape")))
        if self.previous is not None:
            return self.previous(function, q, k, v, heads, *args, **kwargs)
        return function(q, k, v, heads, *args, **kwargs)

    def _slots(self, options: dict, batch: int) -> tuple[bool, ...]:
        kinds = options.get("cond_or_uncond") or [_COND]
        each = max(batch // len(kinds), 1)
        return tuple(kind in self.branches for kind in kinds for _ in range(each))[:batch]

    def _blurred(self, q, k, heads, kind, slots, split):
        def tokens(x):  # -> [B, L, H, D]
            return x.transpose(1, 2) if split else x.unflatten(-1, (heads, -1))

        def back(x):
            return x.transpose(1, 2) if split else x.flatten(-2)

        q, k = tokens(q), tokens(k)
        items, places = self._lengths(q.shape[0], q.shape[1]), self._places(q.shape[0], q.shape[1])
        blur = self._laid_out(q.shape[1], k.shape[1], kind, places is not None)
        if items is None and places is None:
            q, k = blur_qk(q, k, blur.for_slots(slots), kind)
        else:  # every item by itself: a ragged batch is padded, and each has voxels of its own
            q, k, whole = q.clone(), k.clone(), blur.for_slots(None)
            for index, slot in enumerate(slots):
                if slot:
                    length = q.shape[1] if items is None else items[index]
                    keys = length if kind == "self" else k.shape[1]
                    place = None if places is None else places[index].to(q.device)
                    one = blur_qk(q[index, :length], k[index, :keys], whole, kind, [length], [keys], place)
                    q[index, :length], k[index, :keys] = one
        return back(q), back(k)

    def _places(self, batch: int, padded: int) -> list[Tensor] | None:
        """The voxels of every item of the batch, where the blur follows them."""
        if not self.true_axes or self.coords is None:
            return None
        coords = self.coords
        counts = self.lengths or [len(coords)]
        if sum(counts) != len(coords) or max(counts) != padded or batch % len(counts):
            return None
        return list(coords[:, -3:].split(counts)) * (batch // len(counts))

    def _laid_out(self, queries: int, keys: int, kind: str, sparse: bool) -> LogitBlur:
        """The blur with what is known of how these tokens lie."""
        changes: dict[str, Any] = {}
        if self.true_axes:
            side = round(queries ** (1 / 3))
            if not sparse and side**3 != queries:
                raise InputError(
                    f"`true_axes` needs tokens that fill a cube or lie on voxels; this model has {queries} of another "
                    "kind: turn it off."
                )
            changes["grid_q"] = (side, side, side)
        if kind == "cross":
            each, rest = divmod(keys, self.priors)
            if rest:
                raise InputError(f"`priors` is {self.priors}, but the condition has {keys} tokens; they do not divide.")
            if self.priors > 1:
                changes["segments"] = (each,) * self.priors
            patches = each - self.blur.special
            side = math.isqrt(max(patches, 0))
            if self.true_axes and patches > 0:
                if side * side != patches:
                    raise InputError(
                        f"`true_axes` needs patches that fill a square, and there are {patches}; set `special_tokens` "
                        "(5 for DINOv3) and `priors` to what the condition has."
                    )
                changes["grid_k"] = (side, side)
        return replace(self.blur, **changes)

    def _lengths(self, batch: int, padded: int) -> list[int] | None:
        if not self.lengths or batch % len(self.lengths) or max(self.lengths) != padded:
            return None
        items = self.lengths * (batch // len(self.lengths))
        return items if min(items) < padded else None


def _alternates(model: Any) -> bool:
    """Whether the model's attentions take turns, self and cross (core's TRELLIS.2 and Pixal3D)."""
    return hasattr(getattr(model.model, "diffusion_model", None), "structure_model")


def blur_attention(model: Any, blur: LogitBlur, branch: str = "all", true_axes: bool = False, priors: int = 1) -> Any:
    """A clone of a MODEL whose attention logits are blurred; without an active blur the clone does what `model` does.

    branch: "all", "positive" or "negative", of a guided batch. true_axes, priors: see `BlurredAttention`. The model
    itself is not changed.
    """
    clone = model.clone()
    if blur.active:
        options = clone.model_options["transformer_options"] = dict(clone.model_options.get("transformer_options", {}))
        reach = BlurredAttention(blur, BRANCHES[branch], _alternates(model), options.get(_OVERRIDE), true_axes, priors)
        options[_OVERRIDE] = reach
        clone.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, reach.watch)
    return clone


def dual_branch_guider(
    model, positive, negative, prior, cfg, settings: StageSettings, visible=None, hold: bool = False
) -> Any:
    """The GUIDER of two conditions; hold: see `DualBranchGuider`."""
    guider = DualBranchGuider(model, settings, visible, hold)
    guider.set_conds(positive, negative, prior)
    guider.set_cfg(cfg)
    return guider


def combine_priors(priors: list, pooling: str, temperature: float) -> list:
    """One CONDITIONING of several: every item of every batch is a prior; what is no token is the mean."""
    if not priors:
        raise InputError("There are no priors; connect the conditioning of at least one picture.")
    if any(len(one) != 1 for one in priors):
        raise InputError("A prior has several conditionings at once; connect that of one picture each.")
    tables = [one[0][1] for one in priors]

    def pooled(tensors: list) -> Tensor:
        return pool_priors([item[None] for tensor in tensors for item in tensor], pooling, temperature=temperature)

    merged = dict(tables[0])
    for name in _TOKENS:
        if name in merged:
            merged[name] = pooled([table[name] for table in tables])
    features = [table[_PROJECTED] for table in tables if _PROJECTED in table]
    if features and features[0].ndim == 3:  # dense: one grid per picture
        merged[_PROJECTED] = torch.cat(features).mean(0, keepdim=True)
    elif features:
        merged[_PROJECTED] = torch.stack(features).mean(0)
    return [[pooled([one[0][0] for one in priors]), merged]]


def mask_for(visibility: Tensor, latent: dict | None) -> Tensor:
    """A visibility mask [R, R, R] for what is sampled: the voxels of a sparse latent [N], else its dense grid."""
    if latent is not None and "coords" in latent:
        return mask_of_voxels(visibility, latent["coords"], int(latent["coord_resolution"]))
    size = 16 if latent is None else int(latent["samples"].shape[-1])
    return mask_on_grid(visibility, size)


class DualBranchGuider(comfy.samplers.CFGGuider):
    """Observation and prior guided separately, their velocities mixed; with alpha 0, core's CFG itself.

    The unconditional evaluation is shared by both branches unless self-attention is blurred. hold: the observation
    alone is sampled first, and what is visible gets its clean estimates, evaluation by evaluation, so that it goes the
    same way and ends where the observation ends (with any sampler that treats every value by itself).
    """

    def __init__(self, model: Any, settings: StageSettings, visible: Tensor | None = None, hold: bool = False):
        super().__init__(model)
        self.settings, self.visible = settings, visible
        self.hold = hold and visible is not None and settings.masked
        self.kept: list[Tensor] | None = None
        self.replayed: int | None = None
        self.blur = settings.blur() if settings.prior_weight > 0 else None
        self.evaluations = 0
        if self.blur is not None:
            self.blurred = blur_attention(model, self.blur)

    def set_conds(self, positive, negative, prior=None):
        conds = {"positive": positive, "negative": negative}
        self.inner_set_conds(conds | ({} if prior is None else {"prior": prior}))

    def sample(self, *args, **kwargs):
        """Core's entry: one run, or with `hold` that of the observation and then the blend."""
        if not self.hold:
            return super().sample(*args, **kwargs)
        self.kept, self.replayed = [], None
        try:
            super().sample(*args, **kwargs)
            self.replayed = 0
            return super().sample(*args, **kwargs)
        finally:
            self.kept = self.replayed = None

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        """Core's entry: the clean estimate at this noise level."""
        stop_if_interrupted()
        if self.kept is not None and self.replayed is None:
            self.evaluations += 1 if self.cfg == 1 else 2
            out = super().predict_noise(x, timestep, model_options or {}, seed)
            self.kept.append(out)
            return out
        out = self._blended(x, timestep, model_options or {}, seed)
        if self.replayed is not None and self.replayed < len(self.kept):
            seen = lay_out(self.visible.to(x), x.shape).clamp(0, 1).movedim(-1, 1)
            out = seen * self.kept[self.replayed] + (1 - seen) * out
            self.replayed += 1
        return out

    def _blended(self, x, timestep, model_options, seed):
        options = model_options
        sigma = float(timestep.flatten()[0])
        sigmas = options.get("transformer_options", {}).get("sample_sigmas", timestep)
        mix = self.settings.mix(max(len(sigmas) - 1, 1))
        alpha = mix.at(step_of(sigma, sigmas))
        if alpha <= 0 or self.conds.get("prior") is None:
            self.evaluations += 1 if self.cfg == 1 else 2
            return super().predict_noise(x, timestep, options, seed)
        if self.visible is not None and self.settings.masked:
            mix = replace(mix, visible=lay_out(self.visible.to(x), x.shape))
        guided = not (abs(self.cfg - 1) < 1e-9 and not options.get("disable_cfg1_optimization", False))
        shared = self.blur is None or not self.blur.touches("self")
        negative = self.conds.get("negative") if guided else None
        prior = self.conds["prior"]
        needs_obs = mix.needs_observation(alpha)
        uncond = None
        if needs_obs:
            obs, uncond = self._evaluate([self.conds.get("positive"), negative], x, timestep, options)
            obs = self._guide(obs, uncond, x, timestep, options, self.conds.get("positive"), negative)
        elif guided and shared:
            uncond = self._evaluate([None, negative], x, timestep, options)[1]
        own = negative if guided and not shared else None
        inner = self._prior_options(options)
        priors = self._evaluate([prior, own], x, timestep, inner)
        uncond = priors[1] if own is not None else uncond
        estimate = self._guide(priors[0], uncond, x, timestep, options, prior, negative)
        return mix_denoised(x, sigma, obs if needs_obs else estimate, estimate, alpha, mix)

    def _evaluate(self, conds, x, timestep, options):
        self.evaluations += sum(cond is not None for cond in conds)
        return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)

    def _guide(self, cond, uncond, x, timestep, options, positive, negative):
        """What core's sampling_function does with the two estimates."""
        out, scale = [cond, uncond], self.cfg
        conds = [positive, negative]
        for change in options.get("sampler_pre_cfg_function", []):
            out = change(
                {"conds": conds, "conds_out": out, "cond_scale": scale, "timestep": timestep, "input": x,
                 "sigma": timestep, "model": self.inner_model, "model_options": options}
            )  # fmt: skip
        if uncond is None:
            out = [out[0], torch.zeros_like(out[0])]
        return comfy.samplers.cfg_function(
            self.inner_model, out[0], out[1], scale if uncond is not None else 1.0, x, timestep,
            model_options=options, cond=positive, uncond=negative,
        )  # fmt: skip

    def _prior_options(self, options: dict) -> dict:
        """The options of the prior's evaluations: those of the run, with the blur of the clone."""
        if self.blur is None:
            return options
        reach = self.blurred.model_options["transformer_options"][_OVERRIDE]
        run = dict(options.get("transformer_options", {}))
        wrappers = {kind: {k: list(v) for k, v in table.items()} for kind, table in run.get("wrappers", {}).items()}
        kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        wrappers.setdefault(kind, {}).setdefault("sightline", []).append(reach.watch)
        return {**options, "transformer_options": {**run, _OVERRIDE: reach, "wrappers": wrappers}}
