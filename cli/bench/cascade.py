"""The whole cascade after the image encoder: structure, coarse shape, shape, texture, both decoders; seconds a stage.

The networks have random weights and the tokens lie on a sphere (what random networks would find is no surface), so
that every stage works on as many voxels as it would for an object. M and L are the published sizes; they need a GPU.
"""

from __future__ import annotations

from . import opponents
from .clock import StageClock
from .op import Contender, Missing, Op

LATENT, STRUCTURE_LATENT, CONTEXT_WIDTH = 32, 8, 1024
STRUCTURE_SIDE, FACTOR = 16, 16
IMAGE_TOKENS = 1029, 4101  # of pictures of 512 and of 1024 pixels
NETWORKS = ("structure_model", "img2shape_512", "img2shape", "shape2txt")  # core's names


def _check(case: dict) -> None:
    if case["width"] == 1536 and not case["device"].startswith("cuda"):
        raise Missing("the published sizes take hours on a CPU; add --device cuda")


def _sphere(side: int, device: str):
    """Voxels [N, 4] of a side^3 grid that a sphere of 0.35 of the grid passes through."""
    import torch

    center = torch.cartesian_prod(*[torch.arange(side)] * 3) + 0.5 - side / 2
    hit = (center.norm(dim=1) - 0.35 * side).abs() < 0.75
    coords = (center[hit] + side / 2 - 0.5).int()
    return torch.nn.functional.pad(coords, (1, 0)).to(device)


def _dtype(case: dict):
    import torch

    return torch.bfloat16 if case["device"].startswith("cuda") else torch.float32


def _flow_args(case: dict, name: str) -> dict:
    dense, texture = name == "structure_model", name == "shape2txt"
    return dict(
        resolution=STRUCTURE_SIDE if dense else 32 if name == "img2shape_512" else 64,
        in_channels=STRUCTURE_LATENT if dense else LATENT * (2 if texture else 1),
        out_channels=STRUCTURE_LATENT if dense else LATENT,
        model_channels=case["width"], cond_channels=CONTEXT_WIDTH, num_blocks=case["blocks"],
        num_heads=case["width"] // 128, mlp_ratio=5.3334, share_mod=True, qk_rms_norm=True, qk_rms_norm_cross=True,
    )  # fmt: skip


def _decoder_args(case: dict) -> dict:
    return dict(model_channels=case["decoder"], latent_channels=LATENT, num_blocks=case["decoder_blocks"])


def _networks(case: dict) -> dict:
    """Our networks by core's names, random; half of the children of every voxel survive."""
    import torch

    from ...models.trellis2.checkpoint import CLASSES

    torch.manual_seed(0)
    found = {}

    def build_model(kind: str, args: dict):
        model, config = CLASSES[kind]
        return model(config.from_args({**args, "dtype": str(_dtype(case)).removeprefix("torch.")}))

    with torch.device(case["device"]):
        for name in NETWORKS:
            kind = "SparseStructureFlowModel" if name == "structure_model" else "SLatFlowModel"
            found[name] = build_model(kind, {**_flow_args(case, name), "pe_mode": "rope"})
        found["shape_dec"] = build_model("FlexiDualGridVaeDecoder", _decoder_args(case))
        args = {**_decoder_args(case), "out_channels": 6, "pred_subdiv": False}
        found["txt_dec"] = build_model("SparseUnetVaeDecoder", args)
    generator = torch.Generator(case["device"]).manual_seed(0)
    for network in found.values():
        network.to(case["device"]).eval()
        with torch.no_grad():
            for name, weight in network.named_parameters():
                fan = weight[0].numel() if weight.ndim > 1 else 1
                if not (weight.ndim == 1 and ("norm" in name or "gamma" in name)):
                    values = torch.randn(weight.shape, generator=generator, device=weight.device)
                    weight.copy_(values * (fan**-0.5 if weight.ndim > 1 else 0.02))
    return found


