"""View sets: compositing, squaring, counting."""

import pytest
import torch

from sightline.scene.cameras import orbit, turntable
from sightline.scene.errors import InputError
from sightline.scene.splats import Splats
from sightline.scene.views import ViewSet, composite, depth_picture, framing, parse_angles, square, view_set


def picture(height=8, width=8, value=0.25, channels=3, count=1):
    return torch.full((count, channels, height, width), value)


def test_alpha_and_mask_composite_on_white():
    rgba = picture(channels=4, value=0.5)
    assert torch.allclose(composite(rgba), torch.full((1, 3, 8, 8), 0.75))
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    out = composite(picture(), mask)
    assert torch.equal(out[..., :4], torch.full((1, 3, 8, 4), 0.25))
    assert torch.equal(out[..., 4:], torch.ones(1, 3, 8, 4))


def test_mask_is_resampled_to_the_picture():
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    out = composite(picture(16, 16), mask)
    assert float(out[0, 0, 2, 8]) == pytest.approx(0.25) and float(out[0, 0, 14, 8]) == 1.0


@pytest.mark.parametrize("height, width", [(6, 10), (10, 6), (7, 10)])
def test_pad_keeps_everything_and_adds_white(height, width):
    out = square(picture(height, width, 0.0))
    assert out.shape == (1, 3, 10, 10)
    assert int((out[0, 0] == 0).sum()) == height * width and int((out[0, 0] == 1).sum()) == 100 - height * width


def test_crop_takes_the_middle():
    wide = torch.arange(10.0).expand(1, 3, 6, 10) / 10
    assert torch.equal(square(wide, fit="crop")[0, 0, 0], wide[0, 0, 0, 2:8])


def test_pictures_of_different_sizes_become_one_set():
    views = view_set([picture(8, 8), picture(16, 12, count=2)], [0, 90, 180], [20], 1.3, 50.0)
    assert views.images.shape == (3, 3, 16, 16) and len(views.cameras) == 3
    assert (views.cameras.width, views.cameras.height) == (16, 16)
    assert torch.allclose(views.cameras.centers, orbit([0, 90, 180], 20, 1.3, 50.0, 16, 16).centers)


@pytest.mark.parametrize("background", [0.0, 0.5])
def test_background_fills_transparency_and_short_sides(background):
    rgba = picture(6, 10, 0.25, channels=4)
    rgba[:, 3, :, :5], rgba[:, 3, :, 5:] = 1, 0
    out = view_set([rgba], [0], [0], 1.3, 50.0, background=background).images
    assert torch.equal(out[..., 2:8, :5], torch.full((1, 3, 6, 5), 0.25))
    assert torch.equal(out[..., 2:8, 5:], torch.full((1, 3, 6, 5), background))
    assert torch.equal(out[..., :2, :], torch.full((1, 3, 2, 10), background))


def test_given_cameras_replace_the_angles_and_take_the_picture_size():
    views = view_set([picture()], [0], [0], 9.0, 9.0, cameras=orbit(30, 10, 2.0, 40.0, 512, 512))
    assert views.cameras.width == 8 and float(views.cameras.fov_x[0]) == pytest.approx(40.0, abs=1e-4)


def test_inputs_are_not_changed():
    images, mask = picture(6, 10, 0.5), torch.ones(1, 6, 10)
    before = images.clone(), mask.clone()
    view_set([images], [0], [20], 1.3, 50.0, masks=mask)
    assert torch.equal(images, before[0]) and torch.equal(mask, before[1])


@pytest.mark.parametrize("text, values", [("0", [0]), ("0, 90;180 -30", [0, 90, 180, -30]), (" 1.5,\n2 ", [1.5, 2])])
def test_angles(text, values):
    assert parse_angles(text, "azimuths") == values


