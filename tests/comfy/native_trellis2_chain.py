"""The same tiny weights in core's Pixal3D nodes and in our stages: ``python native_trellis2_chain.py TREE BASE``.

Core runs its KSampler, stage nodes and
VaeDecode nodes; our Runner and decoding run the networks read from core's key names. Features come from our
conditioner for both, noise and times are the same. Judged by `test_native_trellis2_chain.py`.
"""

import importlib.util
import sys
from types import SimpleNamespace

from inside_comfyui import answer, enter, our_nodes

STEPS, SEEDS = 4, (7, 8, 9, 10)
SHAPE = dict(model_channels=[16, 16, 8, 8, 8], latent_channels=32, num_blocks=[1, 1, 0, 0, 0],
             block_type=["SparseConvNeXtBlock3d"] * 5, up_block_type=["SparseResBlockC2S3d"] * 4,
             block_args=[{}] * 5)  # fmt: skip
STRUCTURE = dict(out_channels=1, latent_channels=8, num_res_blocks=1, channels=[8, 8, 8], num_res_blocks_middle=1)


def tiny_vaes():
    """Core's decoders at tiny width, in the wrappers of core."""
    from comfy.ldm.trellis2 import vae as core
    from native_trellis2 import randomize
    from torch import nn

    shape, texture = core.ShapeVae.__new__(core.ShapeVae), core.TextureVae.__new__(core.TextureVae)
    nn.Module.__init__(shape)
    nn.Module.__init__(texture)
    shape.shape_dec = core.FlexiDualGridVaeDecoder(resolution=256, **SHAPE)
    shape.struct_dec = core.SparseStructureDecoder(**STRUCTURE)
    texture.txt_dec = core.SparseUnetVaeDecoder(out_channels=6, pred_subdiv=False, **SHAPE)
    randomize(shape, 21)
    randomize(texture, 22)
    return shape.eval(), texture.eval()


def wrapped(network):
    import torch

    return SimpleNamespace(prepare_decode=lambda shape: 1, first_stage_model=network, vae_dtype=torch.float32)


def gap(one, other):
    return float((one - other).abs().max())