def _inputs(case: dict) -> dict:
    import torch

    torch.manual_seed(1)
    device = case["device"]
    low, high = _sphere(32, device), _sphere(case["resolution"] // FACTOR, device)
    return {
        "low": low, "high": high,
        "context": [torch.randn(1, tokens, CONTEXT_WIDTH).to(device) for tokens in IMAGE_TOKENS],
    }  # fmt: skip


def _settings(case: dict):
    from ...models.trellis2.samplers import SamplerSettings

    return SamplerSettings(case["steps"], 7.5, 0.5, (0.6, 1.0), 3.0)


def _run(case: dict, stages) -> dict:
    """The stages in their order; `stages` has one function each."""
    import torch

    clock, found = StageClock(case["device"]), {}
    given = _inputs(case)
    with torch.no_grad():
        for name in ("structure", "coarse shape", "shape", "texture"):
            torch.manual_seed(2)
            with clock.stage(name):
                found[name.replace(" ", "_")] = stages.sample(name, given)
        latent = torch.randn(len(given["high"]), LATENT).to(case["device"])
        with clock.stage("decode shape"):
            guide = stages.decode_shape(given["high"], latent)
        with clock.stage("decode texture"):
            stages.decode_texture(given["high"], latent, guide)
    return {"stages": clock.found, **found}


class _Ours:
    def __init__(self, case: dict) -> None:
        import torch

        self.case, self.networks = case, _networks(case)
        self.torch = torch

    def sample(self, name: str, given: dict):
        from ...models.trellis2.cascade import Normalization
        from ...models.trellis2.stages import sample_latent, sample_structure

        settings, generator = _settings(self.case), self.torch.Generator().manual_seed(3)
        options = {"batched": self.case["device"] != "cpu"}
        small, large = given["context"]
        if name == "structure":
            model = self.networks["structure_model"]
            return sample_structure(model, small, settings, generator, device=self.case["device"], **options)
        plain = Normalization((0.0,) * LATENT, (1.0,) * LATENT)
        coarse, texture = name == "coarse shape", name == "texture"
        model = self.networks["img2shape_512" if coarse else "shape2txt" if texture else "img2shape"]
        coords = given["low" if coarse else "high"]
        shape = self.torch.zeros(len(coords), LATENT, device=coords.device) if texture else None
        context = small if coarse else large
        found = sample_latent(model, coords, context, settings, plain, generator, shape_latent=shape, **options)
        return found.feats

    def decode_shape(self, coords, latent):
        from ...scene.sparse import SparseTensor

        return self.networks["shape_dec"](SparseTensor(latent, coords), None).subdivisions

    def decode_texture(self, coords, latent, guide):
        from ...scene.sparse import SparseTensor

        self.networks["txt_dec"](SparseTensor(latent, coords), guide)


class _Core:
    """Core's networks with the same weights, in the same Euler loop; both guidance branches in one batch, as core's
    sampler runs them where memory allows."""

    def __init__(self, case: dict) -> None:
        import torch

        model = opponents.comfyui("comfy.ldm.trellis2.model", case["device"])
        vae = opponents.comfyui("comfy.ldm.trellis2.vae", case["device"])
        operations = opponents.comfyui("comfy.ops", case["device"]).disable_weight_init
        if case["fused"]:
            attention = opponents.comfyui("comfy.ldm.modules.attention", case["device"])
            model.optimized_attention = attention.attention_pytorch
        self.case, self.torch, self.sparse, dtype = case, torch, vae.SparseTensor, _dtype(case)
        ours = _networks(case)
        flow = _flow_args(case, "img2shape")
        flow.pop("resolution")
        self.flow = model.Trellis2(
            64, **flow, init_txt_model=True, dtype=dtype, device=case["device"], operations=operations
        )
        sizes = dict(
            _decoder_args(case), block_type=["SparseConvNeXtBlock3d"] * 5,
            up_block_type=["SparseResBlockC2S3d"] * 4, block_args=[{}] * 5,
        )  # fmt: skip
        self.shape_dec = vae.FlexiDualGridVaeDecoder(resolution=256, **sizes)
        self.txt_dec = vae.SparseUnetVaeDecoder(out_channels=6, pred_subdiv=False, **sizes)
        for name in NETWORKS:
            getattr(self.flow, name).load_state_dict(ours.pop(name).state_dict(), strict=False)
        for name in ("shape_dec", "txt_dec"):
            getattr(self, name).load_state_dict(ours[name].state_dict(), strict=False)
            getattr(self, name).to(case["device"], dtype).eval()
        self.flow.eval()

    def sample(self, name: str, given: dict):
        from ...models.trellis2.samplers import dense_std, sample_flow, sparse_std
        from ...scene.sparse import SparseTensor

        torch, dtype = self.torch, _dtype(self.case)
        generator, device = torch.Generator().manual_seed(3), self.case["device"]
        small, large = given["context"]
        if name == "structure":
            shape = (1, STRUCTURE_LATENT, *[STRUCTURE_SIDE] * 3)
            extra, std = {"trellis2_generation_mode": "structure_generation"}, dense_std
        else:
            coords = given["low" if name == "coarse shape" else "high"]
            shape = (len(coords), LATENT)
            modes = {"coarse shape": "shape_generation_512", "shape": "shape_generation"}
            extra = {
                "trellis2_generation_mode": modes.get(name, "texture_generation"), "trellis2_coords": coords,
                "trellis2_coord_counts": torch.tensor([len(coords)], device=device),
                "trellis2_shape_slat": torch.zeros(len(coords), LATENT, device=device, dtype=dtype),
            }  # fmt: skip
            std = sparse_std(SparseTensor(torch.zeros(len(coords), 1, device=device), coords).layout)
        noise = torch.randn(*shape, generator=generator).to(device)

        def core_shape(x):
            return torch.nn.functional.pad(x, (0,) * 7 + (24,)) if x.ndim == 5 else x.T[None, :, :, None]

        def evaluate(x, t, contexts):
            count = len(contexts)
            rows = torch.cat([core_shape(x).to(dtype)] * count)
            both = [torch.cat([pair[i] for pair in contexts]).to(dtype) for i in (0, 1)]
            times = torch.full((count,), 1000.0 * t, device=device)
            v = self.flow(rows, times, both[0], embeds=both[1], **extra).float()
            return list(v[:, :STRUCTURE_LATENT].split(1)) if x.ndim == 5 else [one[:, :, 0].T for one in v]

        zero = (torch.zeros_like(small), torch.zeros_like(large))
        return sample_flow(
            lambda x, t, cond: evaluate(x, t, [cond])[0],
            noise, (small, large), zero, _settings(self.case), std=std,
            pair=lambda x, t, cond, negative: tuple(evaluate(x, t, [cond, negative])),
        )  # fmt: skip

    def decode_shape(self, coords, latent):
        self.shape_dec.set_resolution(self.case["resolution"])
        return self.shape_dec(self.sparse(feats=latent.to(_dtype(self.case)), coords=coords), return_subs=True)[1]

    def decode_texture(self, coords, latent, guide):
        self.txt_dec(self.sparse(feats=latent.to(_dtype(self.case)), coords=coords), guide_subs=guide)


def _ours(case):
    _check(case)
    stages = _Ours(case)
    return lambda: _run(case, stages)


def _core(fused: bool):
    def prepare(case):
        _check(case)
        stages = _Core({**case, "fused": fused})
        return lambda: _run(case, stages)

    return prepare


PUBLISHED = dict(width=1536, blocks=30, steps=12, decoder=[1024, 512, 256, 128, 64], decoder_blocks=[4, 16, 8, 4, 0])
OPS = [
    Op(
        "cascade",
        "all stages of TRELLIS.2 with random weights, tokens on a sphere",
        {
            "S": dict(width=128, blocks=2, steps=2, decoder=[64, 32, 16, 8, 8], decoder_blocks=[1, 1, 1, 0, 0],
                      resolution=512),
            "M": dict(PUBLISHED, resolution=1024),
            "L": dict(PUBLISHED, resolution=1536),
        },
        (
            Contender("ours", _ours),
            Contender("core, fused attention", _core(True), note="with --use-pytorch-cross-attention"),
            Contender("core", _core(False), sizes=("S",), note="its default on a CPU: sub-quadratic attention"),
        ),
    )
]  # fmt: skip
