"""Scenes without the editor: Load Scene, Save Scene, Occlusion Control Render."""

from __future__ import annotations

import torch

from ..pipelines.layout_blender import has_blender
from ..pipelines.layout_render import LONGEST, render_layout
from ..scene.document import check_runnable, document_to_text
from ..scene.document.camera_formats import camera_to_load3d
from ..scene.document.convert import WRITABLE, alignment_options, read_colmap_scene, read_scene_file, write_scene_bytes
from ..scene.document.examples import load_example
from . import host
from .host import io, layout_types, scene_files

CATEGORY = f"{host.CATEGORY}/Layout"
DEFAULT = scene_files.EXAMPLE + "backyard"
RENDERERS = ("built-in", "Blender (bpy)")


class LoadScene(io.ComfyNode):
    """A scene file -> scene."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineLoadScene",
            display_name="Load Scene",
            category=CATEGORY,
            description="Read a scene of boxes and words: our .json, SeeThrough3D's .pkl (nothing in it is run), boxes "
                        "around the meshes of a .glb, a .csv table, the cameras of a COLMAP model, or one of the "
                        "bundled examples.",
            search_aliases=["import scene", "load layout", "open layout", "seethrough3d pkl", "scene json", "colmap"],
            inputs=[
                io.Combo.Input(
                    "file", options=scene_files.scene_names(), default=DEFAULT,
                    tooltip="A bundled example, or a .json, .pkl, .glb, .gltf or .csv file or the folder of a COLMAP "
                            "model in the input folder or in its folder scenes.",
                ),
                io.String.Input(
                    "up", default="", optional=True, advanced=True,
                    tooltip="What is up in a COLMAP model, as 0,-1,0; empty: found from its points and cameras.",
                ),
                io.Float.Input(
                    "scale", default=0.0, min=0.0, max=1e6, step=0.001, optional=True, advanced=True,
                    tooltip="Meters per unit of a COLMAP model; 0: so that its photos were taken 1.5 meters above the "
                            "floor.",
                ),
            ],
            outputs=[
                layout_types.scene_output(),
                io.String.Output(id="text", display_name="text", tooltip="The same scene as JSON text."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file=None):
        if file is None or file.startswith(scene_files.EXAMPLE):
            return True
        find = scene_files.model_path if file.startswith(scene_files.COLMAP) else scene_files.scene_path
        return host.answer(lambda: find(file))

    @classmethod
    def fingerprint_inputs(cls, file=None, **others):
        return scene_files.scene_state(file) if file else ""

    @classmethod
    @host.one_sentence
    def execute(cls, file, up="", scale=0.0) -> io.NodeOutput:
        notes: list[str] = []
        if file.startswith(scene_files.COLMAP):
            document, notes = read_colmap_scene(scene_files.model_path(file), alignment_options(up, scale or None))
        elif file.startswith(scene_files.EXAMPLE):
            document = load_example(file.removeprefix(scene_files.EXAMPLE))
        else:
            document, notes = read_scene_file(scene_files.scene_path(file))
        text = document_to_text(document)
        found = f"{len(document.objects)} objects: {', '.join(o.label for o in document.objects)}"
        words = [found if document.objects else f"{len(document.cameras)} cameras", *notes]
        return io.NodeOutput(document, text, ui=host.show_text("\n".join(words)))


class SaveScene(io.ComfyNode):
    """Write a scene to the output folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineSaveScene",
            display_name="Save Scene",
            category=CATEGORY,
            description="Write a scene to the output folder: as .json, which keeps everything, as SeeThrough3D's .pkl, "
                        "as .glb for Blender and other 3D programs, or as a .csv table. Nothing is overwritten: files "
                        "are numbered.",
            search_aliases=["export scene", "save layout", "scene to glb", "scene to pickle", "scene json"],
            is_output_node=True,
            inputs=[
                layout_types.SceneType.Input("scene", tooltip="The scene to write."),
                io.String.Input(
                    "filename_prefix", default="scenes/scene",
                    tooltip="Name of the file, with a folder inside the output folder before it if you like; a number "
                            "is added.",
                ),
                io.Combo.Input(
                    "format", options=[suffix[1:] for suffix in WRITABLE], default="json",
                    tooltip="json keeps everything; pkl is what SeeThrough3D loads; glb holds boxes and cameras for 3D "
                            "programs and comes back unchanged; csv is a table of the boxes.",
                ),
            ],
            outputs=[
                io.String.Output(id="path", display_name="path", tooltip="The place of the written file."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return host.answer(lambda: filename_prefix is None or host.check_prefix(filename_prefix))

    @classmethod
    @host.one_sentence
    def execute(cls, scene, filename_prefix, format) -> io.NodeOutput:
        host.check_prefix(filename_prefix)
        path, entry = host.save_output(filename_prefix, f".{format}", write_scene_bytes(scene, f".{format}"))
        return io.NodeOutput(str(path), ui=host.show_text(entry.filename))


class OcclusionControlRender(io.ComfyNode):
    """A scene -> control picture, masks, visibility, depth, words, camera."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineOcclusionControlRender",
            display_name="Occlusion Control Render",
            category=CATEGORY,
            description="Draw the control picture of a scene as its image model was trained on it, with the masks, the "
                        "words, and which object is seen where: translucent boxes with opaque edges on a dark floor, "
                        "the same picture as Blender's Cycles gives, in seconds.",
            search_aliases=["oscr", "seethrough3d render", "box render", "layout render", "amodal mask", "depth"],
            inputs=[
                layout_types.SceneType.Input("scene", tooltip="The scene, from the 3D Layout Editor or Load Scene."),
                io.Int.Input(
                    "size", default=LONGEST, min=256, max=4096, step=16,
                    tooltip="Pixels of the longer side; the proportions are those of the scene's picture. The "
                            "authors draw 1024 and shrink it for the model.",
                ),
                io.Int.Input(
                    "samples", default=4, min=1, max=8, advanced=True,
                    tooltip="Samples per side of a pixel where there are edges: 1 is rough and fast, 4 is smooth.",
                ),
                io.Combo.Input(
                    "renderer", options=list(RENDERERS), default=RENDERERS[0], advanced=True,
                    tooltip="The built-in renderer, or Blender's Cycles where the Python package bpy is installed: "
                            "what the authors used, about a minute a picture.",
                ),
            ],
            outputs=[
                *layout_types.picture_outputs("What the image model is shown. For Occlusion-Aware FLUX Conditioning."),
                io.Mask.Output(
                    id="visibility", display_name="visibility",
                    tooltip="One mask for each object in the picture, in the scene's order: where its box is in "
                            "front of all others.",
                ),
                io.Mask.Output(
                    id="depth", display_name="depth",
                    tooltip="Distance along the view axis, in scene units, of the nearest box or the floor; 0 where "
                            "there is nothing.",
                ),
                *layout_types.camera_outputs(),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, renderer=None):
        return host.answer(lambda: renderer != RENDERERS[1] or has_blender(required=True))

    @classmethod
    @host.one_sentence
    def execute(cls, scene, size, samples, renderer) -> io.NodeOutput:
        check_runnable(scene)
        backend = "bpy" if renderer == RENDERERS[1] else "torch"
        made = render_layout(
            scene, size, samples=samples, device=host.render_device(), backend=backend, progress=host.Progress()
        )  # fmt: skip
        host.tell("\n".join(p.text for p in made.problems) or f"{len(made.ids)} objects")
        depth = torch.where(torch.isfinite(made.depth), made.depth, 0.0)
        return io.NodeOutput(
            host.result(made.image), host.result(made.masks.float()), made.prompt,
            host.result(made.visibility.float()), host.result(depth[None]), camera_to_load3d(scene), made.prompt.text,
            ui=host.show_images(made.image.cpu()),
        )  # fmt: skip
