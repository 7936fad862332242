"""SAM 3D's pipeline with tiny random networks: stages, branches, seeds, the pose and its mask, bad input."""

import dataclasses

import pytest
import torch
from sam3d_tiny import STEPS, scene, write_family

from sightline.models.relaxflow.settings import PRESETS, RelaxSettings, StageSettings
from sightline.models.sam3d.family import load_sam3d
from sightline.models.sam3d.pose import placed_points, placed_splats, pose_camera, preview_camera
from sightline.models.sam3d.times import SamplerSettings
from sightline.pipelines.relaxflow_sam3d import (
    decode,
    find_visible,
    prepare_object,
    prepare_prior,
    sample_latents,
    sample_structure,
    structure_blur,
)
from sightline.scene.errors import InputError, Interrupted


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return load_sam3d(write_family(tmp_path_factory.mktemp("sam3d")), formats=("gaussian", "gaussian_4", "mesh"))


@pytest.fixture(scope="module")
def picture():
    return prepare_object(*scene())


@pytest.fixture(scope="module")
def priors():
    image, mask, _ = scene(seed=2)
    return [prepare_prior(*scene(seed=1)[:2]), prepare_prior(image * mask)]


@pytest.fixture(scope="module")
def run(family, picture, priors):
    structure = sample_structure(family, picture, priors)
    return structure, sample_latents(family, picture, structure, priors)


def test_from_picture_to_gaussians_and_mesh(family, run):
    structure, latents = run
    assert structure.resolution == 8 and 10 < len(structure.coords) < 512
    assert len(structure.visible) == len(structure.coords) and 0 < float(structure.visible.mean()) < 1
    many, few = decode(family, latents, "gaussian"), decode(family, latents, "gaussian_4")
    assert len(many) == 32 * len(latents) and len(few) == 4 * len(latents)
    assert many.check_finite().means.abs().max() < 0.7
    mesh = decode(family, latents, "mesh")
    assert len(mesh.faces) > 20 and mesh.colors.shape == (len(mesh.vertices), 3) and mesh.vertices.abs().max() < 0.6
    with pytest.raises(InputError, match="format"):
        decode(family, latents, "radiance_field")


def test_evaluations_at_published_settings(family, picture, priors):
    """25 steps, guided in the noisy half: the numbers of the specification, with and without the shared pass."""
    steps = dataclasses.replace(
        family,
        structure_sampler=dataclasses.replace(family.structure_sampler, steps=25),
        latent_sampler=dataclasses.replace(family.latent_sampler, steps=25),
    )
    released = PRESETS["as released"]
    structure = sample_structure(steps, picture, priors, settings=released)
    counts = structure.evaluations
    guided = 19  # of 25 steps t <= 0.5 after the shift
    assert counts["structure obs"] == 25 + 24  # the first step of the blend follows the prior alone
    assert counts["structure uncond"] == 2 * guided and counts["structure prior"] == 11
    assert counts.total() == 98
    for _ in range(2):  # a second run counts anew
        sample_latents(steps, picture, structure, priors, settings=released)
    latent = {name: n for name, n in structure.evaluations.items() if name.startswith("latent")}
    assert latent == {"latent obs": 25, "latent uncond": 13, "latent prior": 11}
    plain = sample_structure(steps, picture).evaluations
    assert plain == {"structure obs": 25, "structure uncond": guided}


