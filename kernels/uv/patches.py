"""Cutting a surface into patches, and the plain flattening that always works: onto the sides of a box."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

SIDES = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
# directions along u and v of each side, so that u x v points outwards (charts are not mirrored)
SIDE_U = np.array([[0, 0, -1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0], [-1, 0, 0]], np.float32)
SIDE_V = np.array([[0, 1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [0, 1, 0]], np.float32)
SMOOTHING = 4  # rounds in which a face may change to the side of its neighbors


def weld(vertices: Tensor, faces: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Faces [F, 3] int64 between distinct places, and the first vertex [K] at each of these places."""
    place = vertices.detach().cpu().float().contiguous().numpy() + 0.0  # -0 is 0
    bits = place.view(np.uint32).astype(np.uint64)
    # two different multiplications of the bits tell places apart; sorting one 64-bit number is the quick part
    key = (bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)) ^ (bits[:, 1] * np.uint64(0xC2B2AE3D27D4EB4F))
    key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) + bits[:, 2] * np.uint64(0x165667B19E3779F9)
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    if not np.array_equal(place[first][number], place):  # two places with one key: sort by all three numbers
        _, first, number = np.unique(place, axis=0, return_index=True, return_inverse=True)
    return number.reshape(-1)[faces.detach().cpu().numpy().astype(np.int64)], first


def shared_edges(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of faces that share an edge, [E] and [E]; of edges with more than two faces, consecutive ones."""
    count = int(faces.max(initial=0)) + 1
    a, b = faces, faces[:, [1, 2, 0]]
    key = (np.minimum(a, b) * count + np.maximum(a, b)).reshape(-1)
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    first, second = order[:-1][same] // 3, order[1:][same] // 3
    kept = first != second
    return first[kept], second[kept]


def face_vectors(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals [F, 3] times twice the area, float32."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def box_sides(vectors: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The side of a box [F] that each face looks to; ragged borders between sides are straightened.

    vectors: normals times area [F, 3]; first, second: pairs of neighbors [E].
    """
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    facing = (vectors / np.maximum(size, 1e-30)) @ SIDES.T
    side = facing.argmax(1)
    for _ in range(SMOOTHING):
        votes = np.zeros((len(side), 6), np.float32)
        flat = votes.reshape(-1)
        flat += np.bincount(first * 6 + side[second], minlength=flat.size)
        flat += np.bincount(second * 6 + side[first], minlength=flat.size)
        score = np.where(facing > 0.4, facing + 0.25 * votes, -9)
        side = score.argmax(1)
    return side


def components(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The number [count] of the connected piece of each of `count` things, linked in pairs."""
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def cut_patches(vertices: np.ndarray, faces: np.ndarray, size: int) -> list[np.ndarray]:
    """Faces of each patch: connected pieces that look one way, the large ones halved until they hold at most `size`
    faces, the small ones joined to others nearby.

    vertices: [K, 3] welded; faces: [F, 3].
    """
    first, second = shared_edges(faces)
    side = box_sides(face_vectors(vertices, faces), first, second)
    linked = side[first] == side[second]
    piece = components(len(faces), first[linked], second[linked])
    center = vertices[faces].mean(1)
    order = np.argsort(piece, kind="stable")
    pieces = np.split(order, np.cumsum(np.bincount(piece))[:-1])
    whole = [p for p in pieces if len(p) > size // 4]
    small = [p for p in pieces if len(p) <= size // 4]
    patches = [part for p in whole for part in _halves(p, center, size)]
    if small:
        middle = np.stack([center[p[0]] for p in small])
        weight = np.array([len(p) for p in small])
        for group in _groups(np.arange(len(small)), middle, weight, size):
            patches.append(np.concatenate([small[i] for i in group]))
    return patches


def _halves(items: np.ndarray, center: np.ndarray, size: int) -> list[np.ndarray]:
    if len(items) <= size:
        return [items]
    axis = np.ptp(center[items], axis=0).argmax()
    half = len(items) // 2
    order = np.argpartition(center[items, axis], half)
    return _halves(items[order[:half]], center, size) + _halves(items[order[half:]], center, size)


def _groups(items: np.ndarray, center: np.ndarray, weight: np.ndarray, size: int) -> list[np.ndarray]:
    if len(items) == 1 or weight[items].sum() <= size:
        return [items]
    axis = np.ptp(center[items], axis=0).argmax()
    order = items[np.argsort(center[items, axis])]
    half = min(max(int(np.searchsorted(weight[order].cumsum(), weight[order].sum() / 2)), 1), len(items) - 1)
    return _groups(order[:half], center, weight, size) + _groups(order[half:], center, weight, size)


def box_charts(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Charts that are the connected pieces facing each side of a box, seen straight from it.

    vertices: [V, 3]; faces: [F, 3]. Returns source vertex [V'], chart [V'], faces [F, 3], uv [V', 2], as `pool.Flat`.
    Pieces that hide part of themselves from their side overlap, so those are cut into the faces in front and the rest
    by depth; see `unwrap`, which checks what overlaps.
    """
    first, second = shared_edges(faces)
    side = box_sides(face_vectors(vertices, faces), first, second)
    linked = side[first] == side[second]
    piece = components(len(faces), first[linked], second[linked])
    key = piece[:, None] * np.int64(len(vertices)) + faces
    unique, index = np.unique(key, return_inverse=True)
    source, chart = unique % len(vertices), unique // len(vertices)
    side_of = np.zeros(int(piece.max(initial=0)) + 1, np.int64)
    side_of[piece] = side
    place, along = vertices[source], side_of[chart]
    uv = np.stack([(place * SIDE_U[along]).sum(1), (place * SIDE_V[along]).sum(1)], 1)
    return source, chart, index.reshape(-1, 3), uv.astype(np.float32)


def as_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    """On the device of `like`."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(like.device)
