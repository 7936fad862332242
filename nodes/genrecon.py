"""GenRecon: models, condition, chunk sampler, scene decode, scene bake."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from ..kernels.mesh.remesh import LARGEST
from ..models.genrecon.family import SceneFamily, embedded_scene_family, load_scene_family
from ..models.genrecon.joint_condition import SceneViews
from ..models.genrecon.scene_files import world_scene
from ..models.genrecon.scene_sampling import SAMPLERS
from ..pipelines.genrecon import SampleOptions, ScenePlan, decode_latents, encode_views, estimate_scene, sample_scene
from ..pipelines.genrecon_bake import bake_scene, finish_scene, plain_glb
from ..scene.errors import InputError
from ..scene.frames import turn_points
from ..scene.gltf import Material, Part
from ..scene.mesh_files import linear
from . import host
from .host import io, scenes, textured_meshes
from .scene_views import CATEGORY
from .trellis2_models import HostedCascade

EMBEDDED = "genrecon-tiny (embedded)"


class HostedScene(HostedCascade, SceneFamily):
    """A scene family whose networks are under the host's memory management."""


@dataclass(frozen=True, eq=False)
class ConditionedPlan:
    """A plan, what its views say, and how they are projected."""

    plan: ScenePlan
    views: SceneViews
    projection: str
    voxels: bool


