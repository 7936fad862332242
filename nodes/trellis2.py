"""The stages of TRELLIS.2 and Pixal3D on this pack's own networks: samplers and decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.trellis2.cascade import PAPER_SAMPLERS
from ..models.trellis2.latents import Latents, decode_latents
from ..models.trellis2.memory import structure_memory, weight_bytes
from ..models.trellis2.runner import Runner
from ..models.trellis2.stages import quantize_floor, quantize_round
from ..models.trellis2.structure_preview import CANONICAL, StructurePreview
from ..scene.errors import InputError
from ..scene.sparse import SparseTensor
from . import host
from .host import io
from .sampler_widgets import guidance_interval, interval_inputs, rescale_input, seed_input, steps_input
from .trellis2_condition import makers
from .trellis2_models import CATEGORY, HostedCascade

STRUCTURE, SHAPE, TEXTURE = "sparse_structure_sampler", "shape_slat_sampler", "tex_slat_sampler"
COARSE, FINE = "512", "1024"
SCALES = {"512": 1, "1024": 2, "1536": 3}  # name (of the published models) -> times the family's low resolution


def structure_preview(cascade: HostedCascade, camera, show) -> StructurePreview:
    """Previews of one object's structure, seen as in its picture; decoded where that pushes no other network out."""

    def decode(latent: Tensor) -> Tensor | None:
        decoder = cascade.get("sparse_structure_decoder")
        needed = weight_bytes(decoder, cascade.device) + structure_memory(decoder.config, latent.shape[-1])
        if not host.has_room(cascade.device, needed):
            return None
        with cascade.on_device(decoder) as decoder:
            return decoder(latent)

    return StructurePreview(decode, show, camera if cascade.projects else CANONICAL, z_up=not cascade.projects)


def on_grid(coords: Tensor, device) -> Tensor:
    """Voxels [N, 3] of one object as rows [N, 4]."""
    return torch.nn.functional.pad(coords.to(device, torch.int32), (1, 0))


def sampler_inputs(role: str) -> list:
    """The widgets of a sampler with the published defaults of its stage."""
    published = PAPER_SAMPLERS[role]
    return [
        seed_input("; the same for every object of a batch"),
        steps_input(published.steps),
        io.Float.Input(
            "guidance", default=published.guidance_strength, min=0.0, max=100.0, step=0.1,
            tooltip="How strongly the picture is followed; 1 follows it plainly, at half the cost.",
        ),
        io.Float.Input(
            "guidance_rescale", default=published.guidance_rescale, min=0.0, max=1.0, step=0.01, advanced=True,
            tooltip="How far the contrast that guidance adds is taken back; 0 leaves it.",
        ),
        *interval_inputs(published.guidance_interval),
        rescale_input(published.rescale_t),
    ]  # fmt: skip


def settings(role: str, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t) -> dict:
    """The widgets as the library's options."""
    values = {
        "steps": steps, "guidance_strength": guidance, "guidance_rescale": guidance_rescale,
        "guidance_interval": guidance_interval(guidance_start, guidance_end), "rescale_t": rescale_t,
    }  # fmt: skip
    return {role: values}


def model_input() -> io.Input:
    return host.Trellis2Models.Input("model", tooltip="The models of Load TRELLIS.2 or Pixal3D Models.")


def condition_input() -> io.Input:
    return host.PictureConditionType.Input("condition", tooltip="Pictures and cameras of Projection Conditioner.")


