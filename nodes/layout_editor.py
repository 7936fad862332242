"""The 3D Layout Editor: boxes with words in a viewport, and what an image model needs of them."""

from __future__ import annotations

from . import host
from .host import io, layout_types
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
                layout_types.SceneType.Input(
                    "scene_in", optional=True,
                    tooltip="A scene from elsewhere (Load Scene, a converter). It is used instead of the one drawn "
                            "here, or, with ⋯ → Build on the connected scene, what is drawn here is added to it.",
                ),
                io.Image.Input(
                    "backdrop", optional=True,
                    tooltip="A picture shown behind the boxes while you look through the camera, to trace it, and in "
                            "Compare. It changes no output.",
                ),
            ],
            outputs=[
                layout_types.scene_output("scene_out"),
                *layout_types.picture_outputs(),
                *layout_types.camera_outputs(),
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
    def execute(cls, scene, scene_in=None, backdrop=None) -> io.NodeOutput:
        made = layout.pictures(layout.joined(scene, scene_in))
        return io.NodeOutput(
            made.document, made.image, made.masks, made.prompt, made.camera, made.prompt.text,
            ui=layout.editor_pictures(made.image, scene_in, backdrop),
        )  # fmt: skip
