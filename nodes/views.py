"""Pictures and cameras: View Set, Orbit Cameras, Camera from 3D View."""

from __future__ import annotations

from ..pipelines.sparsegen import ELEVATION, MAX_CLEAN_VIEWS, RADIUS
from ..scene.cameras import orbit
from ..scene.frames import cameras_from_load3d
from ..scene.views import FITS, parse_angles, view_set
from . import host
from .host import io

BACKGROUNDS = {"white": 1.0, "black": 0.0}
FOV = 51.99  # degrees; the published pictures have 51.98948897809546
CATEGORY = f"{host.CATEGORY}/Views"
AZIMUTH_HELP = "0 is the side that the first picture shows; positive is a walk to the right around the object."


def radius_input() -> io.Float.Input:
    return io.Float.Input(
        "radius", default=RADIUS, min=0.01, max=100.0, step=0.01, advanced=True,
        tooltip="Distance from the camera to the middle of the object, in units in which the object is about 1 long. "
                "SparseGen was trained at 1.3.",
    )  # fmt: skip


def fov_input() -> io.Float.Input:
    return io.Float.Input(
        "fov", default=FOV, min=1.0, max=170.0, step=0.01, advanced=True,
        tooltip="Field of view of the camera in degrees, across the picture. SparseGen was trained at 51.99.",
    )  # fmt: skip


class ViewSetNode(io.ComfyNode):
    """Pictures of one object, and where each was taken from."""

    @classmethod
    def define_schema(cls):
        image = io.Image.Input(
            "image", tooltip="A picture of the object. A batch counts as several pictures, in its order."
        )
        return io.Schema(
            node_id="SightlineViewSet",
            display_name="View Set (cameras for pictures)",
            category=CATEGORY,
            description="Put one to six pictures of the same object together and say from where each was taken. "
                        "The object should stand free on white (for Pixal3D on black) and fill most of the picture.",
            search_aliases=["multi view", "posed images", "camera poses", "sparse views", "sparsegen input"],
            inputs=[
                io.Autogrow.Input(
                    "images", template=io.Autogrow.TemplatePrefix(image, prefix="image", min=1, max=MAX_CLEAN_VIEWS),
                    tooltip="The pictures, one to six; connect one and the next input appears.",
                ),
                io.String.Input(
                    "azimuths", default="0",
                    tooltip="From which side each picture was taken: one angle in degrees for each, with commas "
                            "between, for example 0, 90, 180. " + AZIMUTH_HELP,
                ),
                io.String.Input(
                    "elevations", default=f"{ELEVATION:g}",
                    tooltip="From how high each picture was taken, in degrees: 0 is level with the object, 90 straight "
                            "from above. One angle for all pictures, or one for each with commas between.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Where the object is (white); everything else becomes background. One mask for all "
                            "pictures or one for each, in their order. The mask of Load Image marks what is "
                            "transparent, so put Invert Mask after it.",
                ),
                host.CamerasType.Input(
                    "cameras", optional=True,
                    tooltip="Cameras to use instead of azimuths, elevations, radius and fov; one for each picture.",
                ),
                io.Combo.Input(
                    "fit", options=list(FITS), default="pad", advanced=True,
                    tooltip="How pictures that are not square become so: pad adds background on the short sides, "
                            "crop cuts the long sides.",
                ),
                radius_input(),
                fov_input(),
                io.Combo.Input(
                    # optional, so that graphs saved before it was there still run
                    "background", options=list(BACKGROUNDS), default="white", optional=True,
                    tooltip="What is behind the object where a picture is transparent or masked out, and on the short "
                            "sides: white for SparseGen, black for Pixal3D and TRELLIS.2.",
                ),
            ],
            outputs=[host.Views.Output(id="views", display_name="views", tooltip="The pictures with their cameras.")],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, images=None, azimuths=None):
        # the host repeats a message for every widget named here, so only the one that is mistyped most is; it also
        # passes the dynamic `images` to whoever validates anything
        return host.answer(lambda: azimuths is None or parse_angles(azimuths, "azimuths"))

    @classmethod
    @host.one_sentence
    def execute(
        cls, images, azimuths, elevations, fit, radius, fov, mask=None, cameras=None, background="white"
    ) -> io.NodeOutput:  # fmt: skip
        views = view_set(
            [host.pictures(image) for image in images.values() if image is not None],
            parse_angles(azimuths, "azimuths"),
            parse_angles(elevations, "elevations"),
            radius,
            fov,
            masks=None if mask is None else host.masks(mask),
            fit=fit,
            cameras=cameras,
            background=BACKGROUNDS[background],
        )
        return io.NodeOutput(views, ui=host.show_images(views.images.permute(0, 2, 3, 1)))


class OrbitCameras(io.ComfyNode):
    """Cameras on a circle around the object."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineOrbitCameras",
            display_name="Orbit Cameras",
            category=CATEGORY,
            description="Cameras evenly spread on a circle around the object, all looking at its middle: virtual views "
                        "for the sampler, or cameras for pictures taken on a turntable.",
            search_aliases=["turntable cameras", "virtual cameras", "camera ring", "novel view cameras"],
            inputs=[
                io.Int.Input("count", default=3, min=1, max=64, tooltip="How many cameras."),
                io.Float.Input(
                    "start", default=90.0, min=-360.0, max=360.0, step=1.0,
                    tooltip="Azimuth of the first camera in degrees. " + AZIMUTH_HELP,
                ),
                io.Float.Input(
                    "sweep", default=360.0, min=-360.0, max=360.0, step=1.0, advanced=True,
                    tooltip="How far around the cameras reach, in degrees; the last one stands one gap before its end.",
                ),
                io.Float.Input(
                    "elevation", default=ELEVATION, min=-90.0, max=90.0, step=1.0,
                    tooltip="Height of the cameras in degrees: 0 is level with the object, 90 straight from above.",
                ),
                radius_input(),
                fov_input(),
            ],
            outputs=[
                host.CamerasType.Output(
                    id="cameras", display_name="cameras", tooltip="The cameras, in order around the object."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, count, start, sweep, elevation, radius, fov) -> io.NodeOutput:
        azimuths = [start + sweep * i / count for i in range(count)]
        return io.NodeOutput(orbit(azimuths, elevation, radius, fov, host.CAMERA_SIZE, host.CAMERA_SIZE))


class CameraFrom3DView(io.ComfyNode):
    """The camera of a 3D viewer, for a picture or a virtual view."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineCameraFrom3DView",
            display_name="Camera from 3D View",
            category=CATEGORY,
            description="Take over the camera of a 3D viewer (Load 3D, Preview Splat, Create Camera Info). The "
                        "viewer's front (+Z) is azimuth 0. Connect several cameras one after the other through "
                        "`before`.",
            search_aliases=["camera info", "load3d camera", "viewer camera"],
            inputs=[
                io.Load3DCamera.Input(
                    "camera_info", tooltip="Camera of a 3D viewer, Y up; perspective, its field of view taken over."
                ),
                host.CamerasType.Input(
                    "before", optional=True, tooltip="Cameras that come before this one in the list."
                ),
            ],
            outputs=[
                host.CamerasType.Output(
                    id="cameras", display_name="cameras", tooltip="The cameras of `before`, then this one."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, camera_info, before=None) -> io.NodeOutput:
        size = host.CAMERA_SIZE
        camera = host.front_cameras(cameras_from_load3d(camera_info, size, size))
        return io.NodeOutput(camera if before is None else type(camera).cat([before, camera]))