def test_seeds_and_branches(family, picture, priors, run):
    again = sample_structure(family, picture, priors)
    assert torch.equal(again.coords, run[0].coords) and torch.equal(again.pose.translation, run[0].pose.translation)
    other = sample_structure(family, picture, priors, seed=1)
    assert not torch.equal(other.pose.translation, again.pose.translation)
    alone = sample_structure(family, picture)
    obs = sample_structure(family, picture, priors, branch="obs")
    assert torch.equal(alone.pose.rotation, obs.pose.rotation) and alone.visible is None
    # the mask's pose is that of the picture alone, from its own noise
    assert torch.equal(alone.pose.translation, run[0].seen_from.translation)
    prior = sample_structure(family, picture, priors, branch="prior")
    assert not torch.equal(prior.pose.translation, run[0].pose.translation)
    one, same, other = (sample_latents(family, picture, run[0], priors, seed=s).feats for s in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_prior_without_weight_is_no_prior(family, picture, priors, run):
    quiet = RelaxSettings(StageSettings(prior_weight=0, masked=False), StageSettings(prior_weight=0))
    structure = sample_structure(family, picture, priors, settings=quiet)
    assert structure.visible is None and not any("prior" in name for name in structure.evaluations)
    alone = sample_latents(family, picture, run[0])
    none = sample_latents(family, picture, run[0], priors, settings=quiet)
    assert torch.equal(alone.feats, none.feats)
    all_seen = sample_latents(family, picture, run[0], priors, visible=torch.ones(len(run[0].coords)))
    assert torch.allclose(alone.feats, all_seen.feats, atol=1e-5)
    hidden = sample_latents(family, picture, run[0], priors, visible=torch.zeros(len(run[0].coords)))
    assert not torch.allclose(alone.feats, hidden.feats, atol=1e-3)


def test_without_kept_keys_and_values_it_is_the_same(family, picture, priors, run, monkeypatch):
    asked = []
    monkeypatch.setattr(type(family), "keeps", lambda self, needed: asked.append(needed))
    structure = sample_structure(family, picture, priors)
    assert torch.equal(structure.coords, run[0].coords)
    assert torch.allclose(structure.pose.rotation, run[0].pose.rotation, atol=1e-5)
    latents = sample_latents(family, picture, run[0], priors)
    assert torch.allclose(latents.feats, run[1].feats, atol=1e-4)
    tokens = [4 * 5 + 2 * 16, 4 * 9]  # CLS and patches, windows of points; CLS, registers and patches
    of_priors = [2 * 4 * 5, 2 * 4 * 9]
    width = 2 * 48 * 4
    assert asked == [2 * (tokens[0] + of_priors[0]) * width, (tokens[1] + of_priors[1]) * width]


def test_low_vram_keeps_nothing(family):
    assert family.keeps(1000) and not family.keeps(1 << 60)
    assert not dataclasses.replace(family, low_vram=True).keeps(1000)


def test_what_is_blurred(family, picture, priors):
    """As released: cross-attention of the structure alone; `self` reaches nothing."""

    def options(attention):
        return StageSettings(attention=attention, sigma=2.5, masked=False)

    assert structure_blur(options("self")) is None and structure_blur(options("none")) is None
    cross = structure_blur(options("cross"))
    assert structure_blur(options("both")) == cross and cross.touches("cross") and not cross.touches("self")
    found = {}
    for attention in ("none", "self", "cross", "both"):
        settings = RelaxSettings(options(attention), StageSettings(prior_weight=0))
        found[attention] = sample_structure(family, picture, priors, settings=settings).pose.translation
    assert torch.equal(found["none"], found["self"]) and torch.equal(found["cross"], found["both"])
    assert not torch.equal(found["none"], found["cross"])


def test_poolings_and_kept_tokens_matter(family, picture, priors):
    def pose(pooling="concat", **options):
        settings = RelaxSettings(StageSettings(pooling=pooling, masked=False), StageSettings(prior_weight=0))
        return sample_structure(family, picture, priors, settings=settings, **options).pose.translation

    first = pose()
    for other in (pose("mean"), pose("consensus"), pose(keep="cropped"), pose(prior_keep="cropped")):
        assert not torch.equal(first, other)


def test_a_distilled_run_has_no_guidance(family, picture):
    counts = sample_structure(family, picture, distilled=True).evaluations
    assert counts == {"structure obs": STEPS}


def test_without_a_point_map(family):
    image, mask, _ = scene()
    picture = prepare_object(image, mask)
    assert not picture.known and set(picture.structure.inputs) == set(picture.latent.inputs)
    structure = sample_structure(family, picture, sampler=SamplerSettings(2))
    assert len(structure.coords)


def test_the_pose_puts_the_object_before_the_camera(family, picture, run):
    structure, latents = run
    splats = decode(family, latents, "gaussian_4")
    placed = placed_splats(splats, structure.pose)
    assert torch.allclose(placed.means, placed_points(splats.means, structure.pose), atol=1e-4)
    ratio = placed.scales / splats.scales
    assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio)) and float(ratio[0, 0]) == pytest.approx(
        float(structure.pose.scale[0, 0]), rel=1e-5
    )
    # the scene's camera at the origin looks along +Y; the cube's own sees every point at the same pixel
    camera = pose_camera(structure.pose, 48, 64)
    xy, depth = camera.project(splats.means)
    seen = placed.means / float(structure.pose.scale[0, 0])
    fx, fy = camera.intrinsics[0, 0, 0], camera.intrinsics[0, 1, 1]
    assert torch.allclose(depth[0], seen[:, 1], atol=1e-3)
    front = seen[:, 1] > 0.1
    expected = torch.stack([32 + fx * seen[:, 0] / seen[:, 1], 24 - fy * seen[:, 2] / seen[:, 1]], 1)
    assert torch.allclose(xy[0][front], expected[front], rtol=1e-3, atol=0.1)


