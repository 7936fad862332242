import pytest
import torch

from sightline.scene.errors import InputError
from sightline.scene.frames import rotation_about_z, turn_points
from sightline.scene.rotations import matrix_from_quaternion, sh_basis
from sightline.scene.splats import Splats


def make(count=20, degree=2, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Splats(
        torch.randn(count, 3, generator=g),
        torch.rand(count, 3, generator=g) * 0.1 + 0.001,
        torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1),
        torch.rand(count, generator=g),
        torch.randn(count, (degree + 1) ** 2, 3, generator=g),
    )


def covariances(splats):
    axes = matrix_from_quaternion(splats.quats) * splats.scales[:, None, :]
    return axes @ axes.mT


def test_rgb_and_harmonics_are_two_names_of_a_color():
    rgb = torch.rand(5, 3)
    splats = Splats.from_rgb(torch.zeros(5, 3), torch.ones(5, 3), torch.ones(5, 4) / 2, torch.ones(5), rgb)
    torch.testing.assert_close(splats.rgb, rgb)
    assert splats.sh_degree == 0 and len(splats) == 5


@pytest.mark.parametrize("frame", ["y_up", "y_down"])
def test_turning_keeps_the_object_and_its_look(frame):
    splats = make()
    turned = splats.turned("z_up", frame)
    torch.testing.assert_close(turned.means, turn_points(splats.means, "z_up", frame))
    ours = turn_points(turn_points(covariances(splats), "z_up", frame).mT, "z_up", frame)
    torch.testing.assert_close(covariances(turned), ours, atol=1e-6, rtol=1e-4)
    d = torch.nn.functional.normalize(torch.randn(30, 3, generator=torch.Generator().manual_seed(3)), dim=-1)
    look = torch.einsum("dk,nkc->ndc", sh_basis(d, 2), splats.sh)
    seen = torch.einsum("dk,nkc->ndc", sh_basis(turn_points(d, "z_up", frame), 2), turned.sh)
    torch.testing.assert_close(seen, look, atol=1e-5, rtol=1e-4)
    assert turned.scales is splats.scales and turned.opacities is splats.opacities
    back = turned.turned(frame, "z_up")
    torch.testing.assert_close(back.means, splats.means)
    torch.testing.assert_close(back.sh, splats.sh, atol=1e-5, rtol=1e-4)


def test_named_copies():
    splats = make()
    torch.testing.assert_close(splats.y_up().means, splats.means[:, [0, 2, 1]] * torch.tensor([1.0, 1, -1]))
    torch.testing.assert_close(splats.y_down().means, splats.means[:, [0, 2, 1]] * torch.tensor([1.0, -1, 1]))
    assert splats.turned("z_up", "z_up") is splats


def test_rotation_about_z_moves_x_to_y():
    splats = make().rotated(rotation_about_z(90))
    torch.testing.assert_close(splats.means, make().means[:, [1, 0, 2]] * torch.tensor([-1.0, 1, 1]))


def test_choosing_some():
    splats = make()
    chosen = splats[splats.opacities > 0.5]
    assert 0 < len(chosen) < len(splats)
    torch.testing.assert_close(chosen.sh, splats.sh[splats.opacities > 0.5])


def test_detach_and_dtype():
    splats = make()
    splats.means.requires_grad_()
    assert not splats.detach().means.requires_grad
    assert splats.to(torch.float64).sh.dtype == torch.float64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("means", torch.zeros(20, 2)), ("scales", torch.zeros(19, 3)), ("quats", torch.zeros(20, 3)),
        ("opacities", torch.zeros(20, 1)), ("sh", torch.zeros(20, 3)), ("sh", torch.zeros(20, 5, 3)),
        ("means", torch.zeros(())),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(name, value):
    good = make()
    fields = {k: getattr(good, k) for k in ("means", "scales", "quats", "opacities", "sh")}
    with pytest.raises(InputError):
        Splats(**fields | {name: value})


@pytest.mark.parametrize("name", ["means", "scales", "quats", "opacities", "sh"])
def test_numbers_that_are_not_finite_are_counted(name):
    splats = make()
    getattr(splats, name)[3] = float("nan")
    with pytest.raises(InputError, match=f"1 of 20 splats have `{name}`"):
        splats.check_finite()
