"""What `native_flux.py` checks of our patch on core's FLUX; `test_flux_occlusion.py` judges the answers."""

import contextlib
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace

import comfy.model_patcher
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import torch
from native_flux import flux_model, options_of, tiny_clip
from safetensors.torch import save_file

from sightline.models.seethrough3d.lora import ConditionLora, LoraShape, save_lora
from sightline.models.seethrough3d.schedule import flux_sigmas
from sightline.models.seethrough3d.tokens import Condition
from sightline.nodes import flux_occlusion as nodes
from sightline.nodes.host import flux

CONFIG = {
    "in_channels": 16, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 24, "pooled_projection_dim": 12, "guidance_embeds": True, "axes_dims_rope": [4, 6, 6],
}  # fmt: skip
SHAPE = LoraShape(2, 2, 32, (4,))
TEXT, GRID = 16, (4, 4)
KEYS = {}


def random(*shape, seed=0, scale=1.0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def base_weights():
    """Random weights under diffusers' names."""
    from diffusers import FluxTransformer2DModel

    if not KEYS:
        torch.manual_seed(0)
        network = FluxTransformer2DModel(patch_size=1, **CONFIG)
        for index, (name, value) in enumerate(sorted(network.state_dict().items())):
            scale = 0.5 / math.sqrt(value[0].numel()) if value.ndim > 1 else 0.1
            KEYS[name] = random(*value.shape, seed=index, scale=scale) + ("norm_" in name and value.ndim == 1)
    return KEYS


def folder():
    return Path(tempfile.mkdtemp())


def lora_file(seed=0, shape=SHAPE, drop=0):
    lora = ConditionLora(shape)
    for index, value in enumerate(lora.parameters()):
        value.copy_(random(*value.shape, seed=seed * 1000 + index, scale=0.3))
    path = folder() / f"occlusion{seed}.safetensors"
    save_lora(lora, path)
    if drop:
        weights = dict(lora.state_dict())
        for name in list(weights)[:drop]:
            del weights[name]
        save_file(weights, str(path))
    return path


def with_file(model, path, strength=1.0):
    return flux.with_lora(model, flux.load_hosted_lora(path, model), strength)


def condition(seed=0, spans=((4, 5), (7,)), adapter=0):
    cells = random(len(spans), *GRID, seed=seed) > 0
    return Condition(random(16, 16, seed=50 + seed), GRID, tuple(spans), cells, adapter)


def positive(*conditions, seed=0):
    plain = [[random(1, TEXT, 24, seed=seed), {"pooled_output": random(1, 12, seed=seed), "guidance": 3.5}]]
    return flux.with_conditions(plain, conditions) if conditions else plain


def sample(model, positive, negative=(), cfg=1.0, steps=2, size=8, batch=1, callback=None, latent=None):
    noise = random(batch, 4, size, size, seed=9)
    return comfy.sample.sample_custom(
        model, noise, cfg, comfy.samplers.sampler_object("euler"), flux_sigmas(steps, 256), positive, list(negative),
        torch.zeros_like(noise), callback=callback, seed=0,
    )  # fmt: skip


def worst(a, b):
    return float((a - b).abs().max())


def identity():
    """What the base model gives before, beside and after the patch, without conditions and with strength 0."""
    model, path = flux_model(CONFIG, base_weights()), lora_file()
    before = sample(model, positive())
    patched, silent = with_file(model, path), with_file(model, path, 0.0)
    moved = sample(patched, positive(condition()))
    return {
        "without_conditions": torch.equal(sample(patched, positive()), before),
        "strength_0": torch.equal(sample(silent, positive()), before),
        "after": torch.equal(sample(model, positive()), before),
        "moved": worst(moved, before),
        "repeats": torch.equal(sample(patched, positive(condition())), moved),
        "lora_matters": worst(sample(silent, positive(condition())), moved),
        "keys_stay": sorted(patched.model_options["transformer_options"]) == ["patches", "patches_replace"]
        and not model.model_options["transformer_options"],
    }


def memory():
    """What core reckons with: before it loads, and for each batch, with and without conditions."""
    import comfy.model_management

    model, path = flux_model(CONFIG, base_weights()), lora_file()
    once = with_file(model, path)
    twice, loaded, batched = with_file(once, lora_file(2)), [], []
    load, reckon = comfy.model_management.load_models_gpu, type(model.model).memory_required

    def watch_load(models, memory_required=0, **kwargs):
        loaded.append(memory_required)
        return load(models, memory_required=memory_required, **kwargs)

    def watch_batch(self, shape, cond_shapes=None):
        cond_shapes = cond_shapes or {}
        found = reckon(self, shape, cond_shapes)
        if flux.KEY in cond_shapes or "c_crossattn" in cond_shapes:
            batched.append(found)
        return found

    def watched(model, given):
        loaded.clear(), batched.clear()
        comfy.model_management.load_models_gpu = watch_load
        type(model.model).memory_required = watch_batch
        try:
            sample(model, given, steps=1)
        finally:
            comfy.model_management.load_models_gpu = load
            type(model.model).memory_required = reckon
        return max(loaded), batched[0]

    plain = watched(model, positive())
    cases = {
        "plain": watched(once, positive()),
        "one": watched(once, positive(condition())),
        "two": watched(twice, positive(condition(1), condition(3, adapter=1))),
        "base_again": watched(model, positive()),
    }
    return {name: [a / b for a, b in zip(found, plain)] for name, found in cases.items()}


def batches():
    """Two layouts with different spans in one pass equal two passes; a batch of pictures repeats its layout."""
    patched = with_file(flux_model(CONFIG, base_weights()), lora_file())
    one, other = positive(condition(1), seed=1), positive(condition(2, ((4,), (6, 7, 8), (10,))), seed=2)
    alone = [sample(patched, c) for c in (one, other)]
    passes = []

    def count(executor, x, *args, **kwargs):
        passes.append(x.shape[0])
        return executor(x, *args, **kwargs)

    counted = patched.clone()
    counted.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "count", count)
    average = sample(counted, one + other, steps=1)
    expected = [sample(patched, c, steps=1) for c in (one, other)]
    guided = sample(counted, one, positive(), cfg=3.0, steps=1)
    noise = random(2, 4, 8, 8, seed=9)
    pair = sample(patched, one, batch=2)
    second = comfy.sample.sample_custom(
        patched, noise[1:], 1.0, comfy.samplers.sampler_object("euler"), flux_sigmas(2, 256), one, [],
        torch.zeros_like(noise[1:]), seed=0,
    )  # fmt: skip
    return {
        "passes": passes,
        "joined": worst(average, (expected[0] + expected[1]) / 2),
        "different": worst(*alone),
        "guided": bool(guided.isfinite().all()),
        "batch": worst(pair[1:], second),
    }