def chain():
    import comfy.sample
    import torch
    from comfy_extras import nodes_trellis2 as core
    from native_trellis2 import FOV, picture, tiny_clip_vision, tiny_model

    import nodes
    from sightline.models.trellis2 import stages
    from sightline.models.trellis2.cascade import Cascade, CascadeConfig, Normalization
    from sightline.models.trellis2.conditions import Condition
    from sightline.models.trellis2.latents import Latents, decode_latents
    from sightline.models.trellis2.runner import Runner
    from sightline.models.trellis2.single_file import load_single_file

    found = our_nodes()
    conditioner = found["SightlineProjectionConditioner"]
    clip, model, image = tiny_clip_vision(), tiny_model(), picture(5)
    shape_vae, texture_vae = tiny_vaes()
    noises = []

    def features(**given):
        return conditioner.execute(clip_vision=clip, fov=FOV, mesh_scale=1.0, image=image, **given).result

    def sample(positive, negative, latent, seed):
        empty = latent["samples"]
        noises.append(comfy.sample.prepare_noise(empty, seed))
        return nodes.KSampler().sample(model, seed, STEPS, 4.0, "euler", "simple", positive, negative, latent, 1.0)[0]

    def condition(positive, tokens):
        return Condition(tokens, positive[0][1]["trellis2_proj_feats"])

    # core
    begun = features()
    structure = sample(*begun, core.EmptyTrellis2LatentStructure.execute(1).result[0], SEEDS[0])
    with torch.no_grad():  # few voxels: the threshold between two far apart logits of the most likely ones
        logits = shape_vae.decode_structure(structure["samples"][:, :8]).flatten().sort(descending=True).values[:200]
        cut = 60 + int((logits[60:-1] - logits[61:]).argmax())
        shape_vae.struct_dec.out_layer[2].bias -= (logits[cut] + logits[cut + 1]) / 2
        for level in shape_vae.shape_dec.blocks[:-1]:
            level[-1].to_subdiv.bias.zero_()
    voxel = core.VaeDecodeStructureTrellis2.execute(structure, wrapped(shape_vae), "32").result[0]
    low_stage = core.Trellis2ShapeStage.execute(*begun, voxel).result
    low_pair = features(positive=low_stage[0], negative=low_stage[1], latent=low_stage[2])
    low = sample(*low_pair, low_stage[2], SEEDS[1])
    high_stage = core.Trellis2UpsampleStage.execute(*low_pair, low, wrapped(shape_vae), 1024).result
    high_pair = features(positive=high_stage[0], negative=high_stage[1], latent=high_stage[2])
    high = sample(*high_pair, high_stage[2], SEEDS[2])
    texture_stage = core.Trellis2TextureStage.execute(*high_pair, high).result
    texture_pair = features(positive=texture_stage[0], negative=texture_stage[1], latent=texture_stage[2])
    texture = sample(*texture_pair, texture_stage[2], SEEDS[3])
    mesh, subdivisions = core.VaeDecodeShapeTrellis.execute(high, wrapped(shape_vae)).result
    colors = core.VaeDecodeTextureTrellis.execute(texture, wrapped(texture_vae), subdivisions).result[0]

    # ours
    models = {}
    for one in (model.model.diffusion_model, shape_vae, texture_vae):
        models |= load_single_file({k: v.clone() for k, v in one.state_dict().items()})
    norms = [
        Normalization(tuple(f.latents_mean.flatten().tolist()), tuple(f.latents_std.flatten().tolist()))
        for f in (core.shape_slat_format, core.tex_slat_format)
    ]
    settings = {"steps": STEPS, "guidance_strength": 4.0, "guidance_rescale": 0.0, "guidance_interval": (0.0, 1.0),
                "rescale_t": 3.0}  # fmt: skip
    names = ("sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler")
    cascade = Cascade(CascadeConfig(*norms), models)
    runner = Runner(cascade, 0, {name: settings for name in names})

    def injected(generator, *shape, device="cpu"):
        one = noises.pop(0)
        one = one[:, : shape[1]] if len(shape) == 5 else one[0, :, :, 0].T
        return one.reshape(shape)

    drawn, stages.noise = stages.noise, injected
    tokens, embeds = begun[0][0][0], begun[0][0][1]["embeds"]
    kept = []
    runner.progress = lambda stage, done, steps, x, clean: kept.append(x) if stage == "structure" else None
    coords = runner.structure(condition(begun[0], tokens), 512)
    our_low = runner.shape("512", coords, condition(low_pair[0], tokens))
    grid = runner.refine(our_low, 1024, stages.quantize_round)
    our_high = runner.shape("1024", grid.coords, condition(high_pair[0], embeds))
    our_texture = runner.texture("1024", our_high, condition(texture_pair[0], embeds))
    stages.noise = drawn
    latents = Latents(coords, our_low, our_high, our_texture, grid.resolution)
    ours = decode_latents(cascade, latents, as_released=True)

    def sparse_gap(latent, one, norm):
        return gap(latent["samples"][0, :, :, 0].T, norm.normalize(one.feats))

    def triangles(faces):
        return {tuple(sorted(face)) for face in faces.reshape(-1, 3).tolist()}

    theirs, mine = triangles(mesh.faces), triangles(ours.faces)
    rows = [tuple(row) for row in colors.data[:, -3:].tolist()]
    where = {tuple(row): i for i, row in enumerate(ours.coords.tolist())}
    shared = [(i, where[row]) for i, row in enumerate(rows) if row in where]
    a, b = (torch.tensor(one) for one in zip(*shared))
    same_rows = rows == [tuple(row) for row in ours.coords.tolist()]
    return {
        "structure": gap(structure["samples"][:, :8], kept[-1]),
        "coords": [len(coords), bool(torch.equal(coords, low_stage[2]["coords"].int()))],
        "low": sparse_gap(low, our_low, norms[0]),
        "high_coords": [len(grid.coords), bool(torch.equal(grid.coords, high["coords"].int()))],
        "resolution": [grid.resolution, int(high["coord_resolution"]) * 16],
        "high": sparse_gap(high, our_high, norms[0]),
        "texture": sparse_gap(texture, our_texture, norms[1]),
        "moved": [float(one["samples"].std()) for one in (low, high, texture)],
        "voxels": [len(rows), len(ours.coords), len(shared), same_rows],
        "vertices": gap(mesh.vertices.reshape(-1, 3)[a], ours.vertices[b]) * grid.resolution,
        "faces": [len(theirs), len(mine), len(theirs ^ mine) if same_rows else -1],
        "colors": gap(colors.voxel_colors[a], ours.attributes[b]),
        "color_range": float(colors.voxel_colors.std()),
    }


if __name__ == "__main__":
    enter()
    if importlib.util.find_spec("comfy.ldm.trellis2") is None:
        answer({"absent": "TRELLIS.2 and Pixal3D models of its own"})
        sys.exit()
    import torch

    with torch.inference_mode():
        answer(chain())