class SparseStructureSampler(io.ComfyNode):
    """Picture -> which voxels are there."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSparseStructureSampler",
            display_name="Sparse Structure Sampler",
            category=CATEGORY,
            description="First stage: where there is something. Samples the structure of every object and decodes it "
                        "to voxels. The latent also fits core's structure decoder.",
            search_aliases=["trellis2 structure", "pixal3d structure", "occupancy", "voxels"],
            inputs=[
                model_input(),
                condition_input(),
                *sampler_inputs(STRUCTURE),
                io.Combo.Input(
                    "resolution", options=[COARSE, FINE], default=COARSE, optional=True, advanced=True,
                    tooltip="Of the mesh that the voxels are for: 512 to begin the cascade with, 1024 to make the "
                            "shape at 1024 in one pass, without a coarse shape before it.",
                ),
            ],
            outputs=[
                io.Voxel.Output(
                    id="voxel", display_name="voxel", tooltip="Occupied voxels, for the Shape Sampler and core's nodes."
                ),
                io.Latent.Output(
                    id="latent", display_name="latent", tooltip="The structure latent in core's format."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, condition, seed, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t,
        resolution=COARSE,
    ) -> io.NodeOutput:  # fmt: skip
        changes = settings(STRUCTURE, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t)
        progress = host.Progress()
        everyone = makers(model, condition)
        resolution, grids, latents = SCALES[resolution] * model.config.lr_resolution, [], []
        for i, maker in enumerate(everyone):
            last, preview = [], structure_preview(model, maker.camera, progress.preview)

            def show(stage, done, steps, x_t, x_0, i=i, last=last, preview=preview):
                preview(x_0)
                progress(i * steps + done, steps * len(everyone))
                last[:] = [x_t]

            run = Runner(model, seed, changes, progress=show, memory="auto")
            coords = run.structure(maker.stage("ss", "512"), resolution)
            side = resolution // run.factor
            grid = torch.zeros(1, side, side, side)
            grid[0][tuple(coords[:, 1:].long().T.cpu())] = 1
            grids.append(grid)
            latents.append(host.result(last[0]))
        host.tell(", ".join(f"{int(grid.sum()):,} voxels" for grid in grids))
        return io.NodeOutput(host.dense_voxels(torch.cat(grids)), host.structure_latent(torch.cat(latents)))


class ShapeSampler(io.ComfyNode):
    """Voxels -> shape latent."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineShapeSampler",
            display_name="Shape Sampler",
            category=CATEGORY,
            description="Second stage: the shape on the voxels, coarse at 512; for 1024 and 1536 then once more on the "
                        "finer voxels of the coarse shape. The latent also fits core's shape decoder.",
            search_aliases=["trellis2 shape", "pixal3d shape", "slat sampler", "cascade"],
            inputs=[
                model_input(),
                condition_input(),
                io.Voxel.Input("voxel", tooltip="Occupied voxels of the Sparse Structure Sampler."),
                io.Combo.Input(
                    "resolution", options=list(SCALES), default="1024",
                    tooltip="Voxels per axis of the mesh. 512 is one pass; 1024 and 1536 take a second, longer one, "
                            "unless the structure was made for 1024.",
                ),
                *sampler_inputs(SHAPE),
                io.Int.Input(
                    "max_tokens", default=49152, min=1024, max=1 << 20, step=1024, advanced=True,
                    tooltip="Largest number of voxels in the second pass; above it the resolution is lowered in steps "
                            "of 128. Lower it when memory runs out.",
                ),
            ],
            outputs=[
                io.Latent.Output(id="latent", display_name="latent", tooltip="The shape latent in core's format."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, condition, voxel, resolution,
        seed, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t, max_tokens,
    ) -> io.NodeOutput:  # fmt: skip
        changes = settings(SHAPE, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t)
        progress = host.Progress()
        grids = host.occupied(voxel)
        low_resolution = model.config.lr_resolution
        target = SCALES[resolution] * low_resolution
        if target > low_resolution and "shape_slat_flow_model_1024" not in model:
            raise InputError(f"`resolution` is {resolution}; `model` has networks for {COARSE} alone: choose that.")
        everyone = makers(model, condition, len(grids))
        runs = [Runner(model, seed, changes, memory="auto") for _ in everyone]
        factor, found = runs[0].factor, {side for _, side in grids}
        grids = [(on_grid(coords, model.device), side) for coords, side in grids]
        low_side, direct = low_resolution // factor, found == {2 * low_resolution // factor}
        if direct and resolution != FINE:
            raise InputError(f"`voxel` was made for {FINE} and `resolution` is {resolution}; set both alike.")
        if not direct and found != {low_side}:
            raise InputError(
                f"`voxel` is a grid of {max(found)}; this model starts from {low_side} voxels per axis, or from "
                f"{2 * low_side} for {FINE}."
            )
        passes = 1 if direct or target == low_resolution else 2
        done_before, total = [0], passes * len(everyone)

        def show(stage, done, steps, x_t, x_0):
            progress(done_before[0] * steps + done, steps * total)
            done_before[0] += done == steps

        for run in runs:
            run.progress = show
        first, name = ("1024", "shape") if direct else ("512", "low shape")
        lows = [
            run.shape(first, coords, maker.stage(f"shape_{first}", first, side, coords), name)
            for run, maker, (coords, side) in zip(runs, everyone, grids)
        ]
        if passes == 1:
            return cls.output(model, [(one.feats, one.coords) for one in lows], target // factor, target)
        quantize = quantize_round if model.projects else quantize_floor
        refined = [run.refine(low, target, quantize, max_tokens) for run, low in zip(runs, lows)]
        reached = min(one.resolution for one in refined)
        refined = [
            one if one.resolution == reached else run.refine(low, reached, quantize, max_tokens)
            for one, run, low in zip(refined, runs, lows)
        ]
        size = "512" if reached == low_resolution else "1024"
        shapes = []
        for maker, run, (coords, _) in zip(everyone, runs, refined):
            grid = reached // factor
            shape = run.shape(size, coords, maker.stage(f"shape_{size}", size, grid, coords))
            shapes.append((shape.feats, shape.coords))
        return cls.output(model, shapes, reached // factor, reached)

    @classmethod
    def output(cls, model, shapes, grid, resolution) -> io.NodeOutput:
        host.tell(f"{', '.join(f'{len(coords):,}' for _, coords in shapes)} voxels, resolution {resolution}")
        normalize = model.config.shape_normalization.normalize
        latent = host.sparse_latent([(normalize(feats), coords[:, 1:]) for feats, coords in shapes], grid, model.frame)
        return io.NodeOutput(latent)


class TextureSampler(io.ComfyNode):
    """Shape latent -> texture latent."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTextureSampler",
            display_name="Texture Sampler",
            category=CATEGORY,
            description="Third stage: color, metalness, roughness and opacity on the voxels of a shape. The latent "
                        "also fits core's texture decoder.",
            search_aliases=["trellis2 texture", "pixal3d texture", "pbr", "material"],
            inputs=[
                model_input(),
                condition_input(),
                io.Latent.Input("shape", tooltip="The shape latent of the Shape Sampler."),
                *sampler_inputs(TEXTURE),
            ],
            outputs=[
                io.Latent.Output(id="latent", display_name="latent", tooltip="The texture latent in core's format."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, condition, shape, seed, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t,
    ) -> io.NodeOutput:  # fmt: skip
        changes = settings(TEXTURE, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t)
        progress = host.Progress()
        items, grid, frame = host.read_sparse_latent(shape, "shape")
        model.check_frame(frame, "shape")
        everyone, textures = makers(model, condition, len(items)), []
        for i, (maker, (feats, coords)) in enumerate(zip(everyone, items)):

            def show(stage, done, steps, x_t, x_0, i=i):
                progress(i * steps + done, steps * len(everyone))

            run = Runner(model, seed, changes, progress=show, memory="auto")
            size = "512" if grid * run.factor == model.config.lr_resolution else "1024"
            rows = on_grid(coords, model.device)
            feats = model.config.shape_normalization.denormalize(feats.to(model.device))
            texture = run.texture(size, SparseTensor(feats, rows), maker.stage(f"tex_{size}", size, grid, rows))
            textures.append((model.config.tex_normalization.normalize(texture.feats), coords))
        return io.NodeOutput(host.sparse_latent(textures, grid, model.frame))


class DecodeShapeTexture(io.ComfyNode):
    """Latents -> mesh and PBR voxels."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineDecodeShapeTexture",
            display_name="Decode Shape and Texture",
            category=CATEGORY,
            description="Decode shape and texture latents to a mesh and the voxels with its materials, in blocks where "
                        "memory is short. Go on with core's mesh nodes: decimate, unwrap, bake the texture from the "
                        "voxels, save.",
            search_aliases=["trellis2 decode", "pixal3d decode", "latent to mesh", "pbr voxels"],
            inputs=[
                model_input(),
                io.Latent.Input("shape", tooltip="The shape latent of the Shape Sampler or of core's sampler."),
                io.Latent.Input("texture", tooltip="The texture latent on the same voxels."),
                io.Boolean.Input(
                    "as_released", default=False, advanced=True,
                    tooltip="Leave the faces turned at random, as the published code does; otherwise all face "
                            "outward.",
                ),
            ],
            outputs=[
                io.Mesh.Output(id="mesh", display_name="mesh", tooltip="The raw mesh, Y up, for core's mesh nodes."),
                io.Voxel.Output(
                    id="voxel", display_name="voxel",
                    tooltip="Base color, metalness, roughness and opacity of every voxel, Y up.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, shape, texture, as_released) -> io.NodeOutput:
        shapes, grid, frame = host.read_sparse_latent(shape, "shape")
        textures, texture_grid, texture_frame = host.read_sparse_latent(texture, "texture")
        model.check_frame(frame, "shape")
        model.check_frame(texture_frame, "texture")
        if grid != texture_grid or len(shapes) != len(textures):
            found = f"{len(shapes)} objects on {grid} voxels and {len(textures)} on {texture_grid}"
            raise InputError(f"`shape` and `texture` do not belong together: {found}.")
        config, resolution = model.config, grid * model.get("shape_slat_decoder").config.factor
        progress, decoded = host.Steps(len(shapes)), []
        for (shape_feats, coords), (texture_feats, texture_coords) in zip(shapes, textures):
            rows = on_grid(coords, model.device)
            latents = Latents(
                rows,
                None,
                SparseTensor(config.shape_normalization.denormalize(shape_feats.to(model.device)), rows),
                SparseTensor(
                    config.tex_normalization.denormalize(texture_feats.to(model.device)),
                    on_grid(texture_coords, model.device),
                ),
                resolution,
            )
            decoded.append(decode_latents(model, latents, as_released=as_released, memory="auto"))
            progress.advance()
        host.tell(", ".join(f"{len(one.faces):,} faces" for one in decoded))
        return io.NodeOutput(*host.mesh_and_voxels(decoded, frame))
