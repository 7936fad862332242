"""RelaxFlow on core's own TRELLIS.2 and Pixal3D: ``python native_relaxflow.py COMFYUI_TREE BASE_FOLDER``.

Judged by `test_native_relaxflow.py`: all networks are tiny and random.
"""

import importlib.util
import sys

from inside_comfyui import answer, enter, our_nodes

CHANNELS, STEPS = 16, 3


def tiny_model(attn):
    """Core's TRELLIS.2 ("global") or Pixal3D ("proj"), all submodels."""
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models
    import torch
    from native_trellis2 import SUBMODELS, randomize

    config = {"image_model": "trellis2", "resolution": 64, "init_txt_model": True, "txt_only": False,
              "model_channels": 144, "cond_channels": CHANNELS, "num_blocks": 1, "mlp_ratio": 2.0}  # fmt: skip
    for name in SUBMODELS:
        config[f"image_attn_mode_{name}"] = attn
        config[f"proj_in_channels_{name}"] = CHANNELS
    settings = comfy.supported_models.Trellis2(config)
    settings.set_inference_dtype(torch.float32, None)
    model = settings.get_model({}, device="cpu")
    randomize(model.diffusion_model, 3)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def half_hidden():
    """A scene: a vase, and a wall before its lower half."""
    import dataclasses

    from sightline.scene.document import Orbit, SceneCamera, SceneObject, new_document

    vase = SceneObject(id="a", name="vase", prompt="a vase")
    wall = SceneObject(id="b", name="wall", prompt="a wall", position=(1.5, 0.0, 0.0), size=(0.1, 4.0, 0.5))
    camera = SceneCamera(mode="orbit", orbit=Orbit((0.0, 0.0, 0.5), 0.0, 0.0, 30.0), lens_mm=300.0)
    return dataclasses.replace(new_document(), cameras=(camera,), active_camera=camera.id, objects=(vase, wall))


