"""Types and sockets that the layout nodes share: one home for their names and tooltips."""

from __future__ import annotations

from .base import io

SceneType = io.Custom("SIGHTLINE_SCENE")
PromptPartsType = io.Custom("SIGHTLINE_PROMPT")

CONTROL = "What the image model is shown: translucent boxes with coloured edges on a dark floor."


def scene_output(name: str = "scene"):
    """The scene; `name` is the socket's id where an input has the name "scene"."""
    return SceneType.Output(id=name, display_name="scene", tooltip="The scene: boxes, words, cameras.")


def picture_outputs(control: str = CONTROL) -> list:
    """Control picture, masks and words, in this order."""
    return [
        io.Image.Output(id="control_image", display_name="control_image", tooltip=control),
        io.Mask.Output(
            id="masks", display_name="masks",
            tooltip="One mask for each object of the prompt, in its order: the whole outline of its box, hidden parts "
                    "included.",
        ),
        PromptPartsType.Output(
            id="prompt", display_name="prompt",
            tooltip="The words: which part of the prompt belongs to which mask. For Occlusion-Aware FLUX "
                    "Conditioning.",
        ),
    ]  # fmt: skip


def camera_outputs() -> list:
    """The active camera and the plain prompt, in this order."""
    return [
        io.Load3DCamera.Output(
            id="camera", display_name="camera", tooltip="The active camera, for 3D nodes and viewers."
        ),
        io.String.Output(
            id="text", display_name="text", tooltip="All descriptions and the background as one plain prompt."
        ),
    ]
