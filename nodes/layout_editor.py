"""The 3D Layout Editor: boxes with words in a viewport, and what an image model needs of them."""

from __future__ import annotations

from . import host
from .host import io
from .host import routes as layout


class LayoutEditor(io.ComfyNode):
    """A scene drawn in the node, and its control picture, masks, words and camera."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineLayoutEditor",
            display_name="3D Layout Editor",
            category=f"{host.CATEGORY}/Layout",
            description="Place boxes in 3D, say what each of them is, and look through the camera: the node gives the "
                        "control picture that shows an image model where everything stands and what hides what, with "
                        "the masks and the prompt that go with it.",
            search_aliases=["layout", "boxes", "3d scene", "seethrough3d", "occlusion", "blocking", "oscr",
                            "bounding boxes", "composition"],
            inputs=[
                io.String.Input(
                    "scene", default="", socketless=True,
                    tooltip="The scene as text; the editor below writes it. Empty is a new scene.",
                ),
                layout.SceneType.Input(
                    "scene_in", optional=True,
                    tooltip="A scene from elsewhere (Load Scene, a converter). While it is connected it is used "
                            "instead of the one drawn here.",
                ),
            ],
            outputs=[
                layout.SceneType.Output(
                    id="scene_out", display_name="scene", tooltip="The scene: boxes, words, cameras."
                ),
                io.Image.Output(
                    id="control_image", display_name="control_image",
                    tooltip="What the image model is shown: translucent boxes with coloured edges on a dark floor.",
                ),
                io.Mask.Output(
                    id="masks", display_name="masks",
                    tooltip="One mask for each object of the prompt, in its order: the whole outline of its box, "
                            "hidden parts included.",
                ),
                layout.PromptPartsType.Output(
                    id="prompt", display_name="prompt",
                    tooltip="The words: which part of the prompt belongs to which mask. For Occlusion-Aware FLUX "
                            "Conditioning.",
                ),
                io.Load3DCamera.Output(
                    id="camera", display_name="camera", tooltip="The active camera, for 3D nodes and viewers."
                ),
                io.String.Output(
                    id="text", display_name="text", tooltip="All descriptions and the background as one plain prompt."
                ),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, scene):
        return host.answer(lambda: not scene or layout.read_scene(scene))

    @classmethod
    def fingerprint_inputs(cls, scene="", **links):
        # colours, locks, names, title and revision change nothing that a run makes
        return layout.scene_fingerprint(scene)

    @classmethod
    @host.one_sentence
    def execute(cls, scene, scene_in=None) -> io.NodeOutput:
        made = layout.pictures(layout.read_scene(scene) if scene_in is None else scene_in)
        return io.NodeOutput(
            made.document, made.image, made.masks, made.prompt, made.camera, made.prompt.text,
            ui=host.show_images(made.image),
        )  # fmt: skip