class Findings:
    def __init__(self):
        import comfy.samplers
        import torch

        self.nodes = our_nodes()
        self.torch, self.samplers = torch, comfy.samplers
        self.model = tiny_model("global")
        self.small = self.ragged((30,))
        self.pair = self.conditioning(1, sparse=self.small), self.conditioning(1, zero=True, sparse=self.small)

    def tokens(self, seed, count=21, batch=1):
        generator = self.torch.Generator().manual_seed(seed)
        return self.torch.randn(batch, count, CHANNELS, generator=generator)

    def conditioning(self, seed, zero=False, sparse=None, batch=1):
        torch = self.torch
        tokens, embeds = self.tokens(seed, batch=batch), self.tokens(seed + 100, batch=batch)
        if zero:
            tokens, embeds = torch.zeros_like(tokens), torch.zeros_like(embeds)
        extras = {"embeds": embeds}
        if sparse is not None:
            extras |= {"trellis2_coords": sparse["coords"], "trellis2_coord_counts": sparse["coord_counts"],
                       "trellis2_generation_mode": "shape_generation_512"}  # fmt: skip
        return [[tokens, extras]]

    def structure(self):
        return {"samples": self.torch.zeros(1, 32, 16, 16, 16), "type": "trellis2"}

    def ragged(self, counts=(40, 29)):
        """A sparse latent of two objects of different sizes, whose voxels are as many as there are tokens once."""
        from sightline.nodes import host

        generator = self.torch.Generator().manual_seed(1)
        items = []
        for count in counts:
            flat = self.torch.randperm(8**3, generator=generator)[:count].sort().values
            coords = self.torch.stack([flat // 64, flat // 8 % 8, flat % 8], 1)
            items.append((self.torch.zeros(count, 32), coords))
        return host.sparse_latent(items, 8, "z_up")

    def k_sample(self, model, positive, negative, latent, cfg=4.0, steps=STEPS):
        import nodes

        return nodes.KSampler().sample(model, 7, steps, cfg, "euler", "normal", positive, negative, latent, 1.0)[0][
            "samples"
        ]

    def guided(self, guider, latent, steps=STEPS):
        import comfy.sample

        sampler = self.samplers.sampler_object("euler")
        sigmas = self.samplers.calculate_sigmas(self.model.get_model_object("model_sampling"), "normal", steps)
        empty = latent["samples"]
        noise = comfy.sample.prepare_noise(empty, 7)
        return guider.sample(noise, empty, sampler, sigmas, seed=7)

    def blur(self, model=None, **inputs):
        given = dict(sigma_queries=1.0, sigma_keys=1.5, attention="both", branch="all", padding="zero")
        given |= dict(special_tokens=0)
        return self.nodes["SightlineAttentionLogitBlur"].execute(model=model or self.model, **given | inputs).result[0]

    def materialised(self, branches, kinds, **options):
        """A clone whose logits are blurred as matrices, item by item and branch by branch."""
        from sightline.kernels.attention import attention
        from sightline.kernels.logit_blur import LogitBlur, materialised_attention

        torch, blur = self.torch, LogitBlur(1.0, 1.5, where="both", **options)
        clone, calls = self.model.clone(), [0]

        def override(function, q, k, v, heads, *args, transformer_options=None, mask=None, **kwargs):
            kind = ("self", "cross")[calls[0] % 2]
            calls[0] += 1
            q, k, v = (x.transpose(1, 2) for x in (q, k, v))
            slots = transformer_options["cond_or_uncond"]
            out = []
            for i in range(len(q)):
                length = self.lengths[i % len(self.lengths)] if self.lengths else q.shape[1]
                keys = length if kind == "self" else k.shape[1]
                on = slots[i * len(slots) // len(q)] in branches and kind in kinds
                one = (q[i : i + 1, :length], k[i : i + 1, :keys], v[i : i + 1, :keys])
                done = materialised_attention(*one, blur, kind) if on else attention(*one)
                out.append(torch.nn.functional.pad(done, (0, 0, 0, 0, 0, q.shape[1] - length)))
            return torch.cat(out).transpose(1, 2)

        clone.model_options["transformer_options"] = {"optimized_attention_override": override}
        return clone

    def compare(self, ours, theirs, plain):
        """Error against the matrices and effect of the blur, relative to the largest value."""
        scale = float(theirs.abs().max())
        return [float((ours - theirs).abs().max()) / scale, float((ours - plain).abs().max()) / scale]

    def blurred(self):
        """The node against matrices, for dense and ragged latents, and what is left when it is gone."""
        torch, found = self.torch, {}
        pair = self.conditioning(1), self.conditioning(1, zero=True)
        dense = self.structure()
        plain = self.k_sample(self.model, *pair, dense, cfg=1.0, steps=1)
        self.lengths = None
        ours = self.k_sample(self.blur(attention="cross", branch="positive"), *pair, dense, cfg=1.0, steps=1)
        theirs = self.k_sample(self.materialised((0,), ("cross",)), *pair, dense, cfg=1.0, steps=1)
        found["structure"] = self.compare(ours, theirs, plain)
        sparse = self.ragged()
        self.lengths = [40, 29]
        pair = self.conditioning(1, sparse=sparse, batch=2), self.conditioning(1, zero=True, sparse=sparse, batch=2)
        before = self.k_sample(self.model, *pair, sparse)
        for attention, branch, padding in (
            ("both", "all", "zero"),
            ("both", "all", "replicate"),
            ("self", "negative", "reflect"),
            ("cross", "positive", "renormalised"),
        ):
            ours = self.k_sample(self.blur(attention=attention, branch=branch, padding=padding), *pair, sparse)
            kinds = ("self", "cross") if attention == "both" else (attention,)
            slots = {"all": (0, 1), "positive": (0,), "negative": (1,)}[branch]
            theirs = self.k_sample(self.materialised(slots, kinds, padding=padding), *pair, sparse)
            found[f"{attention} {branch} {padding}"] = self.compare(ours, theirs, before)
        self.lengths = None
        again = self.k_sample(self.model, *pair, sparse)
        zero = self.k_sample(self.blur(sigma_queries=0.0, sigma_keys=0.0), *pair, sparse)
        found["after removal"] = bool(torch.equal(before, again))
        found["sigma 0"] = bool(torch.equal(before, zero))
        return found

    def axes(self):
        """True axes and priors apart: the override against matrices on a full grid, and through sampling."""
        from dataclasses import replace

        from sightline.kernels.logit_blur import LogitBlur, materialised_attention
        from sightline.nodes.host.attention import BlurredAttention

        torch = self.torch
        generator = torch.Generator().manual_seed(5)
        q, k, v = (torch.randn(1, count, 2, 4, generator=generator) for count in (27, 12, 12))
        blur = LogitBlur(1.0, 1.5, where="both", special=2)

        def plain(q, k, v, heads, *args, **kwargs):
            return torch.nn.functional.scaled_dot_product_attention(
                *(x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
            ).transpose(1, 2)

        def ours(reach, q, k, v):
            return reach(plain, *(x.flatten(-2) for x in (q, k, v)), 2)

        found = {}
        reach = BlurredAttention(blur, (0,), False, None, true_axes=True, priors=2)
        laid = replace(blur, grid_q=(3, 3, 3), grid_k=(2, 2), segments=(6, 6))
        found["cross"] = float((ours(reach, q, k, v) - materialised_attention(q, k, v, laid)).abs().max())
        apart = BlurredAttention(blur, (0,), False, None, priors=2)
        parts = replace(blur, segments=(6, 6))
        found["apart"] = float((ours(apart, q, k, v) - materialised_attention(q, k, v, parts)).abs().max())
        order = torch.randperm(27, generator=generator)
        coords = torch.cartesian_prod(*[torch.arange(3)] * 3)[order]
        mixed = q[:, order]
        reach.coords = torch.nn.functional.pad(coords, (1, 0))
        reach.lengths = [27]
        sparse = ours(reach, mixed, mixed, mixed)
        expected = materialised_attention(q, q, q, laid, "self")[:, order]
        found["self, voxels"] = float((sparse - expected).abs().max())
        pair, dense = (self.conditioning(1), self.conditioning(1, zero=True)), self.structure()
        given = dict(attention="cross", special_tokens=5, true_axes=True)
        moved = self.k_sample(self.blur(**given), *pair, dense, cfg=1.0, steps=1)
        row = self.k_sample(self.blur(attention="cross", special_tokens=5), *pair, dense, cfg=1.0, steps=1)
        found["structure"] = float((moved - row).abs().max())
        ragged = self.ragged()
        pair = self.conditioning(1, sparse=ragged, batch=2), self.conditioning(1, zero=True, sparse=ragged, batch=2)
        moved = self.k_sample(self.blur(**given | {"attention": "both"}), *pair, ragged, steps=1)
        row = self.k_sample(self.blur(special_tokens=5), *pair, ragged, steps=1)
        found["ragged"] = float((moved - row).abs().max())
        return found

    def guider(self, **inputs):
        given = dict(model=self.model, positive=self.pair[0], negative=self.pair[1],
                     prior=self.conditioning(2, sparse=self.small), cfg=4.0, preset="custom", stage="structure",
                     schedule="linear_cutoff",
                     alpha=1.0, cutoff=0.4, blend="linear", prior_weight=1.0, sigma=1.0, attention="cross")  # fmt: skip
        return self.nodes["SightlineDualBranchGuider"].execute(**given | inputs).result[0]

    def guiders(self):
        torch, small = self.torch, self.small
        core = self.samplers.CFGGuider(self.model)
        core.set_conds(*self.pair)
        core.set_cfg(4.0)
        cfg = self.guided(core, small)
        dense = self.structure()
        plain = self.samplers.CFGGuider(self.model)
        plain.set_conds(self.conditioning(1), self.conditioning(1, zero=True))
        plain.set_cfg(4.0)
        own = dict(positive=self.conditioning(1), negative=self.conditioning(1, zero=True), prior=self.conditioning(2))
        whole = self.guider(**own, alpha=0.0)
        equal = torch.equal(self.guided(plain, dense, 1), self.guided(whole, dense, 1))
        found = {"structure, alpha 0": equal}
        found["alpha 0"] = bool(torch.equal(cfg, self.guided(self.guider(alpha=0.0), small)))
        found["weight 0"] = bool(torch.equal(cfg, self.guided(self.guider(prior_weight=0.0), small)))
        same = self.guided(self.guider(prior=self.pair[0], attention="none", blend="residual_pull"), small)
        found["prior is the observation"] = float((same - cfg).abs().max() / cfg.abs().max())
        mask = torch.ones(8, 8, 8)
        seen = self.guided(self.guider(visibility=mask, latent=small), small)
        found["all visible"] = float((seen - cfg).abs().max() / cfg.abs().max())
        mask[:, :4] = 0
        half = self.guided(self.guider(visibility=mask, latent=small), small)
        found["half visible"] = float((half - cfg).abs().max() / cfg.abs().max())
        held = self.guided(self.guider(visibility=mask, latent=small, hold_seen=True), small)
        rows = small["coords"][:, 2] >= 4
        away = (held - cfg).abs()[0, :, :, 0] / cfg.abs().max()
        found["held"] = [float(away[:, rows].max()), float(away[:, ~rows].max())]
        again = self.guider(visibility=mask, latent=small, hold_seen=True)
        found["held twice"] = bool(
            torch.equal(self.guided(again, small), held) and torch.equal(self.guided(again, small), held)
        )
        found["moved"] = float((self.guided(self.guider(), small) - cfg).abs().max() / cfg.abs().max())
        counts = {}
        for name, inputs in (
            ("paper", dict(preset="paper")),
            ("as released", dict(preset="as released")),
            ("cross", dict(attention="cross")),
            ("self", dict(attention="self")),
            ("masked", dict(visibility=mask, latent=small)),
            ("cfg 1", dict(cfg=1.0)),
        ):
            guider = self.guider(**inputs)
            self.guided(guider, small, 25)
            counts[name] = guider.evaluations
        found["evaluations"] = counts
        # one shared unconditional evaluation is the two separate ones
        shared = self.guided(self.guider(attention="cross"), small)
        separate = self.guider(attention="cross")
        separate.blur = None  # as if it could not know; the blur itself stays in the options
        reach = separate.blurred

        def options(of):
            merged = dict(of.get("transformer_options", {}))
            merged["optimized_attention_override"] = reach.model_options["transformer_options"][
                "optimized_attention_override"
            ]
            return {**of, "transformer_options": merged}

        separate._prior_options = options
        found["shared"] = float((self.guided(separate, small) - shared).abs().max())
        return found

    def sparse_guider(self):
        """The latent stage on voxels, a prior of two pictures, and a mask read at the voxels."""
        torch, sparse = self.torch, self.ragged((30,))
        pair = self.conditioning(1, sparse=sparse), self.conditioning(1, zero=True, sparse=sparse)
        priors = {"prior0": self.conditioning(2, sparse=sparse), "prior1": self.conditioning(3, sparse=sparse)}
        prior = self.nodes["SightlineCombinePriors"].execute(priors, "concat", 0.1).result[0]
        mask = torch.zeros(64, 64, 64)
        mask[:32] = 1
        cfg = self.guided(self.guider(positive=pair[0], negative=pair[1], prior=prior, alpha=0.0), sparse)
        both = dict(positive=pair[0], negative=pair[1], prior=prior)
        out = self.guided(self.guider(**both, stage="latent", visibility=mask, latent=sparse), sparse)
        batch = self.conditioning(2, batch=3)
        many = self.nodes["SightlineCombinePriors"].execute({"prior0": batch}, "concat", 0.1).result[0]
        mean = self.nodes["SightlineCombinePriors"].execute({"prior0": batch}, "mean", 0.1).result[0]
        return {
            "tokens": list(prior[0][0].shape), "embeds": list(prior[0][1]["embeds"].shape),
            "batch": list(many[0][0].shape), "mean": list(mean[0][0].shape),
            "moved": float((out - cfg).abs().max()), "finite": bool(torch.isfinite(out).all()),
            "mode": prior[0][1]["trellis2_generation_mode"],
        }  # fmt: skip

    def visibility(self):
        from comfy_api.latest import Types

        from sightline.scene.cameras import look_at

        torch = self.torch
        grid = torch.zeros(1, 16, 16, 16)
        grid[0, 4:12, 4:12, 4:12] = 1
        execute = self.nodes["SightlineVisibilityMask"].execute
        given = dict(fov=40.0, frame="y_up", tolerance=1.5, falloff=3.0, dilate=1.5)
        mask, preview = execute(voxel=Types.VOXEL(grid), **given).result
        occluder = torch.zeros(1, 64, 64)
        occluder[:, 32:] = 1
        hidden = execute(voxel=Types.VOXEL(grid), occluder=occluder, **given).result[0]
        z_up = execute(voxel=Types.VOXEL(grid), **given | {"frame": "z_up"}).result[0]
        own = torch.zeros(1, 16, 16, 16)
        own[:, :, 8:] = 1
        override = execute(voxel=Types.VOXEL(grid), override=Types.VOXEL(own), **given).result[0]
        near = execute(voxel=Types.VOXEL(grid), depth=torch.full((1, 64, 64, 3), 0.2), **given).result[0]
        measured = execute(voxel=Types.VOXEL(grid), depth=torch.full((1, 64, 64, 3), 9.0), **given).result[0]
        behind = look_at((0.0, 0.0, -2.0), (0.0, 0.0, 0.0), 40.0, 64, 64, up=(0.0, 1.0, 0.0))
        turned = execute(voxel=Types.VOXEL(grid), cameras=behind, **given).result[0]
        layout = execute(
            voxel=Types.VOXEL(grid), scene=half_hidden(), subject="vase", **given | {"frame": "z_up"}
        ).result[0]  # fmt: skip
        nothing = execute(voxel=Types.VOXEL(grid), occluder=torch.ones(1, 64, 64), **given).result[0]
        whole = execute(voxel=Types.VOXEL(grid), override=Types.VOXEL(torch.ones(1, 8, 8, 8)), **given).result[0]
        return {
            "near wall": float(near[8, 8, 11]), "far measured": float(measured[8, 8, 4]),
            "own camera": [float(turned[8, 8, 4]), float(turned[8, 8, 11])],
            "layout": [float(layout[8, 4, 5]), float(layout[8, 4, 10])],
            "nothing": float(nothing.max()), "whole": float(whole.min()),
            "shape": list(mask.shape), "preview": list(preview.shape),
            "front": float(mask[8, 8, 11]), "back": float(mask[8, 8, 4]), "air": float(mask[8, 8, 14]),
            "upper": float(hidden[8, 10, 11]), "lower": float(hidden[8, 5, 11]),
            "z front": float(z_up[8, 4, 8]), "z back": float(z_up[8, 11, 8]),
            "override": bool(torch.equal(override, own[0])),
        }  # fmt: skip

    def refusals(self):
        from comfy_api.latest import Types

        torch = self.torch
        pair = self.conditioning(1), self.conditioning(1, zero=True)

        def deaf():
            clone = self.model.clone()
            clone.add_object_patch("diffusion_model.structure_model.blocks", torch.nn.ModuleList())
            return self.k_sample(self.blur(clone), *pair, self.structure(), steps=1)

        empty, two = torch.zeros(1, 8, 8, 8), torch.ones(2, 8, 8, 8)
        see = dict(fov=40.0, frame="y_up", tolerance=1.5, falloff=3.0, dilate=1.5)
        voxel = Types.VOXEL(torch.ones(1, 8, 8, 8))

        def visible(**inputs):
            return self.nodes["SightlineVisibilityMask"].execute(voxel=voxel, **see | inputs)

        cases = {
            "true axes": lambda: self.k_sample(self.blur(attention="cross", true_axes=True), *pair, self.structure()),
            "priors": lambda: self.k_sample(self.blur(attention="cross", priors=4), *pair, self.structure()),
            "subject": lambda: visible(scene=half_hidden(), subject="cup"),
            "scene and depth": lambda: visible(scene=half_hidden(), depth=torch.ones(1, 8, 8, 3)),
            "settings": lambda: self.nodes["SightlineRelaxSettings"].execute(
                "custom", "cosine", 1.0, 0.2, "linear", "cross", 1.0, -1.0, 1.0, 51.0, "concat"
            ),
            "hold without a mask": lambda: self.guider(hold_seen=True),
            "sigma negative": lambda: self.blur(sigma_queries=-1.0),
            "sigma 51": lambda: self.blur(sigma_keys=51.0),
            "unreachable": deaf,
            "no priors": lambda: self.nodes["SightlineCombinePriors"].execute({}, "concat", 0.1),
            "unequal priors": lambda: self.nodes["SightlineCombinePriors"].execute(
                {"a": self.conditioning(1), "b": [[self.tokens(1, 7), {"embeds": self.tokens(2, 7)}]]}, "mean", 0.1
            ),
            "alpha": lambda: self.guider(alpha=3.0),
            "weight": lambda: self.guider(prior_weight=-1.0),
            "empty voxel": lambda: self.nodes["SightlineVisibilityMask"].execute(voxel=Types.VOXEL(empty), **see),
            "two voxels": lambda: self.nodes["SightlineVisibilityMask"].execute(voxel=Types.VOXEL(two), **see),
            "fov": lambda: self.nodes["SightlineVisibilityMask"].execute(
                voxel=Types.VOXEL(torch.ones(1, 8, 8, 8)), **see | {"fov": 180.0}
            ),
        }
        said = {}
        for name, work in cases.items():
            try:
                work()
                said[name] = "nothing"
            except ValueError as error:
                said[name] = str(error)
        return said


if __name__ == "__main__":
    enter("--use-pytorch-cross-attention")
    if importlib.util.find_spec("comfy.ldm.trellis2") is None:
        answer({"absent": "TRELLIS.2 models of its own"})
        sys.exit()
    import torch

    with torch.inference_mode():
        findings = Findings()
        names = ("blurred", "axes", "guiders", "sparse_guider", "visibility", "refusals")
        answer({name: getattr(findings, name)() for name in names})