@pytest.mark.parametrize("text", ["", "  ", "left", "0, 90°", "nan", "inf", "1e9"])
def test_bad_angles_are_named(text):
    with pytest.raises(InputError, match="`azimuths`"):
        parse_angles(text, "azimuths")


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(pictures=[]), "no picture"),
        (dict(pictures=[picture(), picture(value=float("nan"))], azimuth=[0, 90]), "Picture 2 holds pixels"),
        (dict(pictures=[torch.zeros(1, 3, 0, 4)]), "empty"),
        (dict(pictures=[torch.zeros(1, 2, 4, 4)]), "2 channels"),
        (dict(masks=torch.zeros(1, 8, 8)), "mask of Picture 1 is empty"),
        (dict(masks=torch.ones(3, 8, 8)), "3 masks for 1 picture"),
        (dict(azimuth=[0, 90]), "2 values for 1 picture"),
        (dict(pictures=[picture(count=2)]), "1 value for 2 pictures"),
        (dict(elevation=[1, 2]), "`elevations` has 2 values"),
        (dict(radius=0.0), "radius"),
        (dict(fov=180.0), "field of view"),
        (dict(fit="stretch"), "stretch"),
        (dict(cameras=orbit([0, 1], 0, 1, 50, 8, 8)), "2 cameras for 1 picture"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(change, message):
    given = dict(pictures=[picture()], azimuth=[0], elevation=[20], radius=1.3, fov=50.0) | change
    with pytest.raises(InputError, match=message) as error:
        view_set(**given)
    assert str(error.value).count("\n") == 0 and str(error.value).endswith(".")


def test_view_set_needs_rgb_and_a_camera_each():
    with pytest.raises(InputError, match="channels"):
        ViewSet(picture(channels=4), orbit(0, 0, 1, 50, 8, 8))
    with pytest.raises(InputError, match="2 cameras"):
        ViewSet(picture(), orbit([0, 90], 0, 1, 50, 8, 8))


def ball(center, radius, count=500, seed=0):
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    points = torch.tensor(center) + radius * points / points.norm(dim=-1, keepdim=True)
    quats = torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4)
    return points, Splats.from_rgb(points, torch.full((count, 3), 0.01), quats, torch.ones(count), torch.rand(count, 3))


@pytest.mark.parametrize("fov", [20.0, 52.0, 100.0])
@pytest.mark.parametrize("elevation", [-30.0, 0.0, 80.0])
def test_framing_shows_all_of_it_and_no_more(fov, elevation):
    points, splats = ball((3.0, -1.0, 0.5), 2.0)
    target, distance = framing(splats, fov)
    pixels, depths = turntable(5, elevation, distance, fov, 100, 100, target=target).project(points)
    assert float(depths.min()) > 0
    assert float(pixels.min()) > 0 and float(pixels.max()) < 100
    assert float(pixels.max()) - float(pixels.min()) > 80


@pytest.mark.parametrize("width, height", [(200, 50), (50, 200)])
def test_framing_minds_the_shape_of_the_picture(width, height):
    points, splats = ball((0.0, 0.0, 0.0), 1.0)
    target, distance = framing(splats, 52.0, width / height)
    pixels, _ = turntable(4, 20.0, distance, 52.0, width, height, target=target).project(points)
    assert float(pixels.min()) > 0 and bool((pixels.amax(dim=(0, 1)) < torch.tensor([width, height])).all())
    assert float((pixels.amax(dim=(0, 1)) - pixels.amin(dim=(0, 1))).max()) > 0.8 * min(width, height)


def test_framing_ignores_outliers_and_faint_splats():
    points, splats = ball((0.0, 0.0, 0.0), 1.0)
    means, opacities = splats.means.clone(), splats.opacities.clone()
    means[0], means[1], opacities[1] = torch.tensor([50.0, 0, 0]), torch.tensor([0, 90.0, 0]), 0.01
    _, distance = framing(Splats(means, splats.scales, splats.quats, opacities, splats.sh), 52.0)
    assert distance == pytest.approx(framing(splats, 52.0)[1], rel=0.05)


def test_framing_of_one_point_is_finite():
    quat = torch.tensor([[1.0, 0, 0, 0]])
    one = Splats.from_rgb(torch.ones(1, 3), torch.ones(1, 3), quat, torch.ones(1), torch.ones(1, 3))
    assert framing(one, 52.0) == ((1.0, 1.0, 1.0), 1.0)


def test_depth_picture_is_bright_where_near():
    depth = torch.tensor([[[1.0, 2.0, 0.0]]])
    shades = depth_picture(depth, torch.tensor([[[1.0, 1.0, 0.0]]]))[0, 0, :, 0]
    assert shades.tolist() == pytest.approx([1.0, 0.1, 0.0])
    assert float(depth_picture(depth, torch.zeros(1, 1, 3)).max()) == 0
