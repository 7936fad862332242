"""The networks of a recipe: made anew, continued from published weights, and written as published pairs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...models.trellis2.blocks import ModulatedBlock
from ...models.trellis2.cascade import read_pipeline
from ...models.trellis2.checkpoint import CLASSES, COMPUTED
from ...models.trellis2.family import EMBEDDED_FOLDER, embedded_family, find_encoder
from ...models.trellis2.safetensors_file import SafetensorsFile
from ...models.trellis2.sc_vae import SparseConvNeXtBlock
from ...models.trellis2.sparse_structure_vae import ResBlock3d
from ...scene.errors import InputError
from .recipe import Recipe
from .stages import Conditioner

CROSS, BELOW = ".cross_attn.", ".cross_attn.cross_attn_block."


def build_networks(recipe: Recipe) -> dict[str, nn.Module]:
    """The networks of a recipe in float32, with the weights that `start_from` names.

    Raises InputError for a network whose file must still be named, and for weights that do not fit.
    """
    found = {}
    for name, given in recipe.networks.items():
        model, config = CLASSES[given["name"]]
        network = model(config.from_args({**given["args"], "dtype": "float32", "use_fp16": False}))
        start_weights(network, given)
        if name in recipe.start_from:
            if not recipe.start_from[name]:
                raise InputError(f"`start_from.{name}` names no file; --set start_from.{name}=FILE.safetensors.")
            source = recipe.start_from[name]
            continue_from(network, embedded_file(recipe.stage) if source == "embedded" else source)
        if recipe.checkpoint_blocks:
            checkpoint_blocks(network)
        found[name] = network
    foreign = sorted(set(recipe.start_from) - set(found))
    if foreign:
        raise InputError(f"`start_from` names {', '.join(foreign)}; this stage trains {', '.join(found)}.")
    return found


def checkpoint_blocks(network: nn.Module) -> None:
    """Keep no activations inside the blocks of `network` while it learns, but compute them again."""
    for block in network.modules():
        if isinstance(block, (ModulatedBlock, SparseConvNeXtBlock, ResBlock3d)):
            block.forward = partial(recomputed, block.forward)


def recomputed(forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """A block's `forward`, whose activations are computed again where gradients are asked for."""
    if torch.is_grad_enabled():
        return checkpoint(forward, *given, use_reentrant=False, **named)
    return forward(*given, **named)


ROLES = {  # stage of a flow -> its role in the embedded family
    "structure_flow": "sparse_structure_flow_model",
    "shape_flow": "shape_slat_flow_model_512",
    "texture_flow": "tex_slat_flow_model_512",
}


def embedded_file(stage: str) -> Path:
    """The embedded weights of a flow; raises InputError for stages that the family has no network of."""
    if stage not in ROLES:
        raise InputError(f"`start_from` is embedded, but {stage} has no embedded weights; {', '.join(ROLES)} have.")
    return EMBEDDED_FOLDER / (read_pipeline(EMBEDDED_FOLDER)[1]["models"][ROLES[stage]] + ".safetensors")


def write_family(folder: Path, run: Path, recipe: Recipe, base: Path = EMBEDDED_FOLDER) -> Path:
    """A copy of a family (the embedded one) with the flow that a run trained in its place; returns its pipeline.json.

    Raises InputError where the folder exists, and for a run of another stage or one that has not written its networks.
    """
    trained = run / "ckpts" / f"{recipe.name}_denoiser"
    if recipe.stage not in ROLES or not trained.with_suffix(".safetensors").is_file():
        raise InputError(f"{run} holds no trained flow of {recipe.name}; train it first.")
    if folder.exists():
        raise InputError(f"{folder} exists already; choose a new folder.")
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(base, partial)
    stem = partial / read_pipeline(partial)[1]["models"][ROLES[recipe.stage]]
    for suffix in (".json", ".safetensors"):
        shutil.copyfile(trained.with_suffix(suffix), stem.with_suffix(suffix))
    partial.rename(folder)
    return folder / "pipeline.json"