def test_the_preview_sees_the_whole_cube_from_the_pictures_side(run):
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3)
    pose = run[0].pose
    inside = dataclasses.replace(pose, translation=torch.zeros(1, 3))  # the camera in the middle of the object
    for one in (pose, inside, dataclasses.replace(pose, translation=pose.translation * -30)):
        xy, depth = preview_camera(one, 100).project(corners)
        assert bool((xy > 0).all() and (xy < 100).all() and (depth > 0).all())
    center, near = pose_camera(pose, 64, 64).centers[0], preview_camera(pose).centers[0]
    assert torch.allclose(near / near.norm(), center / center.norm(), atol=1e-4)


def test_interrupting_ends_the_run(family, picture, priors):
    seen = []

    def stop(stage, done, total):
        seen.append((stage, done, total))
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        sample_structure(family, picture, priors, progress=stop)
    assert seen == [("structure", i, 2 * STEPS) for i in (1, 2, 3)]


def test_bad_input_gets_one_sentence(family, picture, priors, run):
    image, mask, points = scene()
    cases = {
        "is empty": lambda: prepare_object(image, mask * 0, points),
        "selects the whole picture": lambda: prepare_object(image, mask * 0 + 1, points),
        "one size": lambda: prepare_object(image, mask[1:], points),
        "at least 3 x 3": lambda: prepare_object(image, dot(48, 64), points),
        "picture 64 x 48": lambda: prepare_object(image, mask, points[:, :, :48]),
        "no point of the object": lambda: prepare_object(image, mask, torch.full_like(points, torch.nan)),
        "same point everywhere": lambda: prepare_object(image, mask, torch.ones_like(points)),
        "no priors": lambda: sample_structure(family, picture, branch="prior"),
        "no pose": lambda: find_visible(sample_structure(family, picture), picture),
        "has 3 values": lambda: sample_latents(family, picture, run[0], priors, visible=torch.ones(3)),
    }
    for complaint, call in cases.items():
        with pytest.raises(InputError, match=complaint) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="mask is empty"):
        prepare_prior(image, mask * 0)


def dot(height, width):
    mask = torch.zeros(height, width)
    mask[5, 5] = 1
    return mask


def test_unknown_points_are_no_obstacle(family):
    image, mask, points = scene()
    holes = points.clone()
    holes[:, ::3] = torch.nan
    assert prepare_object(image, mask, holes).known
    sky = torch.where((mask > 0), points, torch.inf)  # more than half of the picture
    picture = prepare_object(image, mask, sky)
    assert bool(torch.isfinite(picture.structure.scale).all())
    structure = sample_structure(family, picture, sampler=SamplerSettings(2))
    assert bool(torch.isfinite(structure.pose.translation).all())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_it_is_about_the_same(tmp_path_factory, family, picture, priors, run, dtype):
    half = load_sam3d(write_family(tmp_path_factory.mktemp(dtype)), formats=("gaussian_4", "mesh"), dtype=dtype)
    assert half.get("slat_generator").torso_dtype == half.get("ss_generator").torso_dtype == getattr(torch, dtype)
    structure = sample_structure(half, picture, priors)
    assert torch.allclose(structure.pose.rotation, run[0].pose.rotation, atol=0.1)
    latents = sample_latents(half, picture, run[0], priors)
    assert latents.feats.dtype == torch.float32
    off = (latents.feats - run[1].feats).norm() / run[1].feats.norm()
    assert float(off) < (0.1 if dtype == "bfloat16" else 0.02)
    assert len(decode(half, latents, "gaussian_4").check_finite()) == 4 * len(latents)
    assert len(decode(half, latents, "mesh").faces) > 20
