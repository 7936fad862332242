"""The LoRA that acts on condition tokens alone, under its published names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...scene.errors import InputError

DOUBLE, SINGLE = "double", "single"
LAYERS = {DOUBLE: ("q", "k", "v", "proj"), SINGLE: ("q", "k", "v")}
ROOTS = {DOUBLE: "transformer_blocks", SINGLE: "single_transformer_blocks"}
PUBLISHED = re.compile(
    r"^(?:transformer\.)?((?:single_)?transformer_blocks\.\d+\.attn\.processor\.(?:q|k|v|proj)_loras\.\d+\."
    r"(?:down|up)\.weight)$"
)
NAMED = 3  # how many keys an error names


@dataclass(frozen=True)
class LoraShape:
    """What a LoRA file fits: blocks of both kinds, the width, and the rank of each adapter."""

    doubles: int
    singles: int
    width: int
    ranks: tuple[int, ...]


class LowRank(nn.Module):
    """x -> up(down(x)), without biases; starts as zero."""

    def __init__(self, width: int, rank: int, linear=nn.Linear, **options) -> None:
        super().__init__()
        self.down = linear(width, rank, bias=False, **options)
        self.up = linear(rank, width, bias=False, **options)

    @torch.no_grad()
    def reset(self) -> None:
        """The start of training: down normal with deviation 1/rank, up zero."""
        self.down.weight.normal_(std=1 / self.down.weight.shape[0])
        self.up.weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class ConditionLora(nn.Module):
    """Adapters of every block of FLUX, for condition tokens; its state dict has the published names.

    q, k, v of the image stream get `low(x)` of the layer's input added (before the norm of q and k); `proj` is
    sequential: o + low(o), o the output of the attention's projection. linear, options: how a layer is made
    (`torch.nn.Linear` unless the host has its own). Source: spec section 7.
    """

    def __init__(self, shape: LoraShape, linear=nn.Linear, **options) -> None:
        super().__init__()
        self.shape = shape

        def block(kind: str) -> nn.ModuleDict:
            layers = {
                f"{name}_loras": nn.ModuleList([LowRank(shape.width, rank, linear, **options) for rank in shape.ranks])
                for name in LAYERS[kind]
            }
            return nn.ModuleDict({"attn": nn.ModuleDict({"processor": nn.ModuleDict(layers)})})

        self.transformer_blocks = nn.ModuleList([block(DOUBLE) for _ in range(shape.doubles)])
        self.single_transformer_blocks = nn.ModuleList([block(SINGLE) for _ in range(shape.singles)])

    def reset(self) -> ConditionLora:
        """Random as at the start of training; its effect is then zero."""
        for module in self.modules():
            if isinstance(module, LowRank):
                module.reset()
        return self

    def layer(self, kind: str, block: int, name: str, adapter: int) -> LowRank:
        """One low-rank layer: kind "double" or "single", name "q", "k", "v" or "proj"."""
        return getattr(self, ROOTS[kind])[block]["attn"]["processor"][f"{name}_loras"][adapter]

    def unread(self) -> list[LowRank]:
        """The layers that nothing depends on: in the last block condition tokens only give keys and values."""
        kind = SINGLE if self.shape.singles else DOUBLE
        last = (self.shape.singles or self.shape.doubles) - 1
        names = [name for name in LAYERS[kind] if name not in "kv"]
        return [self.layer(kind, last, name, adapter) for name in names for adapter in range(len(self.shape.ranks))]


@dataclass(frozen=True, eq=False)
class Adapter:
    """One adapter of a LoRA, and how strongly it acts."""

    lora: ConditionLora
    index: int = 0
    strength: float = 1.0

    def term(self, kind: str, block: int, name: str, x: Tensor) -> Tensor | None:
        """What it adds for condition tokens x [B, C, D]; None where that is nothing."""
        if not self.strength:
            return None
        return self.strength * self.lora.layer(kind, block, name, self.index)(x)


def adapters(lora: ConditionLora, strength: float = 1.0) -> tuple[Adapter, ...]:
    """All adapters of a LoRA."""
    return tuple(Adapter(lora, index, strength) for index in range(len(lora.shape.ranks)))


def published_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the published names, whatever prefix they were saved with; foreign keys keep theirs."""
    return {(match[1] if (match := PUBLISHED.match(key)) else key): value for key, value in weights.items()}


