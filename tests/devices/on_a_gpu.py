"""Runs the library's pipelines with tiny networks on a pretended GPU, and on the CPU: ``python on_a_gpu.py [NAME]``.

A program of its own, see `pretended_gpu`; judged by `test_on_a_gpu.py`. Prints one JSON object: for each case what went
wrong, or how far the results lie apart and which of them did not stay on the GPU.
"""

import json
import math
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace

import torch
from pretended_gpu import NAME, pretended_gpu

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "models" / part) for part in ("sparsegen", "trellis2", "genrecon", "sam3d")]
sys.path[:0] = [str(TESTS / "scene"), str(TESTS / "comfy"), str(TESTS / "pipelines"), str(TESTS / "cli")]
CASES: dict[str, Callable] = {}
DOUBLES = ("genrecon", "seethrough3d")  # ask for the device's name, and use float32 on Apple's


def case(function: Callable) -> Callable:
    CASES[function.__name__] = function
    return function


def tensors(value, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors in nested results, by their places."""
    if isinstance(value, torch.Tensor):
        return {path: value}
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value) if field.name != "cache"}
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    found = {}
    for name, part in value.items() if isinstance(value, dict) else ():
        found |= tensors(part, f"{path}.{name}")
    return found


@case
def sparsegen(device):
    from sparsegen_tiny import tiny

    from sightline.models.sparsegen import SparseGen, initialize
    from sightline.pipelines.sparsegen import clean_cameras, render_splats, sample_sparsegen

    torch.manual_seed(0)
    model = SparseGen(tiny(image_size=16)).eval()
    initialize(model)
    pictures = torch.rand(1, 3, 16, 16)
    model.to(device)
    splats = sample_sparsegen(model, pictures.to(device), steps=2)
    seen = render_splats(splats, clean_cameras([0.0, 90.0], model.config.fov, 32).to(device))
    return {"splats": splats, "color": seen.color}


@case
def pixal3d(device):
    from trellis2_tiny import STEPS, cascade, picture

    from sightline.models.trellis2.image_condition import FrontCamera
    from sightline.pipelines.pixal3d import image_to_3d

    out = {}
    for kind in ("512", "1024", "1024_cascade"):
        family = cascade(True)
        family.device, family.low_vram = device, kind == "1024"
        options = dict(samplers=STEPS, pipeline_type=kind, batched=kind == "512")
        out[kind] = image_to_3d(family, picture(), FrontCamera(0.6), **options)
    return out


@case
def pixal3d_views(device):
    from trellis2_tiny import STEPS, cascade, picture

    from sightline.kernels.projection import front_camera
    from sightline.models.trellis2.image_condition import PosedCameras
    from sightline.pipelines.pixal3d import image_to_3d
    from sightline.scene.cameras import Cameras

    camera = front_camera(0.6, 1.6, 64)
    family = cascade(True)
    family.device = device
    camera = PosedCameras(Cameras.cat([camera, camera]))
    return image_to_3d(family, [picture(1), picture(2)], camera, samplers=STEPS, pipeline_type="512")


@case
def trellis2(device):
    from trellis2_tiny import STEPS, cascade, picture

    from sightline.pipelines.trellis2 import image_to_3d

    family = cascade(False)
    family.device = device
    return image_to_3d(family, picture(), samplers=STEPS, pipeline_type="1024_cascade")


@case
def embedded_family(device):
    """In half precision, so only whether it runs is asked."""
    import numpy as np
    from PIL import Image

    from sightline.models.trellis2.family import EMBEDDED_FOLDER, load_family
    from sightline.models.trellis2.image_condition import FrontCamera
    from sightline.pipelines.pixal3d import image_to_3d

    family = load_family(EMBEDDED_FOLDER, "pixal3d", projected=True, device=device)
    rgba = np.asarray(Image.open(TESTS.parent / "workflows/inputs/pixal3d_mug.png").convert("RGBA"))
    mesh = image_to_3d(family, rgba, FrontCamera(math.radians(49.13)))
    return {"count": torch.tensor(float(len(mesh.vertices) > 9000), device=mesh.vertices.device)}


@case
def texturing(device):
    from test_texturing import family, surface
    from trellis2_tiny import STEPS, picture

    from sightline.pipelines.texturing import texture_mesh

    found = family()
    found.device = device
    painted = texture_mesh(found, surface(), picture(), resolution=32, samplers=STEPS)
    return {"voxels": painted.voxels}


@case
def relaxflow(device):
    from test_relaxflow_cascade import CAMERA, HOLD, picture

    from sightline.models.relaxflow.settings import RelaxSettings
    from sightline.models.trellis2.family import EMBEDDED_FOLDER, load_family
    from sightline.pipelines.relaxflow_cascade import complete_projected

    family = load_family(EMBEDDED_FOLDER, "pixal3d", projected=True, device=device, dtype="float32")
    hidden = picture("chair")
    cut = int(len(hidden) * 0.56)
    hidden[cut:] = 0
    occluder = torch.zeros(hidden.shape[:2])
    occluder[cut:] = 1
    options = dict(occluder=occluder, settings=RelaxSettings(HOLD, HOLD), seed=3, structure_only=True)
    return {"coords": complete_projected(family, hidden, [picture("sofa")], CAMERA, **options).coords}


@case
def trellis1(device):
    import test_relaxflow as own

    from sightline.pipelines.relaxflow import complete, decode
    from sightline.scene.cameras import orbit

    family = own.family.__wrapped__() if hasattr(own.family, "__wrapped__") else own.family()
    family.device = device
    family.encoder.to(device)
    done = complete(family, own.picture(0), [own.picture(1)], camera=orbit([0.0], [20.0], 2.0, 40.0, 64, 64))
    return {"done": done, **decode(family, done, ("gaussian", "mesh", "radiance_field"))}


@case
def sam3d(device):
    from sam3d_tiny import scene, write_family

    from sightline.models.sam3d.family import load_sam3d
    from sightline.pipelines.relaxflow_sam3d import (
        decode,
        prepare_object,
        prepare_prior,
        sample_latents,
        sample_structure,
    )

    with tempfile.TemporaryDirectory() as folder:
        files = write_family(Path(folder) / "sam3d")
        family = load_sam3d(files, formats=("gaussian", "mesh"), device=device, dtype=torch.float32)
        picture, priors = prepare_object(*scene()), [prepare_prior(*scene(seed=1)[:2])]
        structure = sample_structure(family, picture, priors)
        latents = sample_latents(family, picture, structure, priors)
        return {"latents": latents, **{form: decode(family, latents, form) for form in ("gaussian", "mesh")}}


@case
def genrecon(device):
    from genrecon_tiny import scene_family
    from scene_captures import model, write_capture
    from test_genrecon import OPTIONS, PLAN

    from sightline.pipelines.genrecon import decode_latents, plan_scene, sample_scene
    from sightline.scene.captures import read_capture

    with tempfile.TemporaryDirectory() as folder:
        plan = plan_scene(read_capture(write_capture(Path(folder), model(5))), PLAN)
        family = scene_family()
        family.device = device
        latents = sample_scene(family, plan, OPTIONS)
        return {"shape": latents.shape, "texture": latents.texture, "scene": decode_latents(family, latents)}


@case
def control_render(device):
    from sightline.pipelines.layout_render import render_layout
    from sightline.scene.document.examples import EXAMPLES, load_example

    return render_layout(load_example(next(iter(EXAMPLES))), longest=96, samples=2, device=device)


class Text(torch.nn.Module):
    """In place of T5 (all states) and CLIP (their mean)."""

    def __init__(self, width, pooled):
        super().__init__()
        self.table, self.pooled = torch.nn.Embedding(32, width), pooled

    def forward(self, ids):
        states = self.table(ids)
        return SimpleNamespace(pooler_output=states.mean(1)) if self.pooled else (states,)


@case
def seethrough3d(device):
    import diffusers
    from test_seethrough3d import Tokenizer

    from sightline.models.seethrough3d.lora import ConditionLora, LoraShape, adapters
    from sightline.models.seethrough3d.prompt import plain_parts
    from sightline.pipelines.seethrough3d import FluxParts, layout_to_picture

    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, pooled_projection_dim=12, guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=2,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159,
    )  # fmt: skip
    lora = ConditionLora(LoraShape(1, 1, 32, (2,))).requires_grad_(False)
    for value in lora.parameters():
        value.normal_()
    control, masks = torch.rand(1, 3, 64, 64), torch.zeros(2, 64, 64)
    masks[0, :32], masks[1, 20:] = 1, 1
    texts = Text(24, False), Tokenizer(), Text(12, True), Tokenizer()
    flux = FluxParts(transformer.eval(), vae.eval(), *texts, device=device)
    parts = plain_parts(["red car", "dog"], "in a park")
    options = dict(width=64, height=32, steps=2)
    return layout_to_picture(flux, adapters(lora.to(device), 1.0), parts, control, masks, **options)


@case
def forgotten_tensors(device):
    """What must be noticed: each of the three lines fails with CUDA."""
    there, here, missed = torch.ones(2, 3, device=device), torch.ones(3), 0
    for work in (
        lambda: there + here,
        lambda: here[torch.tensor([0, 2]).to(device)],
        lambda: torch.randn(3, generator=torch.Generator(), device=device),
    ):
        try:
            work()
            missed += 1
        except RuntimeError:
            pass
    return {"missed": torch.tensor(float(missed if device.type == NAME else 0))}


@case
def logit_blur(device):
    from sightline.kernels.logit_blur import LogitBlur, blur_qk, materialised_attention

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 20, 2, 8, generator=generator).to(device) for _ in range(3))
    out = {}
    for padding in ("zero", "reflect", "replicate", "renormalised"):
        blur = LogitBlur(2.0, 1.5, padding)
        out[padding] = *blur_qk(q, k, blur, "cross"), materialised_attention(q, k, v, blur)
    return out


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    report = {}
    for name in names or CASES:
        try:
            with torch.no_grad():
                wanted = tensors(CASES[name](torch.device("cpu")))
                with pretended_gpu(name in DOUBLES) as device:
                    found = tensors(CASES[name](device))
                    homes = {place: value.device.type for place, value in found.items()}
                    found = {place: value.cpu() for place, value in found.items()}
        except Exception as error:
            ours = [
                f
                for f in traceback.extract_tb(error.__traceback__)
                if "torch" not in f.filename and "devices" not in f.filename
            ]
            where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.line}" for f in reversed(ours[-4:]))
            report[name] = {"error": f"{type(error).__name__}: {str(error)[:300]} at {where}"}
            continue
        shapes = [k for k in wanted if k not in found or found[k].shape != wanted[k].shape]
        apart = {
            k: float((found[k].double() - wanted[k].double()).abs().max())
            for k in wanted
            if k not in shapes and wanted[k].numel()
        }
        elsewhere = [k for k, home in homes.items() if home != NAME]
        report[name] = {"apart": max(apart.values(), default=0.0), "other shapes": shapes, "elsewhere": elsewhere}
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
