"""Meshes to repair."""

import numpy as np


def ball(steps=12, radius=0.5, bumps=0.0, seed=0):
    """A closed ball [V, 3], [F, 3] wound outward: a cube's faces in steps x steps squares, drawn to a sphere."""
    line = np.linspace(-1, 1, steps + 1)
    u, v = np.meshgrid(line, line, indexing="ij")
    one = np.ones_like(u)
    sides = [np.stack(p, -1) for p in ((one, u, v), (-one, v, u), (v, one, u), (u, -one, v), (u, v, one), (v, u, -one))]
    vertices = np.concatenate([side.reshape(-1, 3) for side in sides])
    i, j = np.meshgrid(np.arange(steps), np.arange(steps), indexing="ij")
    a = (i * (steps + 1) + j).reshape(-1)
    square = np.concatenate([np.stack([a, a + steps + 1, a + steps + 2], 1), np.stack([a, a + steps + 2, a + 1], 1)])
    faces = np.concatenate([square + k * (steps + 1) ** 2 for k in range(6)])
    key, into = np.unique(np.round(vertices * steps * 8).astype(np.int64), axis=0, return_inverse=True)
    vertices, faces = key / (steps * 8), into.reshape(-1)[faces]
    vertices = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    if bumps:
        wave = np.random.default_rng(seed).uniform(2, 5, (3, 3))
        vertices = vertices * (1 + bumps * np.sin(vertices @ wave).prod(1, keepdims=True))
    return radius * vertices, faces


def join(*meshes):
    """Several meshes as one, without connection."""
    before = np.cumsum([0] + [len(v) for v, _ in meshes[:-1]])
    return np.concatenate([v for v, _ in meshes]), np.concatenate([f + n for n, (_, f) in zip(before, meshes)])


def volume(vertices, faces):
    """The signed volume of a closed mesh."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("fc,fc->f", a, np.cross(b, c)).sum() / 6)
