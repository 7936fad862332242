import pytest
import torch

from sightline.kernels.mesh.closest_point import ClosestPoint, closest_points, closest_points_dense
from sightline.scene.errors import InputError


def soup(count, seed=0, degenerate=False):
    """Triangles of very different sizes, some without area."""
    g = torch.Generator().manual_seed(seed)
    size = 10 ** (torch.rand(count, 1, 1, generator=g) * 3 - 2.5)
    corners = torch.rand(count, 1, 3, generator=g) + size * torch.randn(count, 3, 3, generator=g)
    if degenerate:
        corners[::5, 2] = corners[::5, 1]
        corners[::7, 2] = (corners[::7, 0] + corners[::7, 1]) / 2
        corners[::11] = corners[::11, :1]
    return corners.reshape(-1, 3), torch.arange(3 * count).view(-1, 3)


@pytest.mark.parametrize("count", [1, 40, 300, 3000])
@pytest.mark.parametrize("degenerate", [False, True])
@pytest.mark.parametrize("spread", [0.02, 3.0])
def test_equals_the_twin(count, degenerate, spread):
    vertices, faces = soup(count, count, degenerate)
    g = torch.Generator().manual_seed(1)
    on = vertices[faces[torch.randint(count, (150,), generator=g)]].mean(1)
    queries = torch.cat([on + spread * torch.randn(150, 3, generator=g), on[:20], vertices[:20]])
    calls = []
    ours = closest_points(queries, vertices, faces, callback=lambda *step: calls.append(step))
    twin = closest_points_dense(queries, vertices, faces)
    reach = float((vertices.amax(0) - vertices.amin(0)).norm() + queries.norm(dim=1).max())
    assert (ours[2].sqrt() - twin.squared.sqrt()).abs().max() < 2e-6 * reach
    points, face, squared, weights = ours
    assert calls[-1] == (len(queries), len(queries))
    assert (weights >= 0).all() and (weights.sum(1) - 1).abs().max() < 1e-6
    assert ((weights[..., None] * vertices[faces[face]]).sum(1) - points).abs().max() < 1e-6 * reach
    assert ((points - queries).norm(dim=1) - squared.sqrt()).abs().max() < 2e-6 * reach


def test_far_from_the_origin_and_asked_twice():
    vertices, faces = soup(500)
    index = ClosestPoint(vertices + 100, faces)
    first, again = index(vertices[:50] + 100), index(vertices[:50] + 100)
    assert first.squared.max() < 1e-8 and all(torch.equal(a, b) for a, b in zip(first, again))


def test_nothing_asked():
    vertices, faces = soup(100)
    assert [len(part) for part in closest_points(torch.zeros(0, 3), vertices, faces)] == [0, 0, 0, 0]


def test_the_callback_may_stop_it():
    vertices, faces = soup(100)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        closest_points(vertices, vertices, faces, callback=stop)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda q, v, f: (q, v, f[:0]), "no face"),
        (lambda q, v, f: (q, v, f + 300), "names vertices"),
        (lambda q, v, f: (q, v * torch.nan, f), "not finite"),
        (lambda q, v, f: (q / 0, v, f), "not finite"),
        (lambda q, v, f: (q[:, :2], v, f), "shape"),
    ],
)
def test_bad_input(change, sentence):
    with pytest.raises(InputError, match=sentence):
        closest_points(*change(torch.ones(2, 3), *soup(100)))
