"""Rows in slices, on several threads."""

import threading

import numpy as np
import pytest
import torch

from sightline.kernels.mesh.topology import areas
from sightline.kernels.rows import by_rows, dot, pick


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 10, 25])
def test_every_row_once(threads, count):
    seen, told, modes = np.zeros(count, int), [], set()

    def work(rows):
        seen[rows] += 1
        modes.add((torch.is_inference_mode_enabled(), torch.get_num_threads()))

    with torch.inference_mode():
        by_rows(count, work, 10, lambda *at: told.append(at))
    assert (seen == 1).all() and (not count or told[-1] == (count, count)) and told == sorted(told)
    alone = count <= 10
    assert modes == ({(True, threads if alone else 1)} if count else set())


def test_an_error_ends_it_and_leaves_no_thread(threads):
    begun, running = [], threading.active_count()

    def fail(rows):
        begun.append(rows.start)
        if rows.start == 30:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        by_rows(10**6, fail, 10)
    assert len(begun) < 10**5 and threading.active_count() == running
    stop = lambda done, total: 1 / 0  # noqa: E731
    with pytest.raises(ZeroDivisionError):
        by_rows(10, lambda rows: None, 1, stop)
    assert threading.active_count() == running


def test_picked_rows_and_products():
    values, index = torch.rand(50, 3), torch.randint(0, 50, (7, 3))
    assert torch.equal(pick(values, index), values[index])
    other = torch.rand(50, 3, dtype=torch.float64)
    assert torch.equal(dot(values.double(), other), (values.double() * other).sum(-1))


def test_slices_do_not_change_the_result(threads):
    vertices, faces = torch.rand(999, 3).double().numpy(), torch.randint(0, 999, (40000, 3)).numpy()
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert np.array_equal(areas(vertices, faces), np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)