def several():
    """Two LoRAs and two control images on core, beside the same on diffusers' layers."""
    from diffusers import FluxTransformer2DModel

    from sightline.models.seethrough3d.diffusers_flux import velocity
    from sightline.models.seethrough3d.lora import Adapter, load_lora
    from sightline.models.seethrough3d.tokens import pack

    paths = lora_file(1), lora_file(2)
    model = flux_model(CONFIG, base_weights())
    patched = with_file(with_file(model, paths[0]), paths[1], 0.6)
    row = (condition(1), condition(3, ((4, 5), (7,)), adapter=1))
    x, text, pooled = random(1, 4, 8, 8, seed=3), random(1, TEXT, 24, seed=4), random(1, 12, seed=5)
    time, guidance = torch.tensor([0.7]), torch.tensor([3.5])
    found = patched.model.diffusion_model(
        x,
        time,
        context=text,
        y=pooled,
        guidance=guidance,
        transformer_options=options_of(patched),
        **{flux.KEY: (row,)},
    )
    theirs = FluxTransformer2DModel(patch_size=1, **CONFIG)
    theirs.load_state_dict(base_weights())
    adapters = [Adapter(load_lora(path), 0, strength) for path, strength in zip(paths, (1.0, 0.6))]
    expected = velocity(theirs.eval(), pack(x), text, pooled, time, guidance, (4, 4), [row], adapters)
    once = with_file(model, paths[0])
    options = patched.model_options["transformer_options"]
    wrappers = patched.wrappers[comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL]
    said = "nothing"
    try:
        sample(once, positive(*row))
    except ValueError as error:
        said = str(error)
    return {
        "difference": worst(pack(found), expected),
        "post_inputs": len(options["patches"]["post_input"]),
        "wrappers": len(wrappers[flux.KEY]),
        "models": len(patched.get_additional_models_with_key(flux.KEY)),
        "too_few": said,
    }