def start_weights(network: nn.Module, given: Mapping[str, Any]) -> None:
    """Random weights of a flow as the published trainings begin; autoencoders keep those of their layers.

    `initialization: scaled` in its arguments: normal numbers, smaller in what writes to the residual stream; otherwise
    Xavier's. Modulation and output begin at zero. Source: TRELLIS.2, `SparseStructureFlowModel.initialize_weights`.
    """
    if "Flow" not in given["name"]:
        return
    width, blocks = network.config.model_channels, network.blocks
    scaled = given["args"].get("initialization") == "scaled"
    residual = (".to_out", ".mlp.mlp.2")
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            if not scaled:
                nn.init.xavier_uniform_(module.weight)
            elif name.startswith("blocks.") and name.endswith(residual):
                nn.init.normal_(module.weight, std=(5 * len(blocks) * width) ** -0.5)
            else:
                nn.init.normal_(module.weight, std=(2 / (5 * width)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if scaled:
        nn.init.normal_(network.input_layer.weight, std=network.config.in_channels**-0.5)
    for layer in (network.t_embedder.mlp[0], network.t_embedder.mlp[2]):
        nn.init.normal_(layer.weight, std=0.02)
    for holder in [network, *blocks]:
        if hasattr(holder, "adaLN_modulation"):
            nn.init.zeros_(holder.adaLN_modulation[-1].weight)
            nn.init.zeros_(holder.adaLN_modulation[-1].bias)
        if hasattr(holder, "modulation"):
            nn.init.normal_(holder.modulation, std=width**-0.5)
    nn.init.zeros_(network.out_layer.weight)
    nn.init.zeros_(network.out_layer.bias)


def continue_from(network: nn.Module, path: str | Path) -> None:
    """Weights of another stage, or of TRELLIS.2 in a projecting network (`cross_attn.*` moves one level down).

    A projection that the file does not have begins at zero, so that the network does at first what it did before.
    Raises InputError naming what is foreign, missing or of another shape.
    """
    file = SafetensorsFile(path)
    wanted = dict(network.state_dict())
    weights = {name: file[name] for name in file if name not in COMPUTED}
    if any(BELOW in name for name in wanted) and not any(BELOW in name for name in weights):
        weights = {name.replace(CROSS, BELOW): value for name, value in weights.items()}
    projection = [name for name in wanted if ".proj_linear." in name and name not in weights]
    for name in projection:
        weights[name] = torch.zeros_like(wanted[name])
    computed = network.computed_buffers() if hasattr(network, "computed_buffers") else {}
    needed = {name for name in wanted if name not in COMPUTED and name not in computed}
    missing, foreign = sorted(needed - set(weights)), sorted(set(weights) - set(wanted))
    other = [name for name in needed & set(weights) if weights[name].shape != wanted[name].shape]
    for what, names in (("lacks", missing), ("has foreign", foreign), ("has another shape of", other)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise InputError(f"{path} {what} {', '.join(names[:3])}{more}; it is of another network than the recipe's.")
    network.load_state_dict({name: value.float() for name, value in weights.items()}, strict=False)


def load_conditioner(recipe: Recipe, search: Sequence[Path], device: torch.device) -> Conditioner:
    """The frozen image encoder, and NAF where the recipe reads raised features.

    Raises InputError for an encoder that is not known or not found.
    """
    options = recipe.condition
    if options.encoder == "embedded":
        encoder, naf = embedded_family().encoder(), None
    elif options.encoder == "dinov3":
        encoder, naf = find_encoder([Path(s) for s in search], options.naf_target is not None)
    else:
        raise InputError(f"`condition.encoder` is {options.encoder!r}; dinov3 or embedded would work.")
    return Conditioner(recipe, encoder.to(device), None if naf is None else naf.to(device))


def write_networks(folder: Path, recipe: Recipe, networks: Mapping[str, nn.Module]) -> list[Path]:
    """NAME.json and NAME.safetensors of every network, as published ones are; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, given in recipe.networks.items():
        stem = folder / f"{recipe.name}_{name}"
        args = {**given["args"], "dtype": "float32", "use_fp16": False}
        weights: dict[str, Tensor] = {
            key: value.detach().cpu().contiguous().clone()
            for key, value in networks[name].state_dict().items()
            if key not in COMPUTED
        }
        partial = stem.with_suffix(".part")
        save_file(weights, str(partial))
        partial.replace(stem.with_suffix(".safetensors"))
        stem.with_suffix(".json").write_text(json.dumps({"name": given["name"], "args": args}, indent=2) + "\n")
        written.append(stem.with_suffix(".safetensors"))
    return written
