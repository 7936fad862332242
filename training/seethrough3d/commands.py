"""`python -m sightline train seethrough3d`: encode the prompts, or train the LoRA."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...models.seethrough3d.prompt import TEXT_TOKENS
from ...scene.errors import InputError


def run(args: argparse.Namespace, load_flux: Callable[..., Any]) -> int:
    """Do what the command line says; load_flux(folder, device): FLUX.1 of diffusers. Returns the exit code."""
    from .fit import fit
    from .recipe import CONFIGS, read_recipe
    from .rows import read_rows
    from .words import PromptCache

    if args.list:
        print("\n".join(sorted(path.stem for path in CONFIGS.glob("*.yaml"))))
        return 0
    recipe = read_recipe("stage1" if args.config == "tiny" else args.config, args.set)
    for name in ("data", "out", "flux"):
        if not getattr(args, name):
            raise InputError(f"--{name} is missing; give the JSON lines, the run's folder and a local FLUX.1-dev.")
    cache = PromptCache(Path(args.out) / "prompts")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.cache:
        flux = load_flux(args.flux, device)
        rows = read_rows(args.data, recipe.drop_raw)
        with args.progress_bar("prompts", args.progress) as bar:
            count = cache.fill({row.prompt for row in rows}, lambda prompt: encode(flux, prompt), bar)
        print(f"{cache.folder}: {count} prompts encoded")
        return 0
    flux = load_flux(args.flux, "cpu")
    flux.t5 = flux.clip = None  # the prompts are encoded already
    with args.progress_bar("steps", args.progress) as bar:
        path = fit(recipe, args.data, args.out, flux.transformer, flux.vae, cache, minutes=args.minutes, callback=bar)
    print(f"{path}: the LoRA, for Occlusion LoRA Loader")
    return 0


@torch.no_grad()
def encode(flux: Any, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """T5 states [1, 512, E] and the pooled CLIP state [1, P] of a prompt."""

    def ids(tokenizer: Any, length: int) -> torch.Tensor:
        found = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return found.input_ids.to(flux.device)

    with flux.on_device(flux.t5) as t5:
        states = t5(ids(flux.t5_tokenizer, TEXT_TOKENS))[0]
    with flux.on_device(flux.clip) as clip:
        return states, clip(ids(flux.clip_tokenizer, 77)).pooler_output
