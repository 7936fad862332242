"""Mesh Finish: any MESH welded, wound, closed, decimated and turned outward."""

from __future__ import annotations

from ..pipelines.mesh_finish import FinishOptions, finish_mesh
from . import host
from .host import io, textured_meshes
from .texture_bake import CATEGORY, part_progress


class MeshFinish(io.ComfyNode):
    """A mesh as a sampler or a file gives it -> one to go on with, and what was wrong with it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineMeshFinish",
            display_name="Mesh Finish",
            category=CATEGORY,
            description="Repair a mesh and bring it to size: weld, drop broken and loose faces, close small holes, "
                        "give all faces one winding that looks outward, decimate to well-shaped triangles. Colors and "
                        "texture coordinates survive. Reports what it found before and after.",
            search_aliases=["repair mesh", "decimate", "simplify mesh", "fill holes", "weld vertices", "fix normals",
                            "remesh", "clean mesh"],
            inputs=[
                io.Mesh.Input("mesh", tooltip="The mesh to finish; batches are taken one by one."),
                io.Int.Input(
                    "faces", default=200000, min=0, max=50000000,
                    tooltip="Faces to keep at most; 0 keeps them all. Borders and the seams of texture coordinates "
                            "are kept whole, which may need more.",
                ),
                io.Float.Input(
                    "holes", default=0.03, min=0.0, max=1000000.0, step=0.01, round=False,
                    tooltip="Holes with a perimeter up to this length, in the units of the mesh, are closed; 0 closes "
                            "none.",
                ),
                io.Float.Input(
                    "dust", default=0.0001, min=0.0, max=1.0, step=0.0001, round=False,
                    tooltip="Loose parts with less than this share of the largest part's area are dropped; 0 keeps "
                            "all.",
                ),
                io.Boolean.Input(
                    "shells", default=False,
                    tooltip="Drop parts that nothing can see from outside, such as the inner wall of a double one.",
                ),
                io.Int.Input(
                    "remesh", default=0, min=0, max=1024, step=8,
                    tooltip="For meshes beyond repair: make a new closed surface around the old one, with so many "
                            "cells along its longest side; 0 keeps the mesh. Texture coordinates are lost.",
                ),
                io.Float.Input(
                    "project_back", default=0.9, min=0.0, max=1.0, step=0.05,
                    tooltip="How far the vertices of a remesh go back onto the old surface: 0 stays outside of it, "
                            "1 lies on it.",
                ),
                io.Boolean.Input(
                    "keep_uv", default=True,
                    tooltip="Keep texture coordinates and textures; off, the mesh is welded across their seams and "
                            "decimates better.",
                ),
                io.Float.Input(
                    "weld", default=0.00001, min=0.0, max=0.01, step=0.00001, round=False, advanced=True,
                    tooltip="Vertices nearer than this share of the longest side become one; 0 welds equal places "
                            "only.",
                ),
                io.Boolean.Input(
                    "outward", default=True, advanced=True,
                    tooltip="Turn parts that are inside out.",
                ),
                io.Boolean.Input(
                    "normals", default=True, advanced=True,
                    tooltip="Make smooth normals; off leaves them to whoever draws the mesh.",
                ),
            ],
            outputs=[
                io.Mesh.Output(id="mesh", display_name="mesh", tooltip="The finished mesh."),
                io.String.Output(
                    id="report", display_name="report",
                    tooltip="Faces, border edges, components and more before and after, and what was done.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, mesh, faces, holes, dust, shells, remesh, project_back, keep_uv, weld, outward, normals
    ) -> io.NodeOutput:
        options = FinishOptions(
            faces=faces, weld=weld, holes=holes, dust=dust, shells=shells, remesh=remesh, project_back=project_back,
            keep_uv=keep_uv, outward=outward, normals=normals,
        )  # fmt: skip
        parts, reports = textured_meshes.mesh_parts(mesh), []
        progress = host.Progress(1000 * len(parts))
        for i, part in enumerate(parts):
            parts[i], report = finish_mesh(part, options, progress=part_progress(progress, i, len(parts)))
            reports.append(report.text())
        text = "\n\n".join(reports)
        host.tell(text)
        return io.NodeOutput(textured_meshes.parts_mesh(parts, mesh), text, ui=host.show_text(text))
