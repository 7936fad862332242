"""Pictures projected into 3D: Projection Conditioner for Native Models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..models.trellis2.cascade import PIXAL3D_STAGES, ImageStage
from ..models.trellis2.image_condition import AnyCamera, Pictures, project_features
from ..models.trellis2.naf import Naf, NafConfig, load_naf
from ..scene.errors import InputError
from . import host
from .host import io
from .pictures import picture_inputs, read_cameras, read_pictures

CATEGORY = f"{host.CATEGORY}/Pixal3D"
TOKEN_SIZES = (512, 1024)


class _Watched:
    """NAF that moves the progress bar and stops when the user interrupts."""

    def __init__(self, naf: Naf, progress) -> None:
        self.naf, self.progress = naf, progress

    def at_points(self, *arguments) -> Tensor:
        self.progress.advance()
        return self.naf.at_points(*arguments)


def stage_features(
    items: list[tuple[Pictures, AnyCamera]], stage: ImageStage, coords: Tensor | None, naf: Naf | _Watched | None
) -> Tensor:
    """What every 3D token reads of its item's pictures.

    coords: [N, 4] rows (item, x, y, z) -> [N, C] in their order; None: the whole grid, [items, R^3, C] x-major.
    Raises InputError where coordinates name an item without a picture.
    """
    if coords is None:
        return torch.cat([project_features(pictures, stage, camera)[1][None] for pictures, camera in items])
    count = int(coords[:, 0].max()) + 1
    if count > len(items):
        raise InputError(f"The latent holds {count} objects and there are pictures of {len(items)}; give one of each.")
    out = None
    for i, (pictures, camera) in enumerate(items):
        rows = torch.nonzero(coords[:, 0] == i)[:, 0]
        _, features = project_features(pictures, stage, camera, coords[rows, 1:].to(pictures.device), naf)
        out = features.new_empty(len(coords), features.shape[1]) if out is None else out
        out[rows.to(out.device)] = features
    return out


class ProjectionConditionerNative(io.ComfyNode):
    """Exact projected features, of any cameras, in the conditioning of core's own Pixal3D models."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SightlineProjectionConditioner",
            display_name="Projection Conditioner for Native Models",
            category=CATEGORY,
            description="Write projected picture features into the conditioning of ComfyUI's own Pixal3D models: exact "
                        "up to the picture's border, from several pictures with any cameras, and without the feature "
                        "maps of gigabytes. Put it after every stage node; in front of the first it makes the "
                        "conditioning alone.",
            search_aliases=["pixal3d conditioning", "trellis2 conditioning", "naf", "back projection", "multi view 3d"],
            inputs=[
                io.ClipVision.Input(
                    "clip_vision", tooltip="DINOv3 with NAF (dino_v3_L_naf_fp32.safetensors) from Load CLIP Vision."
                ),
                *picture_inputs(),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="Positive conditioning of the stage node before the sampler. Left open, this node makes "
                            "the conditioning for the structure.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="Negative conditioning of the same stage node as `positive`."
                ),
                io.Latent.Input(
                    "latent", optional=True,
                    tooltip="The latent of the same stage node, which says on what grid the voxels lie. Not needed "
                            "for the structure.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    id="positive", display_name="positive",
                    tooltip="Positive conditioning with our features, for the sampler or the next stage node.",
                ),
                io.Conditioning.Output(
                    id="negative", display_name="negative",
                    tooltip="Negative conditioning that belongs to it.",
                ),
            ],
        )  # fmt: skip

    @classmethod
    @host.one_sentence
    def execute(
        cls, clip_vision, fov, mesh_scale,
        image=None, views=None, mask=None, positive=None, negative=None, latent=None,
    ) -> io.NodeOutput:  # fmt: skip
        conditioning = host.NativeConditioning.read(positive, negative, latent)
        source = (clip_vision, image, views, mask)
        pictures = conditioning.pictures_of(source)
        if pictures is None:
            encoder = host.CoreDinoV3(clip_vision)
            groups = read_pictures(image, views, mask)
            pictures = [Pictures(encoder, group, device=encoder.device, lend=host.lend_core) for group in groups]
        cameras = read_cameras(fov, mesh_scale, views, len(pictures))
        conditioning.check_items(len(pictures))

        stage = conditioning.stage(PIXAL3D_STAGES)
        progress = host.Steps(sum(len(one) for one in pictures) + 1)
        naf = None
        if stage.naf_target is not None:
            weights, args = host.core_naf(clip_vision)
            naf = load_naf(weights, NafConfig.from_args(args), device=pictures[0].device)
            naf = _Watched(naf, progress)
        items = list(zip(pictures, cameras))
        features = stage_features(items, stage, conditioning.coords, naf)
        tokens = [
            torch.cat([one.split_tokens(size)[0].mean(dim=0, keepdim=True) for one in pictures]) for size in TOKEN_SIZES
        ]
        progress(progress.total, progress.total)
        maps = None
        if conditioning.is_new:
            maps = [torch.cat([one.split_tokens(size)[1][:1] for one in pictures]) for size in TOKEN_SIZES]
        fovs = [math.degrees(c.fov) if views is None else float(c.cameras.fov_x[0]) for c in cameras]
        return io.NodeOutput(*conditioning.write(features, tokens, maps, fovs, mesh_scale, source, pictures))
