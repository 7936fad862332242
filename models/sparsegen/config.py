"""Sizes and options of a SparseGen network, under the names of the published training configuration."""

import dataclasses
import math

import torch

from ...scene.errors import InputError

RAY_CONVENTIONS = ("reference", "centered")
# Bounds for files from outside.
MAX_SIZE = 1 << 16
LIMITS = {
    "num_encoder_layers": 256,
    "num_decoder_layers": 256,
    "head_sets": 256,
    "vit_depth": 256,
    "vit_grid": 512,
    "image_size": 4096,
    "input_size": 4096,
}
QUERY_INITS = ("trunc_normal", "uniform", "constant")


@dataclasses.dataclass(frozen=True)
class SparseGenConfig:
    """Everything a SparseGen network is built from; the defaults are the published model (111.8 M parameters).

    Lengths are in world units, ``fov`` in degrees (horizontal = vertical), ``position_range`` is the world box
    (min xyz, max xyz) that the anchors live in, ``znear``/``zfar`` bound the depths at which feature cells are placed
    in 3D. ``ray_convention="reference"`` keeps the off-center ray directions the published weights were trained with,
    ``"centered"`` is the pinhole ray through the pixel center. ``head_sets`` is the number of Gaussian head sets: one
    per decoder layer, or 1 (the last layer only). ``virtual_views`` is how many views without a picture a sampler adds
    when none are given. ``align_first_view``: the weights know objects only with the first clean view at azimuth 0, so
    the world is turned about Z for them (and the result back).
    """

    embed_dims: int = 512
    depth_num: int = 64
    num_query: int = 512
    num_gs_per_query: int = 10
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_heads: int = 8
    ffn_dims: int = 2048
    head_sets: int = 6
    max_scale: float = 0.1
    position_range: tuple[float, ...] = (-0.6, -0.6, -0.6, 0.6, 0.6, 0.6)
    query_init: str = "trunc_normal"
    dropout: float = 0.1

    vit_dims: int = 384
    vit_depth: int = 12
    vit_heads: int = 6
    vit_mlp_dims: int = 1536
    vit_grid: int = 37
    patch_size: int = 14
    image_size: int = 224

    input_size: int = 128
    normalize_pose: bool = True
    ray_convention: str = "reference"
    fov: float = 51.98948897809546
    znear: float = 0.8
    zfar: float = 1.8
    train_steps: int = 1000
    virtual_views: int = 3
    align_first_view: bool = False

    def __post_init__(self):
        for name in _NUMBERS:
            if (
                not isinstance(value := getattr(self, name), (int, float))
                or isinstance(value, bool)
                or not math.isfinite(value)
            ):
                raise InputError(f"`{name}` of the SparseGen configuration is {value!r}; it must be a number.")
        try:
            object.__setattr__(self, "position_range", tuple(float(x) for x in self.position_range))
        except (TypeError, ValueError):
            raise InputError(f"`position_range` is {self.position_range!r}; it must be six numbers.") from None
        if len(self.position_range) != 6 or any(
            a >= b for a, b in zip(self.position_range[:3], self.position_range[3:])
        ):
            raise InputError(f"`position_range` is {self.position_range}; it must be min x, y, z then max x, y, z.")
        for name in _POSITIVE:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(
                    f"`{name}` of the SparseGen configuration is {value!r}; it must be a positive integer."
                )
        for name in _POSITIVE:
            if getattr(self, name) > (limit := LIMITS.get(name, MAX_SIZE)):
                raise InputError(
                    f"`{name}` of the SparseGen configuration is {getattr(self, name)}; at most {limit} is supported."
                )
        if not isinstance(self.virtual_views, int) or not 0 <= self.virtual_views <= 64:
            raise InputError(
                f"`virtual_views` of the SparseGen configuration is {self.virtual_views!r}; "
                "it must be a number from 0 to 64."
            )
        if self.embed_dims % 4 or self.embed_dims % self.num_heads:
            raise InputError(
                f"`embed_dims` is {self.embed_dims}; it must be divisible by 4 and by `num_heads` ({self.num_heads})."
            )
        if self.vit_dims % self.vit_heads:
            raise InputError(f"`vit_dims` is {self.vit_dims}; it must be divisible by `vit_heads` ({self.vit_heads}).")
        if self.image_size % self.patch_size:
            raise InputError(
                f"`image_size` is {self.image_size}; it must be a multiple of `patch_size` ({self.patch_size})."
            )
        if self.head_sets not in (1, self.num_decoder_layers):
            raise InputError(
                f"`head_sets` is {self.head_sets}; "
                f"it must be 1 or the number of decoder layers ({self.num_decoder_layers})."
            )
        if self.ray_convention not in RAY_CONVENTIONS:
            raise InputError(
                f"`ray_convention` is {self.ray_convention!r}; it must be one of {', '.join(RAY_CONVENTIONS)}."
            )
        if self.query_init not in QUERY_INITS:
            raise InputError(f"`query_init` is {self.query_init!r}; it must be one of {', '.join(QUERY_INITS)}.")
        if not 0 < self.fov < 180:
            raise InputError(f"`fov` is {self.fov}; it must be an angle between 0 and 180 degrees.")
        if not 0 < self.znear < self.zfar:
            raise InputError(
                f"`znear` and `zfar` are {self.znear} and {self.zfar}; they must satisfy 0 < znear < zfar."
            )

    @property
    def feature_grid(self) -> int:
        """Feature cells per side of one view (image_size / patch_size)."""
        return self.image_size // self.patch_size

    @property
    def num_gaussians(self) -> int:
        """Gaussians one forward pass yields."""
        return self.num_query * self.num_gs_per_query

    def focal(self, size: int | None = None) -> float:
        """Focal length in pixels of a square picture of `size` (default ``input_size``) pixels."""
        return (size or self.input_size) / (2 * math.tan(math.radians(self.fov) / 2))

    def intrinsics(self, size: int | None = None) -> torch.Tensor:
        """The [3,3] float32 pinhole matrix, in pixels, of a square picture
        of `size` (default ``input_size``) pixels.
        """
        size = size or self.input_size
        focal = self.focal(size)
        return torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=torch.float32)

    def to_dict(self) -> dict:
        """Plain values, as stored in the metadata of a safetensors file."""
        return dataclasses.asdict(self) | {"position_range": list(self.position_range)}

    @classmethod
    def from_dict(cls, values: dict) -> "SparseGenConfig":
        """The inverse of `to_dict`; unknown names are an InputError."""
        return cls(**_known(values))

    @classmethod
    def from_hydra(cls, cfg: dict, **overrides) -> "SparseGenConfig":
        """The configuration of a published training file (``.hydra/config.yaml`` read into a dict).

        Sizes that the file does not hold (those of the ViT) keep their published values unless `overrides` give them.
        Raises InputError for values this network does not have (another model type, non-square input).
        """
        return cls(**hydra_values(cfg) | _known(overrides))

    @classmethod
    def from_state_dict(cls, shapes: dict, known: dict | None = None) -> "SparseGenConfig":
        """The configuration whose network has the given key -> shape table.

        `shapes` maps key names (without ``reconstructor.``) to shapes or tensors. `known` holds options stated
        elsewhere and wins; widths, depths and counts it lacks are read off the shapes; what shapes cannot tell (heads,
        field of view, depths, scale limit, ray convention, picture sizes) is else as in the published model.
        """
        return cls(**shape_values(shapes) | _known(known or {}))


