"""The latents of SAM 3D Objects as Gaussians and as a mesh."""

from __future__ import annotations

from ..models.sam3d.pose import placed_points, placed_splats
from ..models.trellis1.mesh import ColoredMesh
from ..pipelines.relaxflow_sam3d import decode
from . import host
from .host import io, relax
from .host import sam3d as room
from .sam3d import CATEGORY, model_input

PLACES = ("object", "scene")


def latent_input() -> io.Input:
    return io.Latent.Input("latent", tooltip="The latents of the Latent Sampler (SAM 3D).")


def place_input() -> io.Input:
    return io.Combo.Input(
        "place", options=list(PLACES), default="object",
        tooltip="object: alone in the unit cube. scene: where it stands before the camera, in units of the point map, "
                "so that several objects of one picture fit together.",
    )  # fmt: skip


class SAM3DSplat(io.ComfyNode):
    """Latents -> Gaussians."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSAM3DSplat",
            display_name="Decode Splat (SAM 3D)",
            category=CATEGORY,
            description="Decode the latents of SAM 3D Objects to Gaussians, front to the viewer. Go on with Splat "
                        "Turntable, Save Splat File or core's splat nodes.",
            search_aliases=["sam3d gaussian", "gaussian splat decoder", "slat to splat"],
            inputs=[
                model_input(),
                latent_input(),
                io.Combo.Input(
                    "gaussians", options=["32", "4"], default="32",
                    tooltip="Gaussians of every voxel: each number has a decoder of its own.",
                ),
                place_input(),
            ],
            outputs=[io.Splat.Output(id="splat", display_name="splat", tooltip="The Gaussians of the object.")],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, latent, gaussians, place) -> io.NodeOutput:
        latents, pose = room.read_sam3d_latent(model, latent)
        host.stop_if_interrupted()
        splats = decode(model, latents, "gaussian" if gaussians == "32" else "gaussian_4")
        if place == "scene":
            splats = placed_splats(splats, pose)
        host.tell(f"{len(splats):,} Gaussians")
        return io.NodeOutput(relax.trellis1_splat(splats))


class SAM3DMesh(io.ComfyNode):
    """Latents -> mesh."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSAM3DMesh",
            display_name="Decode Mesh (SAM 3D)",
            category=CATEGORY,
            description="Decode the latents of SAM 3D Objects to a mesh with colored vertices (FlexiCubes on a grid "
                        "four times as fine as the voxels), Y up. Go on with Mesh Finish or core's mesh nodes.",
            search_aliases=["sam3d mesh", "flexicubes", "slat to mesh", "sam3d glb"],
            inputs=[model_input(), latent_input(), place_input()],
            outputs=[io.Mesh.Output(id="mesh", display_name="mesh", tooltip="The mesh of the object, Y up.")],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, latent, place) -> io.NodeOutput:
        latents, pose = room.read_sam3d_latent(model, latent)
        host.stop_if_interrupted()
        shape = decode(model, latents, "mesh")
        if place == "scene":
            shape = ColoredMesh(placed_points(shape.vertices.float().cpu(), pose), shape.faces, shape.colors)
        mesh = relax.trellis1_mesh(shape)
        host.tell(f"{mesh.faces.shape[1]:,} faces")
        return io.NodeOutput(mesh)
