"""Our condition branch on core's own FLUX: ``python native_flux.py COMFYUI_TREE BASE_FOLDER``.

A program of its own, since ComfyUI's modules do not mix with other tests. It reads one JSON request a line,
{"do": name, ...}, and answers each with a line "ANSWER {...}"; tensors go through safetensors files. The tests of
tests/comfy and the parity modules that hold core's path to the fixtures drive it (`flux_worker.py`).
"""

import importlib
import json
import sys
import traceback
from pathlib import Path

from inside_comfyui import answer, enter


def part(tensors, prefix):
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def quantized(weights):
    """Core's form of weights whose blocks' layers are stored as scaled fp8, and the values that these stand for."""
    import torch

    stored, meant = dict(weights), dict(weights)
    form = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    for name, value in weights.items():
        if "_blocks." in name and name.endswith(".weight") and value.ndim == 2:
            scale = value.abs().max() / 448
            stored[name] = (value / scale).to(torch.float8_e4m3fn)
            stored[name + "_scale"] = scale
            stored[name.removesuffix("weight") + "comfy_quant"] = form
            meant[name] = stored[name].float() * scale
    return stored, meant


def flux_model(config, weights, dtypes=("float32", None), stored=None):
    """Core's FLUX from diffusers' configuration and weights, as a ModelPatcher; dtypes: stored, and computed in.

    stored: "fp8" loads them as core's own quantized layers, "meant" the values of these as plain layers.
    """
    import comfy.model_detection
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    width = config["attention_head_dim"] * config["num_attention_heads"]
    channels = config["in_channels"] // 4
    settings = comfy.supported_models.Flux(
        {
            "image_model": "flux", "in_channels": channels, "out_channels": channels,
            "patch_size": 2, "vec_in_dim": config["pooled_projection_dim"], "hidden_size": width, "mlp_ratio": 4.0,
            "context_in_dim": config["joint_attention_dim"], "num_heads": config["num_attention_heads"],
            "depth": config["num_layers"], "depth_single_blocks": config["num_single_layers"],
            "axes_dim": config["axes_dims_rope"], "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
            "guidance_embed": config["guidance_embeds"],
        }
    )  # fmt: skip
    settings.set_inference_dtype(*(getattr(torch, name) if name else None for name in dtypes))
    settings.quant_config = {"mixed_ops": True} if stored == "fp8" else None
    model = settings.get_model({}, device="cpu")
    if weights is not None:
        copies = {name: value.clone() for name, value in weights.items()}  # the conversion writes into some
        weights = comfy.model_detection.convert_diffusers_mmdit(copies)
        weights = settings.process_unet_state_dict(weights)
        if stored:
            weights = quantized(weights)[stored != "fp8"]
        model.diffusion_model.load_state_dict(weights, strict=stored != "fp8")
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def patched(model, tensors, lora_weights, folder):
    """The model with all LoRAs of a fixture, through the nodes' own functions."""
    from safetensors.torch import save_file

    from sightline.nodes.host import flux

    for index, weight in enumerate(lora_weights):
        file = Path(folder) / f"lora{index}.safetensors"
        published = part(tensors, f"lora{index}.")
        save_file({k.replace(f"_loras.{index}.", "_loras.0."): v.contiguous() for k, v in published.items()}, str(file))
        model = flux.with_lora(model, flux.load_hosted_lora(file, model), float(weight))
    return model


def option(meta, name):
    return json.loads(meta[name]) if isinstance(meta[name], str) else meta[name]


def rows_of(tensors, tokens, call_ids, count):
    from sightline.models.seethrough3d.tokens import Condition

    masks = tensors["in.segmasks"]
    masks = masks if masks.ndim == 4 else masks[None]
    rows = []
    for item, own in enumerate(tokens):
        spans = () if call_ids is None else tuple(map(tuple, call_ids[item]))
        grid = tuple(masks.shape[2:])
        rows.append(
            tuple(Condition(chunk, grid, spans, masks[item].bool(), i) for i, chunk in enumerate(own.chunk(count)))
        )
    return tuple(rows)


def options_of(model, taps=None):
    """What core hands to the network for this MODEL, the block outputs recorded in `taps`."""
    options = {**model.model_options["transformer_options"], "wrappers": model.wrappers}
    if taps is not None:

        def watch(key, function):
            def run(args, extra):
                out = function(args, extra)
                taps[key] = {name: value.clone() for name, value in out.items()}
                return out

            return run

        blocks = options["patches_replace"]["dit"]
        options["patches_replace"] = {"dit": {key: watch(key, function) for key, function in blocks.items()}}
    return options