_POSITIVE = (
    "embed_dims",
    "depth_num",
    "num_query",
    "num_gs_per_query",
    "num_encoder_layers",
    "num_decoder_layers",
    "num_heads",
    "ffn_dims",
    "head_sets",
    "vit_dims",
    "vit_depth",
    "vit_heads",
    "vit_mlp_dims",
    "vit_grid",
    "patch_size",
    "image_size",
    "input_size",
    "train_steps",
)
_NUMBERS = ("max_scale", "dropout", "fov", "znear", "zfar")
_FIELDS = tuple(f.name for f in dataclasses.fields(SparseGenConfig))


def _known(values: dict) -> dict:
    if not isinstance(values, dict):
        raise InputError(
            f"The SparseGen configuration is {type(values).__name__}; it must be a mapping of option names to values."
        )
    unknown = sorted(str(name) for name in values if name not in _FIELDS)
    if unknown:
        raise InputError(f"The SparseGen configuration has unknown options: {', '.join(unknown[:8])}.")
    return dict(values)


def hydra_values(cfg: dict) -> dict:
    """The options of `SparseGenConfig` that a training configuration file states, as a dict (nothing else in it)."""
    if not isinstance(cfg, dict) or not isinstance(cfg.get("model"), dict):
        raise InputError(
            "The training configuration has no `model` section; a SparseGen `.hydra/config.yaml` is needed."
        )
    model, data, render = (cfg.get(section) or {} for section in ("model", "data", "render"))
    if not isinstance(data, dict) or not isinstance(render, dict):
        raise InputError(
            "`data` or `render` in the training configuration is not a mapping; "
            "a SparseGen `.hydra/config.yaml` is needed."
        )
    if model.get("type", "query") != "query":
        raise InputError(
            f"`model.type` is {model['type']!r} in the training configuration; only `query` (SparseGen) can be loaded."
        )
    out = {}
    for name in (
        "embed_dims",
        "depth_num",
        "num_query",
        "num_gs_per_query",
        "num_encoder_layers",
        "num_decoder_layers",
        "num_heads",
        "max_scale",
        "position_range",
    ):
        if name in model:
            out[name] = model[name]
    if "querty_init" in model:  # the published file spells it so
        out["query_init"] = model["querty_init"]
    if "return_intermediate" in model:
        out["head_sets"] = out.get("num_decoder_layers", 6) if model["return_intermediate"] else 1
    diffuser = model.get("diffuser")
    if isinstance(diffuser, dict) and "steps" in diffuser:
        out["train_steps"] = diffuser["steps"]
    if "input_size" in data:
        size = data["input_size"]
        size = list(size) if isinstance(size, (list, tuple)) else [size, size]
        if len(size) != 2 or size[0] != size[1]:
            raise InputError(
                f"`data.input_size` is {size} in the training configuration; SparseGen needs square pictures."
            )
        out["input_size"] = size[0]
    if "normalize_pose" in data:
        out["normalize_pose"] = bool(data["normalize_pose"])
    for name in ("fov", "znear", "zfar"):
        if name in render:
            out[name] = render[name]
    return out


