"""Tiny random networks of the TRELLIS.2 family for tests: a latent factor of 4, two subdivision levels."""

import torch
from torch import nn

from sightline.models.trellis2.cascade import Cascade, CascadeConfig, ImageStage, Normalization
from sightline.models.trellis2.checkpoint import CLASSES
from sightline.models.trellis2.naf import Naf, NafConfig

CHANNELS = 8  # of the image tokens
LATENT = 3
FLOW = dict(
    model_channels=24,
    cond_channels=CHANNELS,
    num_blocks=1,
    num_heads=2,
    mlp_ratio=2.0,
    pe_mode="rope",
    share_mod=True,
    qk_rms_norm=True,
    qk_rms_norm_cross=True,
)


class PatchEncoder(nn.Module):
    """The interface of `DinoV3` with two convolutions behind it."""

    patch_size, prefix_tokens = 8, 5

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, CHANNELS, self.patch_size, self.patch_size)
        self.prefix = nn.Conv2d(3, CHANNELS * self.prefix_tokens, 1)
        self.runs = 0

    def forward(self, images):
        self.runs += 1
        patches = self.patches(images).flatten(2).mT
        prefix = self.prefix(images).mean(dim=(2, 3)).unflatten(1, (self.prefix_tokens, -1))
        return torch.cat([prefix, patches], dim=1)


def network(name, seed=0, **args):
    """A network of a published class on the CPU, every parameter random."""
    model_class, config_class = CLASSES[name]
    model = model_class(config_class.from_args(args))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 1.0 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model.requires_grad_(False).eval()


def sparse_vae(name, seed=0, **changes):
    widths = [8, 16, 16] if "Encoder" in name else [16, 16, 8]
    args = dict(model_channels=widths, latent_channels=LATENT, num_blocks=[1, 1, 0])
    return network(name, seed, **{**args, **changes})


def slat_flow(seed=0, **changes):
    return network(
        "SLatFlowModel", seed, **{**FLOW, "resolution": 8, "in_channels": LATENT, "out_channels": LATENT, **changes}
    )


def cascade(projected: bool, **config):
    """A whole family: structure 4^3 -> 16^3, low meshes at 32^3, high ones at 64^3."""
    attention = {"image_attn_mode": "proj"} if projected else {}
    wide = {**attention, "proj_in_channels": 2 * CHANNELS} if projected else {}
    models = {
        "sparse_structure_flow_model": network(
            "SparseStructureFlowModel", 1, resolution=4, in_channels=2, out_channels=2, **FLOW, **attention
        ),
        "sparse_structure_decoder": network(
            "SparseStructureDecoder", 2, latent_channels=2, num_res_blocks=1, channels=[8, 8, 8], out_channels=1
        ),
        "shape_slat_flow_model_512": slat_flow(3, **wide),
        "shape_slat_flow_model_1024": slat_flow(4, **wide),
        "tex_slat_flow_model_512": slat_flow(5, in_channels=2 * LATENT, **wide),
        "tex_slat_flow_model_1024": slat_flow(6, in_channels=2 * LATENT, **wide),
        "shape_slat_decoder": sparse_vae("FlexiDualGridVaeDecoder", 7),
        "tex_slat_decoder": sparse_vae("SparseUnetVaeDecoder", 8, out_channels=6, pred_subdiv=False),
    }
    stages = {
        "ss": ImageStage(32, 4),
        "shape_512": ImageStage(32, 8, 16),
        "shape_1024": ImageStage(64, 16, 16),
        "tex_512": ImageStage(32, 8, 16),
        "tex_1024": ImageStage(64, 16, 32),
    }
    normalization = Normalization((0.1, -0.2, 0.3), (1.1, 0.9, 1.2))
    settings = CascadeConfig(
        normalization,
        normalization,
        **{"lr_resolution": 32, "token_image_sizes": (32, 64), "image_stages": stages, **config},
    )
    torch.manual_seed(0)
    naf = Naf(NafConfig(dim=32, heads_attn=2, heads_rope=2, kernel_size=3, img_layers=1)).requires_grad_(False)
    return Cascade(settings, models, PatchEncoder().requires_grad_(False), naf)


STEPS = {role: {"steps": 2} for role in ("sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler")}


def picture(seed=0, size=48):
    """uint8 [size, size, 4] with a round object."""
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (size, size, 3), generator=generator, dtype=torch.uint8)
    line = torch.arange(size) - (size - 1) / 2
    inside = line[:, None] ** 2 + line[None] ** 2 < (size / 3) ** 2
    return torch.cat([rgb, (inside * 255).to(torch.uint8)[..., None]], dim=-1).numpy()