@contextlib.contextmanager
def little_memory(bytes_=2000):
    """The host loads models with so little room that most layers stay where they are and are fetched for each call."""
    import comfy.model_management

    kind = comfy.model_management.LoadedModel
    load = kind.model_load
    kind.model_load = lambda self, lowvram_model_memory=0, force_patch_weights=False: load(self, bytes_)
    try:
        yield
    finally:
        kind.model_load = load


def base_changes():
    """Core's LoRA stack, stored fp8, layers without weights, and rank-and-file memory."""
    path = lora_file()
    model = flux_model(CONFIG, base_weights())
    given = positive(condition())
    plain = sample(with_file(model, path), given)

    stacked = model.clone()
    name = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    change = random(96, 32, seed=77, scale=0.1)
    stacked.add_patches({name: ("diff", (change,))})
    first = sample(with_file(stacked, path), given)
    later = with_file(model, path)
    later.add_patches({name: ("diff", (change,))})
    merged = flux_model(CONFIG, base_weights())
    merged.model.diffusion_model.double_blocks[0].img_attn.qkv.weight.data += change
    expected = sample(with_file(merged, path), given)
    again = sample(with_file(model, path), given)

    eighth = flux_model(CONFIG, base_weights(), ("float8_e4m3fn", "float32"))
    stored = {str(p.dtype) for p in eighth.model.diffusion_model.parameters()}
    rounded = flux_model(CONFIG, {k: v.to(torch.float8_e4m3fn).float() for k, v in base_weights().items()})

    partly, states = flux_model(CONFIG, base_weights()), []
    partly.add_patches({name: ("diff", (change,))})
    low = with_file(partly, path)
    with little_memory():
        spread = sample(low, given, callback=lambda *a: states.append(low.model.model_lowvram))

    scaled = flux_model(CONFIG, base_weights(), ("float32", "float32"), stored="fp8")
    kinds = {type(p).__name__ for p in scaled.model.diffusion_model.parameters()}
    kinds |= {type(p.data).__name__ for p in scaled.model.diffusion_model.parameters()}
    meant = flux_model(CONFIG, base_weights(), stored="meant")

    class Foreign(torch.nn.Module):
        """A layer as GGUF's: it can be called, and has no weight that can be read."""

        def __init__(self, layer):
            super().__init__()
            self.hidden = [layer]

        def forward(self, x):
            return self.hidden[0](x)

    opaque = flux_model(CONFIG, base_weights())
    network = opaque.model.diffusion_model
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear) and parent is not network:
                setattr(parent, name, Foreign(child))
    loaded = flux.load_hosted_lora(path, model)
    bytes_ = sum(p.numel() * p.element_size() for p in ConditionLora(SHAPE).parameters())
    return {
        "lora_before": worst(first, expected),
        "lora_after": worst(sample(later, given), expected),
        "lora_moved": worst(expected, plain),
        "lora_undone": torch.equal(again, plain),
        "fp8_stored": sorted(stored),
        "fp8": worst(sample(with_file(eighth, path), given), sample(with_file(rounded, path), given)),
        "offloaded": [all(states), low.lowvram_patch_counter(), worst(spread, expected)],
        "quantized_kinds": sorted(kinds),
        "quantized": worst(sample(with_file(scaled, path), given), sample(with_file(meant, path), given)),
        "quantized_base": worst(sample(scaled, positive()), sample(meant, positive())),
        "opaque": worst(sample(with_file(opaque, path), given), plain),
        "own_memory": loaded.patcher.model_size() == bytes_,
        "nested": loaded.patcher.model
        in [m.model for m in flux.with_lora(model, loaded, 1).get_nested_additional_models()],
    }