def lora_shape(weights: Mapping[str, Tensor], source: str = "the file") -> LoraShape:
    """What a LoRA's weights fit; InputError for a file that is another one, or not all of one."""
    if not any(PUBLISHED.match(key) for key in weights):
        example = f", for example {next(iter(weights))!r}" if weights else ""
        raise InputError(
            f"{source} is no SeeThrough3D LoRA: it has none of the keys transformer_blocks.N.attn.processor.q_loras.0."
            f"down.weight{example}; ordinary FLUX LoRAs belong into Load LoRA."
        )
    weights = published_names(weights)
    blocks, found = {DOUBLE: 0, SINGLE: 0}, {}
    for key, value in weights.items():
        if not PUBLISHED.match(key):
            continue
        root, block, *_, low, adapter, part, _ = key.split(".")
        kind = SINGLE if root == ROOTS[SINGLE] else DOUBLE
        blocks[kind] = max(blocks[kind], int(block) + 1)
        if part == "down":
            found.setdefault(int(adapter), tuple(value.shape))
    widths = {shape[1] for shape in found.values() if len(shape) == 2}
    if sorted(found) != list(range(len(found))) or len(widths) != 1:
        raise InputError(f"{source} is a damaged SeeThrough3D LoRA: its adapters are {found}; download it again.")
    ranks = tuple(found[index][0] for index in range(len(found)))
    return LoraShape(blocks[DOUBLE], blocks[SINGLE], widths.pop(), ranks)


def expected_shapes(shape: LoraShape) -> dict[str, tuple[int, int]]:
    """The names and sizes of all weights of a LoRA."""
    sizes = {}
    for kind, count in ((DOUBLE, shape.doubles), (SINGLE, shape.singles)):
        for block in range(count):
            for name in LAYERS[kind]:
                for adapter, rank in enumerate(shape.ranks):
                    stem = f"{ROOTS[kind]}.{block}.attn.processor.{name}_loras.{adapter}"
                    sizes[f"{stem}.down.weight"] = (rank, shape.width)
                    sizes[f"{stem}.up.weight"] = (shape.width, rank)
    return sizes


def check_lora(weights: Mapping[str, Tensor], shape: LoraShape, source: str = "the file") -> None:
    """Raise InputError unless `weights` are a whole LoRA of this shape and nothing else; the keys are named."""
    wanted = expected_shapes(shape)
    missing = [key for key in wanted if key not in weights]
    foreign = [key for key in weights if key not in wanted]
    wrong = [key for key in wanted if key in weights and tuple(weights[key].shape) != wanted[key]]
    for keys, what in ((missing, "lacks"), (foreign, "has foreign"), (wrong, "has wrongly shaped")):
        if keys:
            more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
            raise InputError(
                f"{source} {what} {len(keys)} of {len(wanted)} keys of the SeeThrough3D LoRA: "
                f"{', '.join(keys[:NAMED])}{more}; download it again."
            )


def build_lora(
    weights: Mapping[str, Tensor],
    source: str = "the file",
    fits: LoraShape | None = None,
    linear=nn.Linear,
    **options,
) -> ConditionLora:
    """A LoRA from published weights, in their dtype unless `options` has another.

    fits: what the base model needs; only its blocks and width are compared. Raises InputError for missing, foreign or
    wrongly shaped keys, named, and for a LoRA of another size of model.
    """
    shape = lora_shape(weights, source)
    weights = published_names(weights)
    if fits is not None:
        if shape.width != fits.width:
            raise InputError(f"{source} is for FLUX of width {shape.width}, and the model's is {fits.width}.")
        shape = LoraShape(fits.doubles, fits.singles, fits.width, shape.ranks)
    check_lora(weights, shape, source)
    options.setdefault("dtype", next(iter(weights.values())).dtype)
    lora = ConditionLora(shape, linear, device="meta", **options)
    ours = {key: value.to(options["dtype"]) for key, value in weights.items()}
    lora.load_state_dict(ours, strict=True, assign=True)
    return lora.requires_grad_(False)


def load_lora(path: str | Path, fits: LoraShape | None = None, linear=nn.Linear, **options) -> ConditionLora:
    """A LoRA from a safetensors file; raises InputError as `build_lora`, and for a file that is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(str(path))
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); download it again.") from None
    return build_lora(weights, str(path), fits, linear, **options)


def save_lora(lora: ConditionLora, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a LoRA under the published names; an existing file is replaced only when the new one is whole."""
    from safetensors.torch import save

    from ...scene.files import Outputs

    weights = {key: value.detach().to("cpu", dtype).contiguous() for key, value in lora.state_dict().items()}
    with Outputs(roots=[Path(path).parent], overwrite=True) as outputs:
        outputs.file(str(path)).write(save(weights))