def forward(path, meta, out):
    """`flux_forward` fixtures: velocity with and without spans, twice (the second from what was kept), all blocks."""
    import torch
    from safetensors.torch import load_file, save_file

    from sightline.models.seethrough3d.tokens import pack, unpack
    from sightline.nodes.host import flux

    t = load_file(path)
    weights, grid = option(meta, "lora_weights"), option(meta, "img_grid")
    model = patched(flux_model(option(meta, "config"), part(t, "model.")), t, weights, Path(out).parent)
    x, found = unpack(t["in.hidden_states"], *grid), {}

    def run(rows, taps=None):
        velocity = model.model.diffusion_model(
            x.clone(), t["in.timestep"], context=t["in.encoder_hidden_states"], y=t["in.pooled_projections"],
            guidance=t.get("in.guidance"), transformer_options=options_of(model, taps),
            **({} if rows is None else {flux.KEY: rows}),
        )  # fmt: skip
        return pack(velocity)

    rows, taps = rows_of(t, t["in.cond_hidden_states"], option(meta, "call_ids"), len(weights)), {}
    found["sample"] = run(rows, taps)
    found["sample_again"] = run(rows)
    found["sample_no_call_ids"] = run(rows_of(t, t["in.cond_hidden_states"], None, len(weights)))
    patch = model.get_attachment(flux.KEY)
    found["kept"] = torch.tensor([len(patch.caches), *(int("qkv" in cache) for cache in patch.caches.values())])
    image, words = grid[0] * grid[1], t["in.encoder_hidden_states"].shape[1]
    for (kind, index), value in taps.items():
        if kind == "double_block":
            pieces = {"txt": value["txt"], "img": value["img"][:, :image], "cond": value["img"][:, image:]}
        else:
            pieces = {"txt_img": value["img"][:, : words + image], "cond": value["img"][:, words + image :]}
        for name, piece in pieces.items():
            if piece.shape[1]:
                found[f"tap.{kind.removesuffix('_block')}.{index}.{name}"] = piece
    save_file({name: value.contiguous() for name, value in found.items()}, out)
    return {}


def pipeline(path, meta, out):
    """`pipeline_tiny` fixtures through core's sampler: noise, conditioning and sigmas of ours, euler of core."""
    import comfy.sample
    import comfy.samplers
    import torch
    from safetensors.torch import load_file, save_file

    from sightline.models.seethrough3d.schedule import flux_sigmas, image_tokens
    from sightline.models.seethrough3d.tokens import pack, unpack
    from sightline.nodes.host import flux

    t = load_file(path)
    weights = option(meta, "lora_weights")
    model = patched(flux_model(option(meta, "config"), part(t, "model.")), t, weights, Path(out).parent)
    width, height, steps = (int(option(meta, name)) for name in ("width", "height", "steps"))
    (row,) = rows_of(t, t["cond.cond_latents_packed"], option(meta, "call_ids"), len(weights))
    values = {"pooled_output": t["in.pooled_prompt_embeds"], "guidance": float(option(meta, "guidance"))}
    positive = flux.with_conditions([[t["in.prompt_embeds"], values]], row)
    noise = unpack(t["cond.noise_latents_packed"], height // 16, width // 16)
    states, sigmas = [], flux_sigmas(steps, image_tokens(width, height))

    def watch(step, denoised, x, total):
        states.append(pack(x.clone()))

    samples = comfy.sample.sample_custom(
        model, noise, 1.0, comfy.samplers.sampler_object("euler"), sigmas, positive, [], torch.zeros_like(noise),
        callback=watch, seed=0,
    )  # fmt: skip
    final = pack(model.model.process_latent_in(samples))
    save_file({"steps": torch.stack([*states[1:], final]).contiguous(), "final": final.contiguous()}, out)
    return {"kept_after": len(model.get_attachment(flux.KEY).caches)}


def tiny_clip():
    """Core's CLIP object of FLUX with its real tokenizers and no weights."""
    from types import SimpleNamespace

    import comfy.sd
    import comfy.text_encoders.flux

    clip = comfy.sd.CLIP(no_init=True)
    clip.tokenizer = comfy.text_encoders.flux.FluxTokenizer()
    clip.tokenizer_options = {}
    clip.patcher = SimpleNamespace()
    return clip


def spans(path):
    """`token_spans` fixtures through the tokenizer of a CLIP object."""
    from sightline.models.seethrough3d.prompt import plain_parts, released_spans, token_spans
    from sightline.nodes.host import flux

    encode, answers = flux.t5_encode(tiny_clip()), []
    for case in json.loads(Path(path).read_text(encoding="utf-8")):
        parts = plain_parts(case["subjects"], case["surrounding_prompt"])
        ids = encode(parts.text)
        answers.append({"ids": ids, "spans": token_spans(encode, parts), "released": released_spans(encode, parts)})
    return {"cases": answers}


def case(name):
    """One of the checks of `native_flux_cases.py`."""
    return getattr(importlib.import_module("native_flux_cases"), name)()


def files(models):
    """The random FLUX of `native_flux_files.py` in core's model folders."""
    module = importlib.import_module("native_flux_files")
    module.write(Path(models))
    return {"files": module.FILES}


def main():
    sys.modules["native_flux"] = sys.modules["__main__"]
    enter()
    import torch

    functions = {"forward": forward, "pipeline": pipeline, "spans": spans, "case": case, "files": files}
    answer({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        function = functions[request.pop("do")]
        try:
            with torch.inference_mode():
                found = function(**request)
        except Exception:
            found = {"failed": traceback.format_exc()}
        answer(found)


if __name__ == "__main__":
    main()