def neighbours():
    """Other nodes' attention patches, masks, overrides, replaced blocks, reference latents."""
    path, model = lora_file(), flux_model(CONFIG, base_weights())
    given = positive(condition())
    patched = with_file(model, path)
    plain, seen = sample(patched, given), []

    def look(q, k, v, pe=None, attn_mask=None, extra_options=None):
        seen.append(
            (extra_options["block_type"], q.shape[2], k.shape[2], pe.shape[2], tuple(extra_options["img_slice"]))
        )
        return {}

    watched = patched.clone()
    watched.set_model_attn1_patch(look)
    watched.set_model_attn1_output_patch(lambda rows, options: rows)
    through = sample(watched, given)

    half = patched.clone()
    half.set_model_attn1_output_patch(lambda rows, options: rows * 0.5)

    def no_image(q, k, v, pe=None, attn_mask=None, extra_options=None):
        base = TEXT + 16
        mask = torch.zeros(1, 1, base, base)
        mask[..., TEXT:] = -1e9
        return {"attn_mask": mask}

    masked = patched.clone()
    masked.set_model_attn1_patch(no_image)

    calls = []

    def override(original, *args, **kwargs):
        calls.append(kwargs.get("mask") is not None)
        return original(*args, **kwargs)

    overridden = patched.clone()
    overridden.model_options["transformer_options"]["optimized_attention_override"] = override
    same = sample(overridden, given, steps=1)
    masked_calls = sum(calls)

    replaced, used = model.clone(), []

    def replacement(args, extra):
        used.append(1)
        return extra["original_block"](args)

    replaced.set_model_patch_replace(replacement, "dit", "double_block", 1)
    sample(with_file(replaced, path), positive(), steps=1)

    last = patched.clone()
    last.set_model_patch(
        lambda args: {
            **args,
            "img": torch.cat([args["img"], args["img"][:, :2]], 1),
            "img_ids": torch.cat([args["img_ids"], args["img_ids"][:, :2]], 1),
        },
        "post_input",
    )
    said = "nothing"
    try:
        sample(last, given)
    except ValueError as error:
        said = str(error)
    reference = [[given[0][0], {**given[0][1], "reference_latents": [random(1, 4, 8, 8, seed=8)]}]]
    control = SimpleNamespace(done=[])
    kontext = sample(patched, reference)
    return {
        "watched": worst(through, plain),
        "seen": sorted(set(seen)),
        "half_moved": worst(sample(half, given), plain),
        "mask_moved": worst(sample(masked, given), plain),
        "override": worst(same, sample(patched, given, steps=1)),
        "calls": [len(calls), masked_calls],
        "replaced": len(used),
        "behind": said,
        "kontext": bool(kontext.isfinite().all()) and worst(kontext, plain) > 1e-4,
        "control": control.done,
    }


def interrupted():
    """A sampling that is stopped gives back what it kept, and works again."""
    patched = with_file(flux_model(CONFIG, base_weights()), lora_file())
    given = positive(condition())
    expected = sample(patched, given)

    def stop(*arguments):
        raise InterruptedError

    with contextlib.suppress(InterruptedError):
        sample(patched, given, callback=stop)
    kept = len(patched.get_attachment(flux.KEY).caches)
    return {"kept": kept, "again": torch.equal(sample(patched, given), expected)}


class FakeVae:
    """An eighth of the size, four channels: the mean of each cell."""

    latent_channels = 4
    first_stage_model = SimpleNamespace()

    def encode(self, pixels):
        cells = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([cells, cells[:, :1]], 1)


class DrawingVae(FakeVae):
    """As core's: an encoder whose moments go through a module `regularization`."""

    def __init__(self):
        self.first_stage_model = SimpleNamespace(regularization=torch.nn.Identity())

    def encode(self, pixels):
        mean = super().encode(pixels)
        moments = self.first_stage_model.regularization(torch.cat([mean, torch.full_like(mean, math.log(0.25))], 1))
        return moments.chunk(2, 1)[0]


def clip():
    made = tiny_clip()
    made.asked = []

    def encode(tokens):
        made.asked.append(tokens)
        return [[random(1, len(tokens["t5xxl"][0]), 24, seed=1), {"pooled_output": random(1, 12, seed=1)}]]

    made.encode_from_tokens_scheduled = encode
    return made


def condition_node(**changed):
    given = dict(
        clip=clip(), vae=FakeVae(), control_image=random(1, 64, 64, 3).sigmoid(), masks=torch.zeros(2, 64, 64),
        subjects="red car\n\n (blue) dog (old) ", background="in a  park", guidance=3.0, condition_latent="mean",
        draw_seed=3,
    )  # fmt: skip
    given["masks"][0, :32], given["masks"][1, :, :20] = 1, 1
    given |= changed
    return given, nodes.OcclusionConditioning.execute(**given)