class GenReconLoader(io.ComfyNode):
    """Weights -> a scene family."""

    @classmethod
    def define_schema(cls):
        families = [EMBEDDED, *scenes.genrecon_families()]
        return io.Schema(
            node_id="SightlineGenReconLoader",
            display_name="Load GenRecon Models",
            category=CATEGORY,
            description="Load what GenRecon makes scenes with: its three flows, as published or as small adapters, and "
                        "TRELLIS.2's decoders and DINOv3, which are looked for among the TRELLIS.2 models. Files are "
                        "never executed.",
            search_aliases=["genrecon loader", "scene reconstruction model", "room model"],
            inputs=[
                io.Combo.Input(
                    "models", options=families, default=EMBEDDED,
                    tooltip=f"{EMBEDDED}: small weights of this pack (Apache-2.0) that know plain drawn rooms. Others "
                            f"lie in models/{scenes.GENRECON_FOLDER}: the published sparse_structure.pt, shape_slat.pt "
                            "and texture_slat.pt (no licence stated), or a folder with a genrecon.json.",
                ),
            ],
            outputs=[
                scenes.GenReconModels.Output(
                    id="model", display_name="model", tooltip="The models, for all nodes of GenRecon."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, models):
        return models if models == EMBEDDED else host.file_state(scenes.genrecon_path(models))

    @classmethod
    @host.one_sentence
    def execute(cls, models) -> io.NodeOutput:
        search = [*host.folders(scenes.GENRECON_FOLDER), *host.folders(host.TRELLIS2_FOLDER)]
        if models == EMBEDDED:
            plain = embedded_scene_family(device=host.render_device())
        else:
            plain = load_scene_family(scenes.genrecon_path(models), search=search, device=host.render_device())
        family = HostedScene(plain.config, plain.models, plain.image_encoder, device=host.render_device())
        family.identity = plain.identity
        host.tell(f"{models}: {len(family.models)} networks")
        return io.NodeOutput(family)


def model_input() -> io.Input:
    return scenes.GenReconModels.Input("model", tooltip="The models of Load GenRecon Models.")


class SceneCondition(io.ComfyNode):
    """A plan -> what the sampler is conditioned on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSceneCondition",
            display_name="Multi-View Projection Conditioner",
            category=CATEGORY,
            description="Encode the photos of a plan, each once, and say how every voxel reads them: at the patch it "
                        "projects to, in all photos that see it, whatever their order.",
            search_aliases=["multi view condition", "genrecon condition", "project photos", "image features"],
            inputs=[
                model_input(),
                scenes.ScenePlanType.Input("plan", tooltip="Cubes and views of Chunk Planner."),
                io.Combo.Input(
                    "projection", options=["float32", "bfloat16"], default="float32", advanced=True,
                    tooltip="float32 is exact. bfloat16 is what the released code does: far from the first cube it "
                            "reads the wrong patch for every second voxel.",
                ),
                io.Boolean.Input(
                    "per_voxel", default=True, advanced=True,
                    tooltip="Off drops what the voxels read, so that each cube only looks at its one photo.",
                ),
            ],
            outputs=[
                scenes.SceneConditionType.Output(
                    id="condition", display_name="condition", tooltip="Encoded photos and cubes, for Chunk Sampler."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, plan, projection, per_voxel) -> io.NodeOutput:
        bar = host.Progress()
        views = encode_views(model, plan, progress=lambda stage, done, total: bar(done, total))
        return io.NodeOutput(ConditionedPlan(plan, views, projection, per_voxel))


class ChunkSampler(io.ComfyNode):
    """Condition -> latents of all chunks."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineChunkSampler",
            display_name="Chunk Sampler",
            category=CATEGORY,
            description="Sample structure, shape and texture of all cubes of a scene together: they start from the "
                        "same noise and agree where they overlap after every step. A long run can be interrupted and "
                        "goes on where it was.",
            search_aliases=["genrecon sampler", "multidiffusion", "scene sampler", "sample room"],
            inputs=[
                model_input(),
                scenes.SceneConditionType.Input("condition", tooltip="Of Multi-View Projection Conditioner."),
                io.Int.Input(
                    "seed", default=42, min=0, max=0xFFFFFFFFFFFF, control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Number that chooses the starting noise of the whole scene.",
                ),
                io.Int.Input(
                    "steps", default=12, min=0, max=1000,
                    tooltip="Sampling steps of each of three stages; 0: as many as the models come with.",
                ),
                io.Float.Input(
                    "guidance", default=7.5, min=0.0, max=100.0, step=0.1,
                    tooltip="How strongly structure and shape follow the photos; 1 follows plainly, at half the cost.",
                ),
                io.Float.Input(
                    "texture_guidance", default=1.0, min=0.0, max=100.0, step=0.1,
                    tooltip="The same for the texture; 1 and 5 are published.",
                ),
                io.Float.Input(
                    "occupancy", default=-1.0, min=-20.0, max=20.0, step=0.1,
                    tooltip="Voxels above this logit are filled; lower closes gaps, higher is thinner.",
                ),
                io.Int.Input(
                    "boundary", default=1, min=0, max=7, advanced=True,
                    tooltip="Layers of voxels at the sides of a cube whose shape and texture do not count where "
                            "another cube knows better; 0 counts all alike.",
                ),
                io.Int.Input(
                    "batch", default=1, min=1, max=64, advanced=True,
                    tooltip="Cubes evaluated at a time; more is faster where memory allows.",
                ),
                io.String.Input(
                    "resume_as", default="",
                    tooltip="A name under which the unfinished scene is kept in the output folder, so that an "
                            "interrupted run goes on; empty keeps nothing.",
                ),
            ],
            outputs=[
                scenes.SceneLatentsType.Output(
                    id="latents", display_name="latents", tooltip="Latents of all cubes, for Scene Decode."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, model, condition, seed, steps, guidance, texture_guidance, occupancy, boundary, batch, resume_as
    ) -> io.NodeOutput:
        strength = {"structure": guidance, "shape": guidance, "texture": texture_guidance}
        given = {"steps": steps} if steps else {}
        changes = {SAMPLERS[s]: {**given, "guidance_strength": strength[s]} for s in SAMPLERS}
        options = SampleOptions(
            seed, changes, occupancy, boundary, batch, projection_dtype=condition.projection,
            zero_3d_cond=not condition.voxels,
        )  # fmt: skip
        expected = estimate_scene(model, condition.plan, options, condition.views)
        host.tell(f"{len(condition.plan.layout)} cubes: {expected}")
        latents = sample_scene(
            model, condition.plan, options, folder=scenes.resume_folder(resume_as), progress=StageBar(),
            views=condition.views,
        )  # fmt: skip
        host.tell(f"{len(latents.coords)} cubes, {sum(len(c) for c in latents.coords):,} voxels")
        return io.NodeOutput(latents)


class StageBar:
    """The pipeline's progress(stage, done, total) on the node: three stages of equal length."""

    ORDER = ("structure", "shape", "texture")

    def __init__(self) -> None:
        self.bar = host.Progress(3000)

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage in self.ORDER:
            self.bar(1000 * self.ORDER.index(stage) + 1000 * done // max(total, 1), 3000)
        else:
            host.stop_if_interrupted()


class SceneDecode(io.ComfyNode):
    """Latents -> one mesh of the scene."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSceneDecode",
            display_name="Scene Decode",
            category=CATEGORY,
            description="Turn the latents of all cubes into one mesh with materials, in the meters of the photos. "
                        "Where memory is short it is decoded in groups or blocks; the result is the same.",
            search_aliases=["decode scene", "genrecon decode", "scene mesh", "joint decode"],
            inputs=[
                model_input(),
                scenes.SceneLatentsType.Input("latents", tooltip="Latents of Chunk Sampler."),
                io.Int.Input(
                    "group", default=0, min=0, max=1024, advanced=True,
                    tooltip="Decode so many cubes at a time; 0 decides by the free memory. The mesh is the same.",
                ),
            ],
            outputs=[
                scenes.SceneType.Output(
                    id="scene", display_name="scene", tooltip="Mesh and material voxels, for Scene Bake."
                ),
                io.Mesh.Output(
                    id="mesh", display_name="mesh", tooltip="The mesh with colored vertices, Y up, in meters."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, model, latents, group) -> io.NodeOutput:
        bar = host.Progress()
        mesh = decode_latents(
            model, latents, max_chunks_per_group=group or None, memory="auto",
            progress=lambda stage, done, total: bar(done, total),
        )  # fmt: skip
        centers = torch.from_numpy(latents.layout.centers)
        scene = world_scene(mesh, latents.joint_to_world, centers, latents.layout.names)
        finished = finish_scene(scene, hole_perimeter=0.0)
        values = finished.sample(finished.vertices).clamp(0, 1)
        part = Part(
            turn_points(finished.vertices, "z_up", "y_up"), finished.faces.long(), Material(), "scene",
            colors=linear(values[:, :3]),
        )  # fmt: skip
        host.tell(f"{len(scene.faces):,} faces, {len(scene.coords):,} voxels")
        return io.NodeOutput(scene, textured_meshes.parts_mesh([part]))


class SceneBake(io.ComfyNode):
    """A decoded scene -> a textured GLB file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSceneBake",
            display_name="Scene Bake",
            category=CATEGORY,
            description="Close the holes of a scene, divide it among its cubes, unwrap and texture each part, and "
                        "write one GLB to the output folder: Y up, in meters, one named part per cube, without seams "
                        "between them.",
            search_aliases=["bake scene", "scene glb", "export room", "genrecon bake"],
            is_output_node=True,
            inputs=[
                scenes.SceneType.Input("scene", tooltip="The scene of Scene Decode."),
                io.Int.Input(
                    "texture_size", default=1024, min=0, max=8192, step=64,
                    tooltip="Texels along a side of each cube's textures; 0 writes colors at the vertices, quickly.",
                ),
                io.Float.Input(
                    "hole_perimeter", default=1.0, min=0.0, max=100.0, step=0.05,
                    tooltip="Holes up to this many meters around are closed; 0 leaves all open.",
                ),
                io.Int.Input(
                    "smooth", default=0, min=0, max=100,
                    tooltip="Rounds of smoothing, which keeps edges and borders.",
                ),
                io.String.Input(
                    "filename_prefix", default="3d/scene",
                    tooltip="Name of the file, with a folder inside the output folder before it if you like; a number "
                            "is added.",
                ),
                io.Int.Input(
                    "faces", default=0, min=0, max=100_000_000, optional=True,
                    tooltip="Simplify each cube to about so many faces; borders and seams between cubes stay as they "
                            "are, so that more may remain. 0 keeps all.",
                ),
                io.Int.Input(
                    "remesh", default=0, min=0, max=LARGEST, optional=True, advanced=True,
                    tooltip="A new, even mesh around the scene, with so many cells along its longest side, for scenes "
                            "with many flaws; 0 keeps the decoded mesh.",
                ),
            ],
            outputs=[
                io.File3DGLB.Output(
                    id="model_3d", display_name="model_3d", tooltip="The written GLB, for Preview 3D and the like."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return host.answer(lambda: filename_prefix is None or host.check_prefix(filename_prefix))

    @classmethod
    @host.one_sentence
    def execute(
        cls, scene, texture_size, hole_perimeter, smooth, filename_prefix, faces=0, remesh=0
    ) -> io.NodeOutput:
        host.check_prefix(filename_prefix)
        if 0 < texture_size < 64:
            raise InputError(f"`texture_size` is {texture_size}; give 0 or at least 64.")
        for name, value, least in (("faces", faces, 4), ("remesh", remesh, 8)):
            if 0 < value < least:
                raise InputError(f"`{name}` is {value}; give 0 or at least {least}.")
        bar = host.Progress()
        tell = lambda stage, done, total: bar(done, total)  # noqa: E731
        finished = finish_scene(
            scene, hole_perimeter=hole_perimeter, smooth_iterations=smooth, remesh_cells=remesh, progress=tell
        )
        given = dict(target=faces, workers=max(1, (os.cpu_count() or 1) // 2), progress=tell)
        glb = bake_scene(finished, texture_size, **given) if texture_size else plain_glb(finished, **given)
        path, entry = host.save_output(filename_prefix, ".glb", glb)
        host.tell(f"{entry.filename}: {len(finished.faces):,} faces, {len(scene.chunk_centers)} cubes")
        return io.NodeOutput(host.Types.File3D(str(path), "glb"), ui={"3d": [entry]})
