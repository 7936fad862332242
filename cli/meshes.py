"""What the commands `pixal3d` and `trellis2` share: options, pictures, running a family, writing the mesh."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

TYPES = ("512", "1024", "1024_cascade", "1536_cascade")
STAGES = {  # option -> role in pipeline.json
    "structure": "sparse_structure_sampler",
    "shape": "shape_slat_sampler",
    "texture": "tex_slat_sampler",
}
SAMPLER_KEYS = {  # as typed -> field of SamplerSettings
    "steps": "steps",
    "guidance": "guidance_strength",
    "rescale": "guidance_rescale",
    "interval": "guidance_interval",
    "rescale_t": "rescale_t",
}
DEFAULTS = {  # published; shown in the help, the family's own pipeline.json decides
    "structure": "steps=12,guidance=7.5,rescale=0.7,interval=0.6:1,rescale_t=5",
    "shape": "steps=12,guidance=7.5,rescale=0.5,interval=0.6:1,rescale_t=3",
    "texture": "steps=12,guidance=1,rescale=0,interval=0.6:0.9,rescale_t=3",
}


def add_common(parser: argparse.ArgumentParser, weights: str) -> None:
    """The options of both commands; weights: the set that `download` gets."""
    add = parser.add_argument
    add("-o", "--output", metavar="FILE", help="mesh to write: .glb or .ply, colors at the vertices")
    tiny = "; `tiny`: the small family in this package" if weights == "pixal3d" else ""
    add(
        "--weights",
        metavar="DIR",
        help=f"folder with pipeline.json (default: where `download {weights}` puts it){tiny}",
    )
    add("--core-files", nargs="+", metavar="FILE", help="ComfyUI's own files instead: diffusion model and both VAEs")
    add("--search", action="append", default=[], metavar="DIR", help="further folder with weights; repeatable")
    add("--dinov3", metavar="PATH", help="DINOv3: folder, or .safetensors, also with NAF (default: beside the weights)")
    add("--type", choices=TYPES, help="resolution, and whether a coarse shape comes first (default: 1024_cascade)")
    add("--seed", type=int, default=42, help="seed of the noise (default: 42)")
    for stage, default in DEFAULTS.items():
        add(f"--{stage}", metavar="KEY=VALUE,...", help=f"sampler of the {stage} (default: {default})")
    add("--max-tokens", type=int, metavar="N", help="above it a cascade lowers its resolution (default: 49152)")
    add("--mask", metavar="FILE", help="picture whose light parts are the object, where the image has no alpha")
    add(
        "--memory",
        default="auto",
        metavar="GB",
        help="limit that decides on blocks and passes: auto (what is free, the default), a number of GB, or off",
    )
    add("--low-vram", action="store_true", help="each network visits the device only for its stage")
    add("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="of the networks' torso (default: as published)")
    add("--as-released", action="store_true", help="leave the faces in the random winding of the released code")
    add("--save-latents", metavar="FILE", help="keep what was sampled (.safetensors), before it is decoded")
    add("--resume", metavar="FILE", help="decode such a file instead of sampling")
    add("--overwrite", action="store_true", help="replace existing files")
    add("--progress", action="store_true", default=None, help="show progress even where stderr is no terminal")


def parse_sampler(text: str, name: str) -> dict:
    """ "steps=12,interval=0.6:1" -> fields of SamplerSettings; raises InputError naming what is wrong."""
    from ..scene.errors import InputError

    found = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        if key not in SAMPLER_KEYS or not value:
            raise InputError(f"--{name} has {part.strip()!r}; it takes {', '.join(f'{k}=' for k in SAMPLER_KEYS)}.")
        try:
            numbers = [float(v) for v in value.split(":")]
        except ValueError:
            numbers = []
        if len(numbers) != (2 if key == "interval" else 1) or not all(abs(v) < 1e6 for v in numbers):
            example = "interval=0.6:1" if key == "interval" else f"{key}=3"
            raise InputError(f"--{name} has {part.strip()!r}; write it like {example}.")
        if key == "steps" and not (numbers[0].is_integer() and 1 <= numbers[0] <= 1000):
            raise InputError(f"--{name} has {part.strip()!r}; steps must be a whole number from 1 to 1000.")
        if key == "interval":
            found[SAMPLER_KEYS[key]] = tuple(numbers)
        else:
            found[SAMPLER_KEYS[key]] = int(numbers[0]) if key == "steps" else numbers[0]
    return found


def samplers(args: argparse.Namespace) -> dict[str, dict]:
    """The changes of all three samplers by role."""
    given = {role: (stage, getattr(args, stage)) for stage, role in STAGES.items()}
    return {role: parse_sampler(text, stage) for role, (stage, text) in given.items() if text}


def memory(args: argparse.Namespace) -> int | str | None:
    """--memory as the pipelines take it: "auto", bytes, or None for no limit."""
    from ..scene.errors import InputError

    if args.memory in ("auto", "off"):
        return "auto" if args.memory == "auto" else None
    try:
        value = float(args.memory)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise InputError(f"--memory is {args.memory!r}; give auto, off or a number of GB above 0.")
    return int(value * 1e9)


def check(args: argparse.Namespace, products: tuple[str, ...] = ("output", "save_latents")) -> None:
    """What can be wrong with the options alone."""
    from ..scene.errors import InputError
    from ..scene.files import Outputs
    from ..scene.mesh_files import SUFFIXES

    wanted = [name for name in products if getattr(args, name)]
    if not wanted:
        names = " or ".join("-o" if name == "output" else f"--{name.replace('_', '-')}" for name in products)
        raise InputError(f"There is nothing to do; say what to write with {names}.")
    if args.output and not args.output.lower().endswith(SUFFIXES):
        raise InputError(f"{args.output} does not end in {' or '.join(SUFFIXES)}; meshes are written as one of these.")
    if args.max_tokens is not None and args.max_tokens < 1:
        raise InputError(f"--max-tokens is {args.max_tokens}; it must be at least 1.")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed is {args.seed}; it must lie between 0 and 2**63 - 1.")
    if args.resume and args.save_latents:
        raise InputError("--resume decodes latents that are saved already; leave --save-latents out.")
    if args.core_files and args.weights:
        raise InputError("--core-files and --weights both name models; leave one out.")
    samplers(args), memory(args)
    with Outputs(args.overwrite) as outputs:  # refuses now what it would refuse after the computation
        for name in wanted:
            outputs.file(getattr(args, name))


def read_picture(path: str, mask: str | None = None):
    """A picture file as uint8 [H, W, 4]; mask: a picture of the same size whose lightness becomes the alpha."""
    from ..scene.errors import InputError
    from ..scene.images import read_rgba

    rgba = read_rgba(path)
    if mask:
        light = read_rgba(mask)
        if light.shape[1:] != rgba.shape[1:]:
            sizes = [f"{p.shape[2]}x{p.shape[1]}" for p in (light, rgba)]
            raise InputError(f"{mask} is {sizes[0]} and {path} {sizes[1]}; the mask must have the picture's size.")
        rgba[3] = light[:3].mean(0) * light[3]
    return rgba.permute(1, 2, 0).mul(255).round().byte().numpy()


def load(args: argparse.Namespace, name: str, repo: str, *, projected: bool, file: str = ""):
    """The family of the options; file: another pipeline file in the folder, such as pipeline_mv.json."""
    from ..models.download import default_folder
    from ..models.trellis2.family import EMBEDDED_FOLDER, check_networks, core_family, find_encoder, load_family
    from .sparsegen import choose_device

    root = default_folder()
    if args.core_files:
        where = dict(device=choose_device(args.device), dtype=args.dtype, low_vram=args.low_vram)
        cascade = core_family(args.core_files, **where)
        check_networks(cascade, args.type, projected, bool(args.resume))
        if not args.resume:
            folders = [Path(args.core_files[0]).parent, *map(Path, args.search), root]
            found = find_encoder(folders, projected, args.dinov3, getattr(args, "naf", None))
            cascade.image_encoder, cascade.naf = found
        return cascade
    path = Path(args.weights) if args.weights else root / repo
    if args.weights == "tiny" and projected:
        path, file = EMBEDDED_FOLDER, ""
    if file and not path.is_file():
        path = path / file
    return load_family(
        path, name, projected=projected, search=[*args.search, root], dinov3=args.dinov3,
        naf=getattr(args, "naf", None), device=choose_device(args.device), dtype=args.dtype, low_vram=args.low_vram,
        pipeline_type=args.type, decode_only=bool(args.resume),
    )  # fmt: skip


class Stages:
    """The pipelines' progress as one bar per stage."""

    def __init__(self, shown: bool | None) -> None:
        self.shown, self.stage, self.bar = shown, None, None

    def __call__(self, stage: str, done: int, steps: int, x_t, x_0) -> None:
        from .progress import Progress

        if stage != self.stage:
            self.close()
            self.stage, self.bar = stage, Progress(stage, self.shown)
        self.bar(done, steps)

    def close(self) -> None:
        """End the last bar."""
        if self.bar is not None:
            self.bar.close()


