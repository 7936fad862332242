"""SparseGen at full size with synthesized weights: one pass of the network, and sampling in several steps."""

from __future__ import annotations

import math
import os
import sys
import types
from pathlib import Path

from . import opponents
from .op import Contender, Missing, Op

OUTPUTS = ("box", "scales", "quats", "opacities", "colors")


def _model(device: str):
    """The 112 M network; the same seeded weights in every process."""
    from ...models.sparsegen import SparseGen, SparseGenConfig, initialize

    return initialize(SparseGen(SparseGenConfig()), "short_run", seed=0).eval().to(device)


def _inputs(case: dict):
    """Clean pictures and noise [1,V,3,S,S], and all cameras [1,V,4,4]."""
    import torch

    from ...models.sparsegen import SparseGenConfig
    from ...scene.cameras import orbit

    config, views = SparseGenConfig(), case["clean"] + case["virtual"]
    size, generator = config.input_size, torch.Generator().manual_seed(1)
    cameras = orbit([360.0 * i / views for i in range(views)], 20, 1.3, config.fov, size, size).world_to_camera[None]
    clean = torch.rand(1, case["clean"], 3, size, size, generator=generator) * 2 - 1
    noise = torch.randn(1, case["virtual"], 3, size, size, generator=generator)
    return [t.to(case["device"]) for t in (clean, noise, cameras)]


def _pass(case: dict):
    """One prediction by our network."""
    import torch

    from ...models.sparsegen import assemble_views, pose_channels, view_times

    model, (clean, noise, cameras) = _model(case["device"]), _inputs(case)
    pose, time = pose_channels(cameras, model.config), torch.full((1,), 1000.0, device=clean.device)

    @torch.no_grad()
    def run():
        views = assemble_views(model.config, clean, noise, cameras, pose=pose)
        gaussians = model(views, view_times(case["clean"], case["virtual"], time), cameras)[0]
        return {name: getattr(gaussians, name) for name in OUTPUTS}

    return run


def _official(case: dict, draws: bool):
    """The official network with the same weights, the data it is given, and its noise."""
    import torch

    from ...models.sparsegen import pose_channels

    (clean, noise, cameras), model = _inputs(case), _model("cpu")
    network = _official_network(model.config, model.state_dict(), draws).to(case["device"])
    pytorch3d = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], device=clean.device)) @ cameras
    given = {
        "x_cond": clean,
        "pose_embed": pose_channels(cameras, model.config),
        "x_self_condition": torch.zeros_like(noise),
        "target_Rs": pytorch3d[..., :3, :3].mT,
        "target_Ts": pytorch3d[..., :3, 3],
        "background": torch.ones(*cameras.shape[:2], *clean.shape[-2:], 3, device=clean.device),
    }
    return network, given, noise


def _official_pass(case: dict):
    """One prediction by the official network."""
    import torch

    network, given, noise = _official(case, draws=False)
    time = torch.full((1,), 1000, device=noise.device)

    @torch.no_grad()
    def run():
        network(noise, time, given)
        return network.renderer.result()

    return run


def _official_sampling(case: dict):
    """The official network in the sampler: every step encodes all views and draws all layers at all input views."""
    import torch

    from ...pipelines.sparsegen import rectified_flow

    network, given, noise = _official(case, draws=True)

    def predict(x, time, self_condition):
        return network(x, time.expand(1).to(x.device), given | {"x_self_condition": self_condition})

    @torch.no_grad()
    def run():
        rectified_flow(predict, lambda output: output["r_imgs"][-1][:, case["clean"] :], noise, case["steps"])
        return network.renderer.result()

    return run


def _official_network(config, state: dict, draws: bool):
    """The network class of the checkout at $SPARSEGEN_PATH, holding `state`.

    What it needs from elsewhere is replaced by the least that serves: PyTorch3D's camera by its formula, gsplat (CUDA
    only) by our rasterizer where it `draws`, the DINOv2 body (fetched from torch.hub there) by ours of the same
    operations.
    """
    import torch

    folder = os.environ.get("SPARSEGEN_PATH")
    if not folder:
        raise Missing("set SPARSEGEN_PATH to a checkout of github.com/Pixtella/SparseGen")
    if not (Path(folder) / "model" / "spgen_model.py").is_file():
        raise Missing(
            f"SPARSEGEN_PATH is {folder}, which has no model/spgen_model.py; "
            "a checkout of github.com/Pixtella/SparseGen is needed"
        )
    opponents.library("torchvision")
    renderer = types.ModuleType("pytorch3d.renderer")
    renderer.FoVPerspectiveCameras = _Camera
    sys.modules |= {
        "pytorch3d": types.ModuleType("pytorch3d"),
        "pytorch3d.renderer": renderer,
        "gsplat": types.ModuleType("gsplat"),
    }
    sys.path.insert(0, folder)
    hub, torch.hub.load = torch.hub.load, lambda *args, **options: _dinov2_body(config)
    try:
        import model.spgen_model as official

        official.GaussianRenderer = lambda options: _renderer(config, draws)
        with torch.device("meta"):
            network = official.SPGenModel(_official_options(config))
    except (ImportError, OSError) as error:
        raise Missing(f"the SparseGen checkout at {folder} cannot be imported: {error}") from error
    finally:
        torch.hub.load = hub
        sys.path.remove(folder)
    box = torch.tensor(config.position_range)
    network.load_state_dict(state | {"position_range": box, "renderer.position_range": box}, assign=True)
    return network.eval()


