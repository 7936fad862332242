"""Tangent frames and normal maps in the way of MikkTSpace, glTF's convention (+Y up in the picture).

Tangents follow u, are averaged over the faces around a vertex with the angle as weight, each laid into the vertex's
plane first; the bitangent is w * cross(normal, tangent), of the interpolated vectors, not normalized.
Source: Mikkelsen, Simulation of Wrinkled Surfaces Revisited, 2008; glTF 2.0, section 3.7.2.1. Unlike the reference
code we don't split a vertex where mirrored charts meet: `unwrap` has no mirrored charts and never shares vertices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .rows import at_once, by_rows, dot, pick


def vertex_tangents(vertices: Tensor, faces: Tensor, uv: Tensor, normals: Tensor) -> Tensor:
    """Tangents [V, 4] float32: direction of growing u, and the sign w of the bitangent.

    vertices: [V, 3]; faces: [F, 3]; uv: [V, 2], glTF (v down); normals: [V, 3] of length 1. Vertices whose faces have
    no area in uv get some direction in their plane.
    """
    corner, normals = faces.long(), normals.double()
    share = normals.new_empty(len(faces), 3, 4)  # of the tangent at each corner, and which way round the face is there

    def compute(rows: slice) -> None:
        place, flat = pick(vertices, corner[rows]).double(), pick(uv, corner[rows]).double()
        e1, e2 = place[:, 1] - place[:, 0], place[:, 2] - place[:, 0]
        # upwards in the picture is against v
        (u1, v1), (u2, v2) = (flat[:, 1] - flat[:, 0]).unbind(1), (flat[:, 2] - flat[:, 0]).unbind(1)
        v1, v2 = -v1, -v2
        area = u1 * v2 - u2 * v1
        along = (e1 * v2[:, None] - e2 * v1[:, None]) * area.sign()[:, None]
        for i in range(3):
            normal = pick(normals, corner[rows, i])
            a, b = (place[:, (i + k) % 3] - place[:, i] for k in (1, 2))
            laid, a, b = (F.normalize(one - normal * dot(normal, one)[:, None], dim=1, eps=1e-30)
                          for one in (along, a, b))  # fmt: skip
            angle = dot(a, b).clamp(-1, 1).acos()
            share[rows, i, :3], share[rows, i, 3] = laid * angle[:, None], area.sign() * angle

    by_rows(len(faces), compute, at_once(normals))
    sums = share.new_zeros(len(vertices), 4).index_add_(0, corner.flatten(), share.flatten(0, 1))
    total, turn = sums.split((3, 1), 1)
    length = total.norm(dim=1, keepdim=True)
    axis = F.one_hot(normals.abs().argmin(1), 3).double()
    some = F.normalize(axis - normals * dot(normals, axis)[:, None], dim=1)
    total = torch.where(length > 1e-12, total / length.clamp(min=1e-30), some)
    sign = torch.where(turn < 0, -1.0, 1.0).to(total.dtype)
    return torch.cat([total, sign], 1).float()


def encode_normals(wanted: Tensor, normal: Tensor, tangent: Tensor) -> Tensor:
    """The texels [T, 3] in [0, 1] of a normal map that give the normals `wanted` [T, 3].

    normal: [T, 3] interpolated, not normalized; tangent: [T, 4] interpolated, w = +1 or -1. A renderer computes
    normalize(x * T + y * B + z * N) with B = w * cross(N, T); directions that this cannot reach (from behind) are laid
    into the surface.
    """
    out = wanted.new_empty(len(wanted), 3)

    def encode(part: slice) -> None:
        n, t, w = normal[part].double(), tangent[part, :3].double(), tangent[part, 3:].sign().double()
        b = w * torch.linalg.cross(n, t)
        # the inverse of [t b n] by cross products, times its determinant
        volume = dot(t, torch.linalg.cross(b, n))[:, None]
        goal = wanted[part].double()
        local = torch.stack([dot(goal, torch.linalg.cross(p, q)) for p, q in ((b, n), (n, t), (t, b))], 1)
        local = torch.where(volume.abs() > 1e-12, local * volume.sign(), local.new_tensor([0.0, 0.0, 1.0]))
        local[:, 2].clamp_(min=0)
        length = local.norm(dim=1, keepdim=True)
        flat = length < 1e-12
        local = torch.where(flat, local.new_tensor([0.0, 0.0, 1.0]), local / length.clamp(min=1e-30))
        out[part] = (local * 0.5 + 0.5).to(out.dtype)

    by_rows(len(wanted), encode, at_once(wanted))
    return out


def decode_normals(texels: Tensor, normal: Tensor, tangent: Tensor) -> Tensor:
    """What a renderer makes of a normal map: texels [T, 3] in [0, 1] to normals [T, 3] of length 1."""
    local = texels * 2 - 1
    bitangent = tangent[:, 3:].sign() * torch.linalg.cross(normal, tangent[:, :3])
    world = local[:, :1] * tangent[:, :3] + local[:, 1:2] * bitangent + local[:, 2:] * normal
    return F.normalize(world, dim=1, eps=1e-30)
