"""Load Mesh and GLB Bake: meshes from files and into files."""

from __future__ import annotations

import torch

from ..scene.errors import InputError
from ..scene.gltf import encode_glb
from ..scene.mesh_files import encode_mesh, encode_obj, part_vertex_colors
from ..scene.mesh_read import decode_mesh, read_mesh
from ..scene.usdz import encode_usdz
from . import host
from .host import io, mesh_folder, textured_meshes
from .texture_bake import CATEGORY

ALSO = ("nothing", "obj", "ply", "usdz")
NONE = "none"


class LoadMesh(io.ComfyNode):
    """A 3D file -> MESH."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineLoadMesh",
            display_name="Load Mesh",
            category=CATEGORY,
            description="Read a mesh from a file in the input folder, or from any node that gives a 3D file, with its "
                        "texture coordinates, textures and vertex colors, so that mesh nodes can work on it.",
            search_aliases=["import mesh", "load glb", "load obj", "file to mesh", "3d file to mesh"],
            inputs=[
                io.Combo.Input(
                    "file", options=[NONE, *mesh_folder.mesh_names()], default=NONE,
                    tooltip="A .glb, .obj, .ply, .stl or .off file in the input folder; not used with `model_3d`.",
                ),
                io.File3DAny.Input(
                    "model_3d", optional=True,
                    tooltip="A 3D file from another node, such as Load 3D, instead of `file`.",
                ),
            ],
            outputs=[
                io.Mesh.Output(id="mesh", display_name="mesh", tooltip="All meshes of the file as one, Y up."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file=None):
        return host.answer(lambda: file in (None, NONE) or mesh_folder.mesh_path(file))

    @classmethod
    def fingerprint_inputs(cls, file=None, **others):
        return mesh_folder.mesh_state(file) if file not in (None, NONE) else ""

    @classmethod
    @host.one_sentence
    def execute(cls, file, model_3d=None) -> io.NodeOutput:
        if model_3d is not None:
            part = decode_mesh(model_3d.get_bytes(), (model_3d.format or "glb").lower())
        elif file == NONE:
            raise InputError("Choose a `file` of the input folder or connect `model_3d`.")
        else:
            part = read_mesh(mesh_folder.mesh_path(file))
        host.tell(f"{len(part.faces):,} faces")
        return io.NodeOutput(textured_meshes.parts_mesh([part]))


class GLBBake(io.ComfyNode):
    """A MESH -> a finished GLB file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineGLBBake",
            display_name="GLB Bake",
            category=CATEGORY,
            description="Write a mesh with all its textures as a valid GLB to the output folder: meters, Y up, front "
                        "to +Z, named material, opacity as OPAQUE, MASK or BLEND, with generator and licence. Nothing "
                        "is overwritten: files are numbered.",
            search_aliases=["export glb", "save glb", "save mesh", "export obj", "export usdz", "write gltf"],
            is_output_node=True,
            inputs=[
                io.Mesh.Input("mesh", tooltip="The mesh to write; of a batch, one file each."),
                io.String.Input(
                    "filename_prefix", default="3d/sightline",
                    tooltip="Name of the file, with a folder inside the output folder before it if you like; a number "
                            "is added.",
                ),
                io.Combo.Input(
                    "textures", options=["png", "jpeg"], default="png",
                    tooltip="png keeps every value; jpeg is several times smaller. Opacity and normals stay png.",
                ),
                io.Float.Input(
                    "meters", default=0.0, min=0.0, max=10000.0, step=0.01,
                    tooltip="Length of the longest side in meters; 0 leaves the mesh as large as it is.",
                ),
                io.Boolean.Input(
                    "double_sided", default=True,
                    tooltip="Show faces from behind too; closed meshes need it not and draw faster without.",
                ),
                io.Combo.Input(
                    "also", options=list(ALSO), default="nothing",
                    tooltip="A second file beside the GLB: obj with base color, ply with vertex colors, usdz for AR.",
                ),
                io.String.Input(
                    "license", default="", advanced=True,
                    tooltip="Written into the file as it is, such as CC-BY-4.0; empty leaves it out.",
                ),
            ],
            outputs=[
                io.File3DGLB.Output(
                    id="model_3d", display_name="model_3d",
                    tooltip="The written GLB (the first, of a batch), for Preview 3D and the like.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return host.answer(lambda: filename_prefix is None or host.check_prefix(filename_prefix))

    @classmethod
    @host.one_sentence
    def execute(cls, mesh, filename_prefix, textures, meters, double_sided, also, license) -> io.NodeOutput:
        host.check_prefix(filename_prefix)
        parts = [finished(part, meters, double_sided) for part in textured_meshes.mesh_parts(mesh)]
        extras = {"license": license.strip()} if license.strip() else None
        saved = []
        for part in parts:
            path, entry = host.save_output(
                filename_prefix, ".glb", encode_glb([part], image_format=textures, extras=extras)
            )
            saved.append((path, entry))
            if also == "ply":
                colors = part_vertex_colors(part)
                data = encode_mesh(part.vertices, part.faces, colors, "mesh.ply")
                host.save(path.parent, path.with_suffix(".ply").name, data)
            elif also == "usdz":
                host.save(path.parent, path.with_suffix(".usdz").name, encode_usdz([part]))
            elif also == "obj":
                for name, data in encode_obj(part, path.stem).items():
                    host.save(path.parent, name, data)
        host.tell(", ".join(entry.filename for _, entry in saved))
        return io.NodeOutput(host.Types.File3D(str(saved[0][0]), "glb"), ui={"3d": [entry for _, entry in saved]})


def finished(part, meters: float, double_sided: bool):
    """The part at the wanted size, with smooth normals where it has none."""
    from dataclasses import replace

    from ..kernels.bake import vertex_normals

    vertices = part.vertices
    if meters > 0:
        extent = float((vertices.amax(0) - vertices.amin(0)).max())
        if not extent > 0:
            raise InputError("All vertices of the mesh lie in one place; it has no size that could be set.")
        vertices = vertices * (meters / extent)
    normals = part.normals
    if normals is None or not bool(torch.isfinite(normals).all()):
        normals = vertex_normals(vertices, part.faces)
    material = replace(part.material, double_sided=double_sided)
    return replace(part, vertices=vertices, normals=normals, material=material)