def _official_options(config):
    """The training configuration as the official code reads it: names with dots."""
    names = (
        "embed_dims",
        "depth_num",
        "num_query",
        "num_gs_per_query",
        "num_encoder_layers",
        "num_decoder_layers",
        "num_heads",
        "max_scale",
    )
    model = {name: getattr(config, name) for name in names} | {
        "position_range": list(config.position_range),
        "return_intermediate": True,
        "querty_init": "trunc_normal",
        "feature_extractor_2d": types.SimpleNamespace(pretrained=False),
        "unet": types.SimpleNamespace(self_condition=True),
    }
    render = {"fov": config.fov, "znear": config.znear, "zfar": config.zfar, "aspect_ratio": 1}
    return types.SimpleNamespace(model=types.SimpleNamespace(**model), render=types.SimpleNamespace(**render))


class _Camera:
    """What the network asks of PyTorch3D's field-of-view camera."""

    def __init__(self, R, T, znear, zfar, aspect_ratio, fov, device):
        self.R, self.T, self.slope = R, T, math.tan(math.radians(fov) / 2)

    def in_ndc(self):
        return True

    def unproject_points(self, points, world_coordinates):
        import torch

        seen = torch.cat([points[..., :2] * points[..., 2:] * self.slope, points[..., 2:]], -1)
        return (seen - self.T[:, None]) @ self.R.mT


def _renderer(config, draws: bool):
    """A module in the renderer's place: keeps the Gaussians it was given last, and draws them if it is to."""
    import torch

    from ...kernels.splat import rasterize

    class Renderer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("position_range", torch.zeros(6))

        def forward(self, cameras, gaussians, xyz_scaled):
            self.last = gaussians
            box, size = gaussians["xyz"], config.input_size
            batch, views = len(box), len(cameras.R) // len(box)
            if not draws:
                return box.new_zeros(1).expand(batch, views, size, size, 4)
            viewmats = torch.eye(4, device=box.device).repeat(batch * views, 1, 1)
            viewmats[:, :3, :3], viewmats[:, :3, 3] = cameras.R.mT, cameras.T
            viewmats = (viewmats.new_tensor([-1.0, -1.0, 1.0, 1.0]).diag() @ viewmats).unflatten(0, (batch, views))
            Ks = config.intrinsics().to(box.device).expand(batch, views, 3, 3)
            means = box * (self.position_range[3:] - self.position_range[:3]) + self.position_range[:3]
            drawn = rasterize(
                means,
                gaussians["rotation"],
                gaussians["scale"],
                gaussians["opacity"][..., 0],
                gaussians["color"],
                viewmats,
                Ks,
                size,
                size,
            )
            return torch.cat([drawn.color, drawn.alpha[..., None]], dim=-1)

        def result(self):
            last = self.last
            return {
                "box": last["xyz"],
                "scales": last["scale"],
                "quats": last["rotation"],
                "opacities": last["opacity"][..., 0],
                "colors": last["color"],
            }

    return Renderer()


def _dinov2_body(config):
    """Our ViT with the methods the official code calls on DINOv2's."""
    import torch

    from ...models.sparsegen.vit import VisionTransformer

    class Body(VisionTransformer):
        register_tokens = None

        def __init__(self):
            super().__init__(config)
            self.head = torch.nn.Identity()
            for block in self.blocks:
                block.sample_drop_ratio = 0.0

        def prepare_tokens_with_masks(self, x, masks):
            x = self.patch_embed(x)
            return torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.position_tokens()

    return Body()


def _sampling(cached: bool):
    def prepare(case):
        from ...pipelines.sparsegen import sample_gaussians

        model, (clean, noise, cameras) = _model(case["device"]), _inputs(case)

        def run():
            gaussians = sample_gaussians(model, clean, cameras, noise, steps=case["steps"], cached=cached)
            return {name: getattr(gaussians, name) for name in OUTPUTS}

        return run

    return prepare


OPS = [
    Op(
        "sparsegen",
        "one pass of the 112 M network, no rendering",
        {"S": dict(clean=1, virtual=0), "M": dict(clean=1, virtual=3), "L": dict(clean=6, virtual=3)},
        (
            Contender("ours", _pass),
            Contender(
                "official code", _official_pass, note="around our ViT body; it decodes the heads of all six layers"
            ),
        ),
    ),
    Op(
        "sparsegen_steps",
        "sampling in several steps, with rendering of the virtual views",
        {
            "S": dict(clean=1, virtual=3, steps=2),
            "M": dict(clean=3, virtual=3, steps=4),
            "L": dict(clean=6, virtual=3, steps=10),
        },
        (
            Contender("ours (caches on)", _sampling(True)),
            Contender("caches off", _sampling(False), note="clean views and positions encoded anew in each step"),
            Contender(
                "official code",
                _official_sampling,
                note="around our ViT body and rasterizer; it draws all six layers at all views in each step",
            ),
        ),
    ),
]
