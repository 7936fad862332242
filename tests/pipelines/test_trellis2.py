"""Both pipelines of the TRELLIS.2 family, whole, with tiny random networks of another latent factor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from trellis2_tiny import STEPS, cascade, picture

from sightline.kernels.projection import front_camera
from sightline.models.trellis2.image_condition import FrontCamera, PosedCameras
from sightline.models.trellis2.latents import decode_latents
from sightline.pipelines import pixal3d, trellis2
from sightline.scene.cameras import Cameras
from sightline.scene.errors import InputError

CAMERA = FrontCamera(0.6)


@pytest.fixture(scope="module")
def families():
    return {projected: cascade(projected) for projected in (False, True)}


def sample(families, projected, image=None, **options):
    image = picture() if image is None else image
    options = {"samplers": STEPS, "pipeline_type": "512", **options}
    if projected:
        return pixal3d.sample_latents(families[True], pixal3d.prepare_picture(image), CAMERA, **options)
    return trellis2.sample_latents(families[False], trellis2.prepare_picture(image), **options)


@pytest.mark.parametrize("projected", [False, True], ids=["trellis2", "pixal3d"])
@pytest.mark.parametrize(
    "kind, resolution, low",
    [("512", 32, False), ("1024", 64, False), ("1024_cascade", 64, True), ("1536_cascade", 96, True)],
)
def test_every_pipeline_type(families, projected, kind, resolution, low):
    seen = []
    latents = sample(
        families,
        projected,
        pipeline_type=kind,
        progress=lambda stage, done, steps, x_t, x_0: seen.append((stage, done, steps)),
    )
    assert latents.resolution == resolution and (latents.low is not None) == low
    grid = resolution // 4
    assert latents.structure[:, 1:].max() < (8 if low else grid)
    assert latents.shape.coords[:, 1:].max() < grid
    assert torch.equal(latents.shape.coords, latents.texture.coords)
    stages = ["structure", *(["low shape"] if low else []), "shape", "texture"]
    assert seen == [(stage, done, 2) for stage in stages for done in (1, 2)]
    mesh = decode_latents(families[projected], latents)
    assert mesh.resolution == resolution and mesh.attributes.shape == (len(mesh.coords), 6)
    assert len(mesh.vertices) == len(mesh.coords) and mesh.faces.max() < len(mesh.vertices)
    assert mesh.vertices.abs().max() <= 0.5 + 0.5 / resolution


@pytest.mark.parametrize("projected", [False, True], ids=["trellis2", "pixal3d"])
def test_a_seed_is_a_result(families, projected):
    first, again = (sample(families, projected, seed=3) for _ in range(2))
    assert torch.equal(first.shape.feats, again.shape.feats) and torch.equal(first.texture.feats, again.texture.feats)
    other = sample(families, projected, seed=4)
    assert first.shape.feats.shape != other.shape.feats.shape or not torch.allclose(
        first.shape.feats, other.shape.feats
    )


def test_runs_do_not_touch_the_global_generator(families):
    torch.manual_seed(9)
    expected = torch.randn(3)
    torch.manual_seed(9)
    sample(families, False)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("projected", [False, True], ids=["trellis2", "pixal3d"])
def test_the_token_limit_lowers_the_resolution(families, projected):
    free = sample(families, projected, pipeline_type="1536_cascade")
    limited = sample(families, projected, pipeline_type="1536_cascade", max_num_tokens=len(free.shape))
    assert free.resolution == 96 and limited.resolution == 64
    assert torch.equal(free.low.feats, limited.low.feats)


def test_both_guidance_branches_in_one_pass(families):
    one, two = (sample(families, True, batched=batched) for batched in (False, True))
    assert torch.equal(one.shape.coords, two.shape.coords)
    assert torch.allclose(one.texture.feats, two.texture.feats, atol=1e-3)


def test_several_views(families):
    prepared = pixal3d.prepare_picture(picture())
    camera = front_camera(0.6, 1.6, 64)
    options = dict(samplers=STEPS, pipeline_type="512")
    one = pixal3d.sample_latents(families[True], prepared, PosedCameras(camera), **options)
    twice = pixal3d.sample_latents(
        families[True], [prepared] * 2, PosedCameras(Cameras.cat([camera, camera])), **options
    )
    assert torch.equal(one.structure, twice.structure)
    assert torch.allclose(one.texture.feats, twice.texture.feats, atol=1e-4)


def test_from_picture_to_mesh(families):
    options = dict(samplers=STEPS, pipeline_type="512", seed=1)
    mesh = pixal3d.image_to_3d(families[True], picture(), CAMERA, **options)
    released = pixal3d.image_to_3d(families[True], picture(), CAMERA, as_released=True, **options)
    assert torch.equal(mesh.vertices, released.vertices) and mesh.faces.shape == released.faces.shape
    assert torch.equal(mesh.faces.sort(dim=1).values.unique(dim=0), released.faces.sort(dim=1).values.unique(dim=0))
    prepared = pixal3d.prepare_picture(picture())
    again = pixal3d.image_to_3d(families[True], prepared, CAMERA, preprocess=False, **options)
    assert torch.equal(again.attributes, mesh.attributes)
    assert len(trellis2.image_to_3d(families[False], picture(), **options).faces)


def test_an_interrupt_leaves_nothing_behind(families):
    def stop(stage, done, steps, x_t, x_0):
        if stage == "shape":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(families, True, progress=stop)
    assert len(sample(families, True).shape)


def test_latents_of_another_model_are_refused(families):
    latents = sample(families, False)
    wide = latents.shape.replace(torch.zeros(len(latents.shape), 7))
    with pytest.raises(InputError, match="7 channels; this decoder takes 3"):
        decode_latents(families[True], replace(latents, shape=wide))
    with pytest.raises(InputError, match="this grid has voxels 0..3"):
        decode_latents(families[True], replace(latents, resolution=16))
    other = sample(families, False, seed=8)
    with pytest.raises(InputError, match="share their latent voxels"):
        decode_latents(families[True], replace(latents, texture=other.texture))


def test_a_projecting_family_needs_its_condition(families):
    with pytest.raises(InputError, match="no projected features"):
        trellis2.sample_latents(
            families[True], trellis2.prepare_picture(picture()), samplers=STEPS, pipeline_type="512"
        )
    with pytest.raises(InputError, match="nothing is selected"):
        pixal3d.image_to_3d(families[True], np.zeros((9, 9, 4), np.uint8), CAMERA)
