"""A layout of boxes and words to a FLUX picture in which each object fills its box and hides what is behind it.

SCENE is a scene file (.json, SeeThrough3D's .pkl, .glb, .csv) or the name of an example: backyard, dining-table, mars,
desk, verandah. Without --flux only the control picture, the masks and the prompt are made, on any machine. --flux is a
local FLUX.1-dev folder in diffusers' layout (about 34 GB in bfloat16; nothing is downloaded), --lora the SeeThrough3D
file of `va1bhavagrawa1/seethrough3d-flux.1-weights`.

  python -m sightline seethrough3d desk --control control.png --masks masks.png
  python -m sightline seethrough3d scene.json -o picture.png --flux FLUX.1-dev --lora lora.safetensors --device cuda
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path


def add_parser(subparsers) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "seethrough3d",
        help="a layout of boxes and words -> control picture, masks, and a picture by FLUX.1-dev",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("scene", metavar="SCENE", help="a scene file, or the name of an example")
    add("-o", "--output", metavar="FILE", help="the picture (.png); needs --flux and --lora")
    add("--control", metavar="FILE", help="write the control picture (.png)")
    add("--masks", metavar="FILE", help="write the masks of all objects, one below the other (.png)")
    add("--json", metavar="FILE", help="write prompt, objects and remarks as JSON")
    add("--flux", metavar="FOLDER", help="a local FLUX.1-dev in diffusers' layout")
    add("--lora", metavar="FILE", help="the SeeThrough3D LoRA (.safetensors)")
    add("--strength", type=float, default=1.0, metavar="S", help="of the LoRA (default: 1)")
    add("--size", metavar="WxH", help="of the picture, multiples of 16 (default: the scene's)")
    add("--steps", type=int, metavar="N", help="sampling steps (default: 25)")
    add("--guidance", type=float, metavar="G", help="distilled guidance (default: 3.5)")
    add("--seed", type=int, metavar="N", help="of the noise (default: the scene's, or 42)")
    add("--as-released", action="store_true", help="draw the condition's latent and round as the official code does")
    add("--device", default="cpu", help="cpu, cuda or mps (default: cpu)")
    add("--overwrite", action="store_true", help="replace existing files")
    parser.set_defaults(run=run)


def check(args: argparse.Namespace) -> None:
    """Raise InputError for options that do not go together."""
    from ..scene.errors import InputError

    if not (args.output or args.control or args.masks or args.json):
        raise InputError("Nothing is asked for: give -o for the picture, or --control, --masks or --json.")
    if args.output and not (args.flux and args.lora):
        raise InputError("The picture needs --flux (a local FLUX.1-dev) and --lora (the SeeThrough3D file).")
    if args.flux and not args.output:
        raise InputError("--flux is given and -o is not; name the picture to be drawn.")
    for path in (args.output, args.control, args.masks):
        if path and not path.lower().endswith(".png"):
            raise InputError(f"{path} does not end in .png; pictures are written as PNG.")


def picture_size(text: str | None, default) -> tuple[int, int]:
    """Width and height from "WxH"; InputError for anything else."""
    from ..models.seethrough3d.schedule import image_tokens
    from ..scene.errors import InputError

    try:
        width, height = (int(side) for side in text.lower().split("x")) if text else default
    except ValueError:
        raise InputError(f"--size is {text!r}; give width and height as 1024x768.") from None
    image_tokens(width, height)
    return width, height


def read_scene(name: str):
    """A document from a file or an example."""
    from ..scene.document.convert import read_scene_bytes
    from ..scene.document.examples import EXAMPLES, load_example

    if name in EXAMPLES and not Path(name).exists():
        return load_example(name), []
    return read_scene_bytes(name, Path(name).read_bytes())


def run(args: argparse.Namespace) -> int:
    """Render the layout; sample and decode the picture where that is asked for; write."""
    check(args)
    from ..models.seethrough3d.prompt import check_parts
    from ..pipelines.layout_render import render_layout
    from ..scene.files import Outputs
    from ..scene.images import encode_png
    from .progress import Progress

    begin = time.perf_counter()
    document, notes = read_scene(args.scene)
    size = picture_size(args.size, document.output.size)
    with Outputs(overwrite=args.overwrite) as outputs:
        files = {name: outputs.file(path) for name in ("output", "control", "masks", "json")
                 if (path := getattr(args, name))}  # fmt: skip
        with Progress("rendering") as progress:
            layout = render_layout(document, device=args.device, progress=progress)
        check_parts(layout.prompt)
        for note in (*notes, *(problem.text for problem in layout.problems)):
            print(note)
        control = layout.image.permute(0, 3, 1, 2).cpu()
        if "control" in files:
            files["control"].write(encode_png(control[0]))
        if "masks" in files:
            files["masks"].write(encode_png(layout.masks.cpu().float().flatten(0, 1)[None]))
        if "json" in files:
            report = {"prompt": layout.prompt.text, "objects": layout.prompt.subjects, "size": size,
                      "occlusion": dict(zip(layout.ids, layout.occlusion))}  # fmt: skip
            files["json"].write((json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode("utf-8"))
        if "output" in files:
            files["output"].write(encode_png(draw(args, layout, control, size, document)[0]))
    print(layout.prompt.text)
    for name in files:
        print(f"{getattr(args, name)}: {'picture' if name == 'output' else name}")
    print(f"done in {time.perf_counter() - begin:.1f} s")
    return 0


def draw(args: argparse.Namespace, layout, control, size: tuple[int, int], document):
    """The picture [1, 3, H, W] by FLUX."""
    from ..models.seethrough3d.schedule import GUIDANCE, STEPS
    from ..pipelines.seethrough3d import layout_to_picture, load_adapters, load_flux
    from .progress import Progress

    flux = load_flux(args.flux, args.device)
    lora = load_adapters(args.lora, flux, args.strength)
    seed = args.seed if args.seed is not None else getattr(document.output, "seed", None)
    with Progress("sampling") as progress:
        return layout_to_picture(
            flux, lora, layout.prompt, control, layout.masks.cpu().float(), width=size[0], height=size[1],
            steps=args.steps or STEPS, guidance=GUIDANCE if args.guidance is None else args.guidance,
            seed=42 if seed is None else seed, as_released=args.as_released,
            callback=lambda done, total, latents: progress(done, total),
        )  # fmt: skip