def shape_values(shapes: dict) -> dict:
    """The options of `SparseGenConfig` that a key -> shape table determines, as a dict;
    what it does not tell is absent.
    """
    out = {}

    def put(option, key, dims, read):
        shape = tuple(getattr(shapes.get(key, ()), "shape", shapes.get(key, ())))
        if len(shape) == dims:
            out[option] = int(read(shape))

    put("embed_dims", "input_proj.weight", 4, lambda s: s[0])
    put("depth_num", "position_encoder.0.weight", 4, lambda s: s[1] // 3)
    put("num_query", "reference_points.weight", 2, lambda s: s[0])
    put("num_gs_per_query", "gs_decoder.0.xyz.4.weight", 2, lambda s: s[0] // 3)
    put("ffn_dims", "transformer.encoder_layers.0.feed_forward.fc1.weight", 2, lambda s: s[0])
    put("vit_dims", "feature_extractor.model.patch_embed.proj.weight", 4, lambda s: s[0])
    put("patch_size", "feature_extractor.model.patch_embed.proj.weight", 4, lambda s: s[-1])
    put("vit_mlp_dims", "feature_extractor.model.blocks.0.mlp.fc1.weight", 2, lambda s: s[0])
    put("vit_grid", "feature_extractor.model.pos_embed", 3, lambda s: math.isqrt(max(s[1] - 1, 0)))
    for option, prefix in (
        ("num_encoder_layers", "transformer.encoder_layers."),
        ("num_decoder_layers", "transformer.decoder_layers."),
        ("head_sets", "gs_decoder."),
        ("vit_depth", "feature_extractor.model.blocks."),
    ):
        numbers = [
            int(number)
            for key in shapes
            if key.startswith(prefix)
            and (number := key[len(prefix) :].split(".", 1)[0]).isdecimal()
            and len(number) < 6
        ]
        if numbers:
            out[option] = max(numbers) + 1
    return out