def sample_or_resume(args: argparse.Namespace, cascade, frame: str, sample):
    """Latents from --resume, else from `sample(progress)`; saved at once where --save-latents says so."""
    from ..models.trellis2.latents import load_latents, read_frame, save_latents
    from ..scene.errors import InputError

    if args.resume:
        latents = load_latents(args.resume, cascade.device)
        found = read_frame(args.resume)
        if found and found != frame:
            owner = {"y_up": "Pixal3D", "z_up": "TRELLIS.2"}
            raise InputError(
                f"{args.resume} holds latents of {owner.get(found, found)}, this command decodes those of "
                f"{owner[frame]}; use the other command."
            )
        return latents
    stages = Stages(args.progress)
    try:
        latents = sample(stages)
    finally:
        stages.close()
    if args.save_latents:
        save_latents(latents, args.save_latents, overwrite=args.overwrite, model_frame=frame)
    return latents


def decode_and_write(args: argparse.Namespace, cascade, latents, frame: str, begin: float) -> None:
    """The mesh file of --output, and a line about what was made."""
    from ..models.trellis2.colors import encode_textured_mesh
    from ..models.trellis2.latents import decode_latents
    from ..scene.files import Outputs

    sampled = time.perf_counter()
    if args.output:
        with Outputs(args.overwrite) as outputs:
            target = outputs.file(args.output)
            mesh = decode_latents(cascade, latents, as_released=args.as_released, memory=memory(args))
            target.write(encode_textured_mesh(mesh, args.output, frame))
        print(
            f"{args.output}: {len(mesh.faces)} faces, {len(mesh.coords)} voxels of {latents.resolution}^3, "
            f"{len(latents.shape)} tokens, {sampled - begin:.1f} s to {'load' if args.resume else 'sample'} and "
            f"{time.perf_counter() - sampled:.1f} s to decode ({cascade.device})"
        )
    elif args.save_latents:
        print(f"{args.save_latents}: {len(latents.shape)} tokens for {latents.resolution}^3 ({cascade.device})")


def note(text: str) -> None:
    """A remark for the reader, on stderr."""
    print(f"note: {text}", file=sys.stderr)
