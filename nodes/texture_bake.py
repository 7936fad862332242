"""Unwrap Mesh and Texture Bake: any MESH to a textured one, with colors from voxels or from another mesh."""

from __future__ import annotations

import torch

from ..pipelines.mesh_bake import Photo, bake_part, unwrap_part
from ..scene.errors import InputError
from ..scene.posed_views import front_aligned
from . import host
from .host import io, textured_meshes

CATEGORY = f"{host.CATEGORY}/Mesh"
METHODS = {"xatlas": "xatlas", "box": "box"}


def part_progress(progress, item: int, items: int, start: int = 0, end: int = 1000):
    """A callback of thousandths of one item, from `start` to `end`, as thousandths of all items."""
    return lambda done, total: progress(item * 1000 + start + (end - start) * done // max(total, 1), items * 1000)


class Unwrap(io.ComfyNode):
    """A mesh -> the same mesh with texture coordinates."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineUnwrap",
            display_name="Unwrap in Patches",
            category=CATEGORY,
            description="Give a mesh texture coordinates: it is cut into patches, these are flattened by several "
                        "processes at once, each within a time limit, and packed tightly. Stops at once when you "
                        "interrupt it. Decimate first.",
            search_aliases=["uv unwrap", "xatlas", "uv atlas", "texture coordinates", "charts"],
            inputs=[
                io.Mesh.Input("mesh", tooltip="The mesh, decimated; batches are taken one by one."),
                io.Int.Input(
                    "texture_size", default=2048, min=64, max=16384, step=64,
                    tooltip="Texels along a side of the texture that it is for; together with the padding this decides "
                            "how tightly the charts are packed.",
                ),
                io.Int.Input(
                    "padding", default=4, min=0, max=64,
                    tooltip="Texels between charts: more for smaller mipmaps, fewer for many small charts.",
                ),
                io.Combo.Input(
                    "method", options=list(METHODS), default="xatlas",
                    tooltip="xatlas flattens with little stretch; box looks at the mesh from six sides, which always "
                            "works and needs no other library.",
                ),
                io.Boolean.Input(
                    "keep", default=False,
                    tooltip="Leave a mesh that has texture coordinates exactly as it is.",
                ),
                io.Float.Input(
                    "time_limit", default=30.0, min=1.0, max=3600.0, step=1.0, advanced=True,
                    tooltip="Seconds for one patch; those that take longer are laid on a box.",
                ),
                io.Int.Input(
                    "patch_faces", default=1000, min=100, max=100000, step=100, advanced=True,
                    tooltip="Faces of a patch: larger ones have fewer seams and take longer.",
                ),
            ],
            outputs=[
                io.Mesh.Output(
                    id="mesh", display_name="mesh",
                    tooltip="The mesh with texture coordinates; vertices are doubled along the borders of charts.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, mesh, texture_size, padding, method, keep, time_limit, patch_faces) -> io.NodeOutput:
        if keep and mesh.uvs is not None:
            host.tell("kept as it was")
            return io.NodeOutput(mesh)
        parts, texts = textured_meshes.mesh_parts(mesh), []
        progress = host.Progress(1000 * len(parts))
        for i, part in enumerate(parts):
            parts[i], text = unwrap_part(
                part, texture_size, padding, method=method, time_limit=time_limit, patch_faces=patch_faces,
                progress=part_progress(progress, i, len(parts)),
            )  # fmt: skip
            texts.append(text)
        host.tell("; ".join(texts))
        return io.NodeOutput(textured_meshes.parts_mesh(parts, mesh))


class TextureBake(io.ComfyNode):
    """A mesh and where its colors come from -> the mesh with textures."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineTextureBake",
            display_name="Texture Bake",
            category=CATEGORY,
            description="Bake base color, metalness, roughness and opacity from voxels, or from another mesh, into "
                        "textures; with the mesh before decimation also a normal map and ambient occlusion. A photo "
                        "can be laid over what it shows. A mesh without texture coordinates is unwrapped first.",
            search_aliases=["bake texture", "voxel to texture", "normal map", "ambient occlusion", "transfer texture"],
            inputs=[
                io.Mesh.Input("mesh", tooltip="The mesh to texture; texture coordinates it has stay as they are."),
                io.Int.Input(
                    "texture_size", default=2048, min=64, max=16384, step=64,
                    tooltip="Texels along a side of all textures.",
                ),
                io.Int.Input(
                    "padding", default=4, min=0, max=64,
                    tooltip="Texels between charts where the mesh is unwrapped here.",
                ),
                io.Boolean.Input(
                    "normal_map", default=True,
                    tooltip="Keep the finer shape of `reference` as a normal map.",
                ),
                io.Boolean.Input(
                    "ambient_occlusion", default=False,
                    tooltip="Also bake how much of the sky each place sees; takes longer.",
                ),
                io.Combo.Input(
                    "alpha", options=["auto", "OPAQUE", "MASK", "BLEND"], default="auto",
                    tooltip="How opacity is drawn: auto looks at the colors; MASK cuts out, BLEND is glass.",
                ),
                io.Float.Input(
                    "photo_strength", default=1.0, min=0.0, max=1.0, step=0.05, advanced=True,
                    tooltip="How much of the photo in `views` replaces the baked color, where it looks straight at it.",
                ),
                io.Voxel.Input(
                    "voxel", optional=True,
                    tooltip="Colored voxels from a texture decoder, in the frame of the mesh. Without them the colors "
                            "come from `reference`.",
                ),
                io.Mesh.Input(
                    "reference", optional=True,
                    tooltip="The mesh before it was decimated or remeshed: where texels are looked up, and what the "
                            "normal map shows.",
                ),
                host.Views.Input(
                    "views", optional=True,
                    tooltip="A picture of the object with its camera, whose alpha is the object; the first is used.",
                ),
            ],
            outputs=[
                io.Mesh.Output(id="mesh", display_name="mesh", tooltip="The mesh with its textures, for GLB Bake."),
                io.Image.Output(id="base_color", display_name="base_color", tooltip="The base color texture."),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, mesh, texture_size, padding, normal_map, ambient_occlusion, alpha, photo_strength,
        voxel=None, reference=None, views=None,
    ) -> io.NodeOutput:  # fmt: skip
        parts = textured_meshes.mesh_parts(mesh)
        if voxel is None and reference is None:
            raise InputError("Connect `voxel` or `reference`: the colors come from one of them.")
        high = [None] * len(parts)
        if reference is not None:
            high = textured_meshes.mesh_parts(reference, "reference")
            if len(high) not in (1, len(parts)):
                raise InputError(f"`reference` holds {len(high)} meshes and `mesh` {len(parts)}; they belong in pairs.")
            high = high * (len(parts) if len(high) == 1 else 1)
        colors = high if voxel is None else textured_meshes.voxel_items(voxel, len(parts))
        photo = None
        if views is not None:
            shown, camera = views.images[0].cpu().movedim(0, -1), front_aligned(views.cameras)[0].to("cpu")
            photo = Photo(shown, camera, photo_strength)
        progress, texts, done = host.Progress(1000 * len(parts)), [], []
        for i, part in enumerate(parts):
            if part.uv is None:
                start = part_progress(progress, i, len(parts), 0, 400)
                part, text = unwrap_part(part, texture_size, padding, progress=start)
                texts.append(text)
            made = bake_part(
                part, colors[i], texture_size,
                reference=None if high[i] is None else (high[i].vertices, high[i].faces),
                normal_map=normal_map, occlusion=ambient_occlusion, photo=photo, alpha=alpha,
                progress=part_progress(progress, i, len(parts), 400),
            )  # fmt: skip
            texts.append(f"{len(made.texels):,} texels, {made.part.material.alpha_mode}")
            done.append(made.part)
        if len({part.material.alpha_mode for part in done}) > 1 or len({p.uv is None for p in done}) > 1:
            texts.append("items differ in how opacity is drawn")
        host.tell("; ".join(texts))
        out = textured_meshes.parts_mesh(done, mesh)
        return io.NodeOutput(out, out.texture.to(torch.float32))
