"""Our projection beside core's own Pixal3D nodes: ``python native_trellis2.py COMFYUI_TREE BASE_FOLDER``.

Judged by `test_native_trellis2.py`: all networks are tiny and random.
"""

import importlib.util
import sys

from inside_comfyui import answer, enter, our_nodes

CHANNELS, FOV, GRID = 16, 40.0, 32
SUBMODELS = ("structure", "shape", "texture")
DINO = {
    "model_type": "dinov3", "num_hidden_layers": 1, "hidden_size": CHANNELS, "num_attention_heads": 2,
    "num_register_tokens": 4, "intermediate_size": 32, "layer_norm_eps": 1e-5, "num_channels": 3, "patch_size": 16,
    "rope_theta": 100.0, "image_size": 224, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip
NAF = {"dim": 16, "heads_attn": 2, "heads_rope": 2, "kernel_size": 9, "img_layers": 1}


def tiny_clip_vision():
    """Core's DINOv3 with NAF."""
    import comfy.clip_vision
    import comfy.model_patcher
    import comfy.ops
    import torch

    clip = comfy.clip_vision.ClipVisionModel(DINO)
    randomize(clip.model, 1)
    naf = comfy.clip_vision.NAF(comfy.ops.manual_cast, **NAF)
    naf.image_encoder.rope.periods.copy_(torch.tensor([1.0, 10.0]))
    randomize(naf, 2)
    clip.naf = comfy.model_patcher.CoreModelPatcher(naf.eval(), load_device=clip.load_device, offload_device="cpu")
    return clip


def tiny_model():
    """Core's Pixal3D: all four submodels, projecting."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    config = {"image_model": "trellis2", "resolution": 64, "init_txt_model": True, "txt_only": False,
              "model_channels": 144, "cond_channels": CHANNELS, "num_blocks": 1, "mlp_ratio": 2.0}  # fmt: skip
    for name in SUBMODELS:
        config[f"image_attn_mode_{name}"] = "proj"
        config[f"proj_in_channels_{name}"] = CHANNELS if name == "structure" else 2 * CHANNELS
    settings = comfy.supported_models.Trellis2(config)
    settings.set_inference_dtype(torch.float32, None)
    model = settings.get_model({}, device="cpu")
    randomize(model.diffusion_model, 3)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def randomize(network, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            scale = 1.0 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def picture(seed, size=512):
    """IMAGE [1, size, size, 3]: patches of color that reach the border."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(32, 256, (1, 3, 32, 32), generator=generator)
    image = torch.nn.functional.interpolate(small.float(), size, mode="nearest") / 255
    return image.permute(0, 2, 3, 1).contiguous()


class Findings:
    def __init__(self):
        import torch
        from comfy_api.latest import Types
        from comfy_extras import nodes_trellis2 as core

        ours = our_nodes()
        self.node = ours["SightlineProjectionConditioner"]
        self.clip, self.model, self.core, self.torch = tiny_clip_vision(), tiny_model(), core, torch
        generator = torch.Generator().manual_seed(4)
        self.voxel = Types.VOXEL((torch.rand(1, GRID, GRID, GRID, generator=generator) > 0.97).float())
        self.image = picture(5)

    def ours(self, **inputs):
        return self.node.execute(**{"clip_vision": self.clip, "fov": FOV, "mesh_scale": 1.0} | inputs).result

    def sample(self, positive, negative, latent, seed=7, steps=2):
        import nodes

        return nodes.KSampler().sample(
            self.model, seed, steps, 4.0, "euler", "normal", positive, negative, latent, 1.0
        )[0]["samples"]

    def difference(self, one, other):
        return float((one[0][1]["trellis2_proj_feats"] - other[0][1]["trellis2_proj_feats"]).abs().max())

    def structure(self):
        """The stage without NAF: all equal, begun by core or by us."""
        torch = self.torch
        core = self.core.Pixal3DConditioning.execute(self.clip, self.image, FOV).result
        after, alone = self.ours(image=self.image, positive=core[0], negative=core[1]), self.ours(image=self.image)
        empty = self.core.EmptyTrellis2LatentStructure.execute(1).result[0]
        results = [self.sample(*pair, empty) for pair in (core, after, alone)]
        self.begun, self.alone = core, alone
        heavy, light = (pair[0][0][1]["proj_feat_pack"]["stages"] for pair in (core, alone))
        return {
            "core": [self.difference(core[0], one[0]) for one in (after, alone)],
            "tokens": [float((core[i][0][0] - alone[i][0][0]).abs().max()) for i in (0, 1)],
            "embeds": [float((core[i][0][1]["embeds"] - alone[i][0][1]["embeds"]).abs().max()) for i in (0, 1)],
            "sampled": [float((results[0] - one).abs().max()) for one in results[1:]],
            "moved": float(results[0].std()),
            "shape": list(alone[0][0][1]["trellis2_proj_feats"].shape),
            "map_elements": [
                sum(kept.numel() for one in stages.values() for kept in one.values() if isinstance(kept, torch.Tensor))
                for stages in (heavy, light)
            ],
        }  # fmt: skip

    def sparse(self, stage, core, size, target):
        """One sparse stage: core's features and ours, apart for tokens that read inside the border band and others."""
        torch, (positive, negative, latent) = self.torch, core
        ours = self.ours(image=self.image, positive=positive, negative=negative, latent=latent)
        theirs, mine = positive[0][1]["trellis2_proj_feats"], ours[0][0][1]["trellis2_proj_feats"]
        from sightline.kernels.projection import distance_from_fov, front_uv, grid_points

        fov = torch.deg2rad(torch.tensor(FOV))
        points = grid_points(latent["coord_resolution"], latent["coords"][:, 1:])
        uv = front_uv(points, fov, distance_from_fov(fov), 1.0, size)[0]
        band = 4 * 16 + size / target + 1  # four cells of 16 picture pixels, and the bilinear corners
        inside = ((uv > band) & (uv < size - band)).all(dim=1)
        gap = (theirs - mine).abs()
        sampled = [self.sample(*pair, latent) for pair in ((positive, negative), ours)]
        valid = sampled[1][0, :, : len(mine), 0]
        return {
            "stage": stage,
            "tokens": len(mine),
            "inside": int(inside.sum()),
            "low": float(gap[:, :CHANNELS].max()),
            "raised_inside": float(gap[inside, CHANNELS:].max()),
            "raised_border": float(gap[~inside, CHANNELS:].max()),
            "changed": float((sampled[0] - sampled[1]).abs().max()),
            "finite": bool(torch.isfinite(valid).all()),
            "kept": ours[0][0][1]["trellis2_generation_mode"] == positive[0][1]["trellis2_generation_mode"],
            "input_untouched": "sightline_pictures" not in positive[0][1],
        }

    def stages(self):
        from comfy_api.latest import Types

        torch = self.torch
        small = self.core.Trellis2ShapeStage.execute(*self.begun, self.voxel).result
        wide = torch.nn.functional.interpolate(self.voxel.data[:, None], scale_factor=2)[:, 0]
        wide = wide * (torch.rand(wide.shape, generator=torch.Generator().manual_seed(6)) > 0.8)
        large = self.core.Trellis2ShapeStage.execute(*self.begun, Types.VOXEL(wide)).result
        latent = large[2] | {
            "samples": torch.randn(large[2]["samples"].shape, generator=torch.Generator().manual_seed(8))
        }
        texture = self.core.Trellis2TextureStage.execute(large[0], large[1], latent).result
        self.small = small
        return [
            self.sparse("shape_512", small, 512, 512),
            self.sparse("shape_1024", large, 1024, 512),
            self.sparse("tex_1024", texture, 1024, 1024),
        ]

    def begun_by_us(self):
        """From our own first stage on: core's stage node takes it, and its next stage gets the same features."""
        stage = self.core.Trellis2ShapeStage.execute(*self.alone, self.voxel).result
        ours = self.ours(image=self.image, positive=stage[0], negative=stage[1], latent=stage[2])
        other = self.ours(image=self.image, positive=self.small[0], negative=self.small[1], latent=self.small[2])
        encoded = [pair[0][0][1]["sightline_pictures"][1] for pair in (self.alone, ours)]
        return {
            "frame": stage[2]["model_frame"],
            "difference": self.difference(ours[0], other[0]),
            "encoded_once": encoded[0] is encoded[1],
            "finite": bool(self.torch.isfinite(self.sample(*ours, stage[2])).all()),
        }

    def views(self):
        """Posed cameras: the front one equals `image`; two views are the mean of each alone; a mask blackens."""
        from sightline.kernels.projection import distance_from_fov
        from sightline.scene.cameras import orbit
        from sightline.scene.views import ViewSet

        torch, stage = self.torch, self.small
        pictures = torch.cat([self.image, picture(9)]).permute(0, 3, 1, 2)
        distance = float(distance_from_fov(torch.deg2rad(torch.tensor(FOV))))
        cameras = orbit([30.0, 100.0], [20.0, -10.0], distance, FOV, 512, 512)
        given = dict(positive=stage[0], negative=stage[1], latent=stage[2])
        front = self.ours(image=self.image, **given)
        one = self.ours(views=ViewSet(pictures[:1], cameras[:1]), **given)
        both = self.ours(views=ViewSet(pictures, cameras), **given)
        features = [pair[0][0][1]["trellis2_proj_feats"] for pair in (one, both)]
        # the second view alone, in the frame of the first: projected with the library
        from sightline.models.trellis2.cascade import PIXAL3D_STAGES
        from sightline.models.trellis2.image_condition import Pictures, PosedCameras, project_features
        from sightline.models.trellis2.naf import NafConfig, load_naf
        from sightline.models.trellis2.preprocess import as_bytes
        from sightline.nodes import host
        from sightline.scene.posed_views import front_aligned

        encoder = host.CoreDinoV3(self.clip)
        weights, args = host.core_naf(self.clip)
        second = project_features(
            Pictures(encoder, as_bytes(pictures[1:]), device="cpu"), PIXAL3D_STAGES["shape_512"],
            PosedCameras(front_aligned(cameras)[1]), stage[2]["coords"][:, 1:],
            load_naf(weights, NafConfig.from_args(args)),
        )  # fmt: skip
        mean = (features[0] + second[1]) / 2
        mask = torch.zeros(1, 512, 512)
        mask[:, 128:384, 128:384] = 1
        masked = self.ours(image=self.image, mask=mask, **given)
        return {
            "front": self.difference(front[0], one[0]),
            "mean": float((features[1] - mean).abs().max()),
            "views_differ": float((features[1] - features[0]).abs().max()),
            "mask": self.difference(front[0], masked[0]),
            "finite": bool(torch.isfinite(self.sample(*both, stage[2])).all()),
        }

    def batch(self):
        """Two pictures: each object as if it were alone."""
        from comfy_api.latest import Types

        torch = self.torch
        images = torch.cat([self.image, picture(9)])
        grids = torch.cat([self.voxel.data, self.voxel.data.flip(1)[:, :, : GRID // 2].repeat(1, 1, 2, 1)])
        stage = self.core.Trellis2ShapeStage.execute(*self.ours(image=images), Types.VOXEL(grids)).result
        both = self.ours(image=images, positive=stage[0], negative=stage[1], latent=stage[2])
        rows, gaps = stage[2]["coords"][:, 0], []
        for i in range(2):
            solo = self.core.Trellis2ShapeStage.execute(
                *self.ours(image=images[i : i + 1]), Types.VOXEL(grids[i : i + 1])
            ).result
            alone = self.ours(image=images[i : i + 1], positive=solo[0], negative=solo[1], latent=solo[2])
            features = [pair[0][0][1]["trellis2_proj_feats"] for pair in (both, alone)]
            gaps.append(float((features[0][rows == i] - features[1]).abs().max()))
        return {"solo": gaps, "finite": bool(torch.isfinite(self.sample(*both, stage[2])).all())}

    def interrupts(self):
        """In our node and while core samples with its conditioning; both run again afterwards."""
        import comfy.model_management as management

        given = dict(image=self.image.clone(), positive=self.small[0], negative=self.small[1], latent=self.small[2])
        caught = []
        pair = self.ours(**given)
        for work in (
            lambda: self.ours(**given | {"image": self.image.clone()}),
            lambda: self.sample(*pair, self.small[2]),
        ):
            management.interrupt_current_processing(True)
            try:
                work()
                caught.append(False)
            except management.InterruptProcessingException:
                caught.append(True)
            management.interrupt_current_processing(False)
            work()
        return caught

    def latents(self):
        """Latents of our samplers in core's hands: the fields of core's own, and what its decoders read from them."""
        from types import SimpleNamespace

        from sightline.nodes import host

        torch, core = self.torch, self.small[2]
        generator = torch.Generator().manual_seed(11)
        items = [
            (torch.randn(count, 32, generator=generator), torch.randint(0, GRID, (count, 3), generator=generator))
            for count in (7, 5)
        ]
        ours = host.sparse_latent(items, GRID, "y_up")
        split = self.core.split_batched_sparse_latent(ours["samples"], ours["coords"], ours["coord_counts"])
        seen = []

        def decode(sparse, resolution):
            seen.append((sparse.feats, resolution))
            return [(torch.zeros(3, 3), torch.zeros(1, 3, dtype=torch.int32))], [sparse]

        network = SimpleNamespace(decode_shape_slat=decode, decode_structure=lambda x: x[:, :1])
        vae = SimpleNamespace(prepare_decode=lambda shape: 1, first_stage_model=network, vae_dtype=torch.float32)
        self.core.VaeDecodeShapeTrellis.execute(ours, vae)
        expected = self.core.shape_slat_format.process_out(items[0][0])
        structure = host.structure_latent(torch.randn(1, 8, 16, 16, 16, generator=generator))
        voxel = self.core.VaeDecodeStructureTrellis2.execute(structure, vae, "16").result[0]
        back, grid, frame = host.read_sparse_latent(ours, "shape")
        theirs = host.read_sparse_latent(core, "shape")
        return {
            "fields": sorted(ours) == sorted(core) and ours["type"] == core["type"],
            "kinds": [str(core[k].dtype) == str(ours[k].dtype) for k in ("samples", "coords", "coord_counts")],
            "shapes": [list(ours["samples"].shape), list(ours["coords"].shape)],
            "split": all(torch.equal(a, b) for (a, _), (b, _) in zip(split, items)),
            "decoded": float((seen[0][0] - expected).abs().max()),
            "resolution": seen[0][1],
            "structure": bool(torch.equal(voxel.data[0], (structure["samples"][0, 0] > 0).float())),
            "empty_structure": list(self.core.EmptyTrellis2LatentStructure.execute(1).result[0]["samples"].shape)
            == list(structure["samples"].shape),
            "back": all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(back, items)),
            "theirs": [len(theirs[0]), theirs[1], theirs[2], grid, frame],
        }

    def refusals(self):
        """What each wrong use is told."""
        torch, small = self.torch, self.small
        image = self.image
        plain = [[torch.zeros(1, 5, CHANNELS), {"embeds": torch.zeros(1, 5, CHANNELS)}]]
        chosen = dict(positive=small[0], negative=small[1])
        bare = tiny_clip_vision()
        bare.naf = None
        other = tiny_clip_vision()
        other.model_type = "clip_vision_model"
        moved = small[2] | {"coords": small[2]["coords"] + 1}
        cases = {
            "neither": {},
            "both": dict(image=image, views=object()),
            "black": dict(image=image * 0),
            "empty mask": dict(image=image, mask=torch.zeros(1, 512, 512)),
            "nan": dict(image=image * float("nan")),
            "one conditioning": dict(image=image, positive=small[0]),
            "no latent": dict(image=image, **chosen),
            "other voxels": dict(image=image, latent=moved, **chosen),
            "trellis2": dict(image=image, positive=plain, negative=plain),
            "no naf": dict(image=image, latent=small[2], clip_vision=bare, **chosen),
            "other encoder": dict(image=image, clip_vision=other),
            "two objects": dict(image=torch.cat([image, image]), latent=small[2], **chosen),
            "late latent": dict(image=image, latent=small[2]),
            "fov": dict(image=image, fov=180.0),
        }
        said = {}
        for name, inputs in cases.items():
            try:
                self.ours(**inputs)
                said[name] = "nothing"
            except ValueError as error:
                said[name] = f"{type(error).__name__}: {error}"
        return said


if __name__ == "__main__":
    enter()
    if importlib.util.find_spec("comfy.ldm.trellis2") is None:
        answer({"absent": "TRELLIS.2 and Pixal3D models of its own"})
        sys.exit()
    import torch

    with torch.inference_mode():
        findings = Findings()
        names = ("structure", "stages", "begun_by_us", "views", "batch", "interrupts", "latents", "refusals")
        answer({name: getattr(findings, name)() for name in names})