def conditioning():
    """What the conditioning node makes: 512 tokens, plain parentheses, spans, cells, latents."""
    given, out = condition_node()
    (states, values), text = out.result[0][0], out.result[1]
    (row,) = values["model_conds"][flux.KEY].rows
    tokenizer = given["clip"].tokenizer.t5xxl.tokenizer
    ids = [token for token, _ in given["clip"].asked[0]["t5xxl"][0]]
    weights = {weight for batch in given["clip"].asked[0].values() for _, weight in batch[0]}
    words = [tokenizer.decode([ids[p] for p in span]) for span in row[0].spans]
    drawn_given, drawn = condition_node(
        vae=DrawingVae(), condition_latent="as released", latent={"samples": torch.zeros(1, 16, 8, 8)}
    )
    (drawn_row,) = drawn.result[0][0][1]["model_conds"][flux.KEY].rows
    generator = torch.Generator().manual_seed(3)
    torch.randn(1, 4, 8, 8, generator=generator)
    from sightline.models.seethrough3d.tokens import pack

    noise = pack(torch.randn(1, 4, 64, 64, generator=generator))[0] * 0.5 * 0.3611
    two_images = condition_node(control_image=random(2, 32, 48, 3).sigmoid())[1].result[0][0][1]["model_conds"][
        flux.KEY
    ]
    return {
        "text": text,
        "length": [states.shape[1], len(ids), len(given["clip"].asked[0]["l"][0])],
        "weights": sorted(weights),
        "decoded": tokenizer.decode([i for i in ids if i > 1]),
        "words": words,
        "guidance": values["guidance"],
        "cells": [int(cells.sum()) for cells in row[0].cells],
        "tokens": list(row[0].tokens.shape),
        "drawn": worst(drawn_row[0].tokens - row[0].tokens, noise),
        "adapters": [c.adapter for c in two_images.rows[0]],
    }


def refusals():
    """What each wrong use is told."""
    model = flux_model(CONFIG, base_weights())
    other = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2)))
    second = flux_model(CONFIG, base_weights())
    second.model.diffusion_model.params.global_modulation = True
    fill = flux_model(CONFIG, base_weights())
    fill.model.diffusion_model.in_channels = 384
    ordinary = folder() / "ordinary.safetensors"
    save_file({"transformer.transformer_blocks.0.attn.to_q.lora_A.weight": torch.zeros(4, 32)}, str(ordinary))
    broken = folder() / "broken.safetensors"
    broken.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    wide = lora_file(3, LoraShape(2, 2, 48, (4,)))
    deep = lora_file(4, LoraShape(3, 2, 32, (4,)))

    def load(path, model=model):
        return lambda: flux.load_hosted_lora(path, model)

    def node(**changed):
        return lambda: condition_node(**changed)

    wrong_clip = SimpleNamespace(tokenize=lambda text, **options: {"l": [[(1, 1.0)]]})
    sizes = SimpleNamespace(encode=lambda p: torch.zeros(1, 4, 16, 16), first_stage_model=None)
    cases = {
        "not flux": load(lora_file(), other),
        "flux 2": load(lora_file(), second),
        "fill": load(lora_file(), fill),
        "node, not flux": lambda: nodes.OcclusionLoraLoader.execute(other, "none found", 1.0),
        "no file": lambda: nodes.OcclusionLoraLoader.execute(model, "none found", 1.0),
        "file gone": lambda: nodes.OcclusionLoraLoader.execute(model, "gone.safetensors", 1.0),
        "partial": load(lora_file(5, drop=5)),
        "ordinary": load(ordinary),
        "broken": load(broken),
        "other width": load(wide),
        "other depth": load(deep),
        "too long": node(background="sunny " * 600),
        "no subjects": node(subjects=" \n"),
        "masks": node(masks=torch.zeros(3, 8, 8)),
        "wrong clip": node(clip=wrong_clip),
        "wrong vae": node(vae=sizes),
        "no latent": node(condition_latent="as released", vae=DrawingVae()),
        "no distribution": node(condition_latent="as released", latent={"samples": torch.zeros(1, 4, 8, 8)}),
        "alpha": node(control_image=torch.rand(1, 8, 8, 1)),
        "size": lambda: nodes.FluxSigmas.execute(25, 1000, 1024, 1.0, 0.5, 1.15),
        "other latents": lambda: sample(
            with_file(model, lora_file()), positive(Condition(random(16, 64), GRID, ((4,),), torch.ones(1, *GRID) > 0))
        ),
        "no lora": lambda: sample(model, positive(condition())),
        "short text": lambda: sample(with_file(model, lora_file()), positive(condition(0, ((4,), (40,))))),
    }
    said = {}
    for name, use in cases.items():
        try:
            use()
            said[name] = "nothing"
        except ValueError as error:
            said[name] = str(error)
    return said
