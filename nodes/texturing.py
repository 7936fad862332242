"""Texture Mesh: a new material for an existing mesh, from a picture, with TRELLIS.2."""

from __future__ import annotations

from ..pipelines.texturing import texture_mesh, textured_part
from ..scene.errors import InputError
from ..scene.surfaces import Surface
from . import host
from .host import io, textured_meshes
from .trellis2 import COARSE, FINE, SCALES, TEXTURE, condition_input, sampler_inputs, settings
from .trellis2_models import CATEGORY


class TextureMesh(io.ComfyNode):
    """A mesh and a picture -> the mesh with a material like the picture's."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTextureMesh",
            display_name="Texture Mesh",
            category=CATEGORY,
            description="Give any mesh a material that looks like a picture, with TRELLIS.2 and its shape encoder. The "
                        "mesh stays as it is, texture coordinates included; without any it is unwrapped.",
            search_aliases=["retexture", "paint mesh", "mesh to pbr", "texturing", "trellis2 texturing"],
            inputs=[
                host.Trellis2Models.Input(
                    "model",
                    tooltip="TRELLIS.2 with its shape encoder: texturing_pipeline.json in Load TRELLIS.2 or Pixal3D "
                            "Models.",
                ),
                condition_input(),
                io.Mesh.Input("mesh", tooltip="The mesh, Y up, its front toward +Z; batches are taken one by one."),
                io.Combo.Input(
                    "resolution", options=[COARSE, FINE], default=FINE,
                    tooltip="Voxels per axis in which the material is made.",
                ),
                io.Int.Input(
                    "texture_size", default=2048, min=64, max=16384, step=64,
                    tooltip="Texels along a side of all textures.",
                ),
                *sampler_inputs(TEXTURE),
            ],
            outputs=[
                io.Mesh.Output(id="mesh", display_name="mesh", tooltip="The same mesh with textures, for GLB Bake."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, condition, mesh, resolution, texture_size,
        seed, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t,
    ) -> io.NodeOutput:  # fmt: skip
        if model.projects:
            raise InputError("`model` is Pixal3D, which paints only what it made itself; load TRELLIS.2 for this node.")
        if "shape_slat_encoder" not in model:
            raise InputError("`model` has no shape encoder; load texturing_pipeline.json, whose models include it.")
        changes = settings(TEXTURE, steps, guidance, guidance_rescale, guidance_start, guidance_end, rescale_t)
        parts = textured_meshes.mesh_parts(mesh)
        if len(condition) not in (1, len(parts)):
            raise InputError(f"`condition` is of {len(condition)} objects and `mesh` of {len(parts)}; give the same.")
        given = condition * (len(parts) if len(condition) == 1 else 1)
        progress, texts = host.Progress(1000 * len(parts)), []
        for i, (part, one) in enumerate(zip(parts, given)):

            def tell(done, total, i=i):
                progress(1000 * i + done * 1000 // total, 1000 * len(parts))

            painted = texture_mesh(
                model, Surface(part.vertices, part.faces), one.pictures[0], preprocess=False, seed=seed,
                resolution=SCALES[resolution] * model.config.lr_resolution, samplers=changes, memory="auto",
                progress=lambda stage, done, total, x_t, x_0, tell=tell: tell(done, 2 * total),
            )  # fmt: skip
            parts[i], text = textured_part(
                painted, part, texture_size, progress=lambda done, total, tell=tell: tell(total + done, 2 * total)
            )
            texts.append(text)
        host.tell("; ".join(texts))
        return io.NodeOutput(textured_meshes.parts_mesh(parts, mesh))
