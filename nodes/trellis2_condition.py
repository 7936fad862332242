"""What the samplers of TRELLIS.2 and Pixal3D look at: pictures and cameras."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ..models.trellis2.conditions import AnyCondition
from ..models.trellis2.image_condition import FrontCamera, Pictures, PosedCameras, projected_condition, token_condition
from ..models.trellis2.preprocess import PIXAL3D_PADDING, TRELLIS2_PADDING
from ..scene.errors import InputError
from . import host
from .host import io
from .pictures import picture_inputs, read_cameras, read_pictures
from .trellis2_models import CATEGORY, HostedCascade

AS_GIVEN = "as given"
CROPS = {AS_GIVEN: None, "to the object, Pixal3D": PIXAL3D_PADDING, "to the object, TRELLIS.2": TRELLIS2_PADDING}


@dataclass(frozen=True, eq=False)
class ObjectPictures:
    """The pictures of one object and their cameras, encoded when first needed."""

    pictures: list
    camera: FrontCamera | PosedCameras


class ConditionMaker:
    """Conditions of one object for the stages of one family."""

    def __init__(self, cascade: HostedCascade, given: ObjectPictures) -> None:
        self.cascade, self.camera = cascade, given.camera
        self.views = Pictures(cascade.encoder(), given.pictures, device=cascade.device, lend=cascade.on_device)

    def stage(self, name: str, size: str, grid: int | None = None, coords: Tensor | None = None) -> AnyCondition:
        """Projected features for Pixal3D, all tokens of the small ("512") or large picture for TRELLIS.2."""
        config = self.cascade.config
        if not self.cascade.projects:
            return token_condition(self.views, config.token_image_sizes[size != "512"])
        reads = config.stage(name)
        reads = replace(reads, grid_resolution=grid or reads.grid_resolution)
        if reads.naf_target and self.cascade.naf is None:
            raise InputError(
                "The image encoder was loaded without NAF, which Pixal3D needs; choose one with it."
            )
        with self.cascade.on_device(self.cascade.naf if reads.naf_target else None) as naf:
            return projected_condition(self.views, reads, self.camera, None if coords is None else coords[:, 1:], naf)


def makers(cascade: HostedCascade, condition: list[ObjectPictures], items: int | None = None) -> list[ConditionMaker]:
    """One per object; InputError unless there are as many objects as `items`."""
    if items is not None and items != len(condition):
        raise InputError(f"`condition` is of {len(condition)} objects and the latent of {items}; connect the same.")
    return [ConditionMaker(cascade, one) for one in condition]


class PictureCondition(io.ComfyNode):
    """Pictures and cameras -> what the samplers are conditioned on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlinePictureCondition",
            display_name="Projection Conditioner",
            category=CATEGORY,
            description="Say what the samplers of this pack look at: one picture with its field of view, or several "
                        "pictures of one object with any cameras. Pixal3D reads pixels where its voxels project to; "
                        "TRELLIS.2 looks at the first picture as a whole.",
            search_aliases=["pixal3d condition", "trellis2 condition", "image condition", "posed views"],
            inputs=[
                *picture_inputs(),
                io.Combo.Input(
                    "crop", options=list(CROPS), default=AS_GIVEN, optional=True,
                    tooltip="How `image` is cut out: as it is given, or to the object that `mask` shows, with the "
                            "margin that Pixal3D (1.1) or TRELLIS.2 (1.0) was trained with. `fov` is that of the "
                            "cut-out.",
                ),
            ],
            outputs=[
                host.PictureConditionType.Output(
                    id="condition", display_name="condition", tooltip="Pictures and cameras, for all three samplers."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(cls, fov, mesh_scale, image=None, views=None, mask=None, crop=AS_GIVEN) -> io.NodeOutput:
        groups = read_pictures(image, views, mask, margin=CROPS[crop])
        cameras = read_cameras(fov, mesh_scale, views, len(groups))
        return io.NodeOutput([ObjectPictures(*one) for one in zip(groups, cameras)])
