"""Mesh Finish: any triangle mesh to one that is welded, wound, closed where it should be, and of the size wanted.

Frame: any; lengths are in the units of the mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ..kernels.mesh import clean, holes, shells, winding
from ..kernels.mesh.decimate import decimate
from ..kernels.mesh.normals import smooth_normals
from ..kernels.mesh.remesh import LARGEST, remesh
from ..kernels.mesh.topology import Array, Counts, Edges, face_components, used
from ..scene.errors import InputError
from ..scene.gltf import Part

Progress = Callable[[int, int], None]
STEPS = 12
ROUNDS = 5  # of cleaning and closing: what is closed may meet what was loose before


@dataclass(frozen=True)
class FinishOptions:
    """What to do. Lengths in the units of the mesh.

    faces: how many to keep at most; 0 keeps all. weld: vertices nearer than this part of the longest side of the mesh
    become one; 0 welds only equal places. holes: border loops up to this perimeter are closed; 0 closes none. dust:
    components with less than this part of the largest one's area go; 0 keeps all. shells: also drop components that
    cannot be seen from outside. remesh: cells along the longest side of a wholly new mesh around the old one (see
    `kernels.mesh.remesh`), for meshes beyond repair; 0 for none. project_back: how far its vertices go back onto the
    old surface. keep_uv: texture coordinates and textures survive (vertices on seams stay), except a remesh. outward:
    turn components that are inside out. normals: smooth normals.
    """

    faces: int = 0
    weld: float = 1e-5
    holes: float = 0.03
    dust: float = 1e-4
    shells: bool = False
    remesh: int = 0
    project_back: float = 0.9
    keep_uv: bool = True
    outward: bool = True
    normals: bool = True

    def __post_init__(self) -> None:
        for name, top in (("faces", 10**9), ("weld", 0.1), ("holes", 1e9), ("dust", 1.0), ("remesh", LARGEST),
                          ("project_back", 1.0)):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= top:  # also not a number
                raise InputError(f"`{name}` is {value}; it must lie between 0 and {top}.")
        if 0 < self.faces < 4:
            raise InputError(f"`faces` is {self.faces}; a mesh needs 4 at least, and 0 keeps them all.")


@dataclass
class Report:
    """Counts before and after, and what was done in between, in words."""

    before: Counts
    after: Counts
    done: list[str] = field(default_factory=list)

    def text(self) -> str:
        """A small table, then the steps."""
        names = ("faces", "vertices", "border edges", "crowded edges", "conflicting edges", "components", "Euler")
        keys = ("faces", "vertices", "border_edges", "crowded_edges", "conflicting_edges", "components", "euler")
        lines = [f"{'':18}{'before':>12}{'after':>12}"]
        for name, key in zip(names, keys):
            lines.append(f"{name:18}{getattr(self.before, key):>12,}{getattr(self.after, key):>12,}")
        return "\n".join([*lines, *self.done])


class _Work:
    """A mesh on its way. `rows` [N, A] are texture coordinates and colors; corners name theirs in `wedges` [F, 3],
    without wedges vertices and rows are one."""

    def __init__(self, part: Part, keep_uv: bool) -> None:
        self.vertices = part.vertices.detach().cpu().double().numpy()
        self.faces = part.faces.detach().cpu().long().numpy()
        uv = part.uv if keep_uv else None
        given = [one.detach().cpu().double().numpy() for one in (uv, part.colors) if one is not None]
        self.rows = np.concatenate(given, 1) if given else None
        self.has_uv = uv is not None
        self.wedges = self.faces if self.has_uv else None
        self._edges: Edges | None = None

    @property
    def edges(self) -> Edges:
        if self._edges is None:
            self._edges = Edges.of(self.faces)
        return self._edges

    def set_faces(self, faces: Array) -> None:
        self.faces, self._edges = faces, None

    def keep(self, mask: Array) -> int:
        """Keep some faces; how many went."""
        gone = len(mask) - int(mask.sum())
        if gone:
            self.set_faces(self.faces[mask])
            self.wedges = None if self.wedges is None else self.wedges[mask]
        if not len(self.faces):
            raise InputError("No face of the mesh has an area; a mesh with a surface is needed.")
        return gone

    def turn(self, mask: Array) -> int:
        """Turn some faces over; how many."""
        if mask.any():
            faces = self.faces.copy()
            faces[mask] = faces[mask][:, ::-1]
            self.set_faces(faces)
            if self.wedges is not None:
                self.wedges = self.wedges.copy()
                self.wedges[mask] = self.wedges[mask][:, ::-1]
        return int(mask.sum())

    def grow(self, vertices: Array, source: Array) -> None:
        """More vertices, with the attributes of others."""
        self.vertices = np.concatenate([self.vertices, vertices])
        if self.rows is not None and self.wedges is None:
            self.rows = np.concatenate([self.rows, self.rows[source]])


def finish_mesh(part: Part, options: FinishOptions | None = None, *, progress: Progress | None = None):
    """A finished copy of a mesh, and the report: (Part, Report).

    In this order: weld; drop faces without area, duplicates and faces that dangle; one winding for what hangs together;
    part what too many faces share; drop dust; close holes; if asked, drop what is hidden and remesh; decimate; turn
    outward; smooth normals. Colors and texture coordinates follow. Finishing a finished mesh changes nothing more.
    progress may raise to stop; nothing given is changed. Raises InputError for options out of range and a mesh without
    any area.
    """
    options = options or FinishOptions()
    step = _steps(progress)
    work = _Work(part, options.keep_uv)
    done: list[str] = []

    def say(count: int, what: str) -> None:
        if count:
            done.append(f"{what.format(f'{count:,}')}")

    before = Counts.of(work.faces, work.edges)
    step(1)
    for turn in range(ROUNDS):
        begun, at = len(done), 1 + 4 * turn / ROUNDS
        say(_weld(work, options.weld), "{} vertices welded")
        _clean(work, say)
        step(at + 0.3)
        _wind(work, say)
        step(at + 0.6)
        if options.dust:
            dusty = shells.dust(work.vertices, work.faces, options.dust, work.edges)
            say(work.keep(~dusty), "{} faces of dust dropped")
        if turn and len(done) == begun:
            break
        closed = _fill(work, options.holes) if options.holes else 0
        say(closed, "{} faces added over holes")
        if not closed:
            break
    step(5)
    if options.shells:  # after the holes, through which rays would leave
        say(work.keep(~shells.hidden(work.vertices, work.faces, work.edges)), "{} faces of hidden shells dropped")
    if options.remesh:
        say(_remesh(work, options, lambda at, of: step(5 + at / of)), "remeshed from {} faces")
        _clean(work, say)
        _wind(work, say)
        say(work.keep(~shells.hidden(work.vertices, work.faces, work.edges)), "{} faces of inner shells dropped")
    step(6)
    if options.faces and len(work.faces) > options.faces:
        say(_decimate(work, options.faces, lambda at, of: step(6 + 4 * at / of)), "decimated from {} faces")
        _clean(work, say)
        _wind(work, say)
    step(10)
    if options.outward:
        say(work.turn(winding.inward(work.vertices, work.faces, work.edges)), "{} faces turned outward")
    step(11)
    after = Counts.of(work.faces, work.edges)
    result = _result(work, part, options.normals)
    step(STEPS)
    return result, Report(before, after, done)


def _steps(progress: Progress | None) -> Callable[[float], None]:
    return (lambda at: progress(round(at * 10), STEPS * 10)) if progress is not None else lambda at: None


def _weld(work: _Work, part: float) -> int:
    size = float((work.vertices.max(0) - work.vertices.min(0)).max())
    into = clean.weld(work.vertices, work.faces, part * size, work.edges)
    gone = into != np.arange(len(into))
    if gone.any():
        seen = np.zeros(len(into), bool)
        seen[work.faces.reshape(-1)] = True
        gone &= seen
    gone = int(gone.sum())
    if gone:
        work.set_faces(into[work.faces])
    if work.wedges is not None:  # corners with the same place and the same texture coordinates share their row
        shared = clean.equal_rows(np.concatenate([into[:, None], work.rows], 1))
        work.wedges = shared[work.wedges]
    return gone


def _clean(work: _Work, say: Callable[[int, str], None]) -> None:
    gone = work.keep(~clean.repeated(work.faces))
    if work.wedges is None:
        faces, kept = clean.mend_flat(work.vertices, work.faces)
        if not np.array_equal(faces, work.faces):
            work.set_faces(faces)
        gone += work.keep(kept)
    else:
        gone += work.keep(~clean.degenerate(work.vertices, work.faces))
    say(gone, "{} faces without area dropped")
    say(work.keep(~clean.duplicates(work.faces)), "{} duplicate faces dropped")
    if work.edges.crowded.any():
        say(work.keep(~clean.dangling(work.faces)), "{} dangling faces dropped")


def _wind(work: _Work, say: Callable[[int, str], None]) -> None:
    say(work.turn(winding.flipped(work.vertices, work.faces, work.edges)), "{} faces turned to fit their neighbors")
    faces, source = clean.separate(work.vertices, work.faces, work.edges)
    if len(source):
        work.grow(work.vertices[source], source)
        work.set_faces(faces)
        say(len(source), "{} vertices doubled where too many faces met")


def _fill(work: _Work, longest: float) -> int:
    faces, middles, near, into = holes.fill_holes(work.vertices, work.faces, longest, work.edges)
    if not len(faces):
        return 0
    work.set_faces(into[work.faces])
    if work.wedges is not None:
        row = np.zeros(len(work.vertices) + len(middles), np.int64)
        row[work.faces.reshape(-1)[::-1]] = work.wedges.reshape(-1)[::-1]
        row[len(work.vertices) :] = row[near]
        work.wedges = np.concatenate([work.wedges, row[faces]])
    work.grow(middles, near)
    work.set_faces(np.concatenate([work.faces, faces]))
    return len(faces)


def _remesh(work: _Work, options: FinishOptions, progress: Progress) -> int:
    """A new mesh around the old one; how many faces there were. Colors follow, texture coordinates cannot."""
    count, rows = len(work.faces), work.rows
    corners = work.wedges if work.wedges is not None else work.faces
    vertices, faces, face, weights = remesh(
        work.vertices, work.faces, options.remesh, project_back=options.project_back, callback=progress
    )
    if rows is not None:
        rows = np.einsum("vk,vkc->vc", weights, rows[corners[face]])[:, 2 * work.has_uv :]
    work.vertices, work.rows, work.wedges, work.has_uv = vertices, rows, None, False
    work.set_faces(faces)
    return count


def _decimate(work: _Work, target: int, progress: Progress) -> int:
    """Decimates a mesh, its seams of texture coordinates kept whole; how many faces there were."""
    count = len(work.faces)
    if work.wedges is None:
        border = len(work.edges.border)
        faces, place = used(work.vertices, work.faces)
        done = decimate(work.vertices[place], faces, target, keep_border=border <= target // 2, callback=progress)
        if work.rows is not None:
            old = work.rows[place][faces[done.face]]
            work.rows = np.einsum("vk,vkc->vc", done.weights, old)
            work.rows[done.fixed] = old[done.fixed, done.weights[done.fixed].argmax(1)]
        work.vertices = done.vertices
        work.set_faces(done.faces)
        return count
    pair, corner = np.unique(
        work.faces.reshape(-1) * (int(work.wedges.max()) + 1) + work.wedges.reshape(-1), return_inverse=True
    )
    vertex, row = pair // (int(work.wedges.max()) + 1), pair % (int(work.wedges.max()) + 1)
    split = corner.reshape(-1, 3)
    done = decimate(work.vertices[vertex], split, target, keep_border=True, callback=progress)
    _, chart = face_components(Edges.of(split))
    chart_of = np.zeros(len(pair), np.int64)
    chart_of[split] = chart[:, None]
    rows = np.einsum("vk,vkc->vc", done.weights, work.rows[row[split[done.face]]])
    stay = done.fixed | (chart[done.face] != chart_of[done.survivor])  # the closest point is on another chart
    rows[stay] = work.rows[row[done.survivor[stay]]]
    # Copies of a seam's vertex are one place again; all others are places of their own.
    name = np.where(done.fixed, vertex[done.survivor], len(work.vertices) + np.arange(len(done.vertices)))
    _, first, place = np.unique(name, return_index=True, return_inverse=True)
    work.vertices, work.rows, work.wedges = done.vertices[first], rows, done.faces
    work.set_faces(place[done.faces])
    return count


def _result(work: _Work, part: Part, normals: bool) -> Part:
    """The part as others want it: vertices doubled along seams, none without a face."""
    smooth = smooth_normals(work.vertices, work.faces) if normals else None
    if work.wedges is None:
        faces, vertex = used(work.vertices, work.faces)
        row = vertex
    else:
        base = int(work.wedges.max()) + 1
        pair, first, corner = np.unique(
            work.faces.reshape(-1) * base + work.wedges.reshape(-1), return_index=True, return_inverse=True
        )
        order = np.argsort(first)  # in the order in which faces name them, so that it stays the same the next time
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        faces, vertex, row = rank[corner].reshape(-1, 3), (pair // base)[order], (pair % base)[order]

    def tensor(values: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))

    rows = None if work.rows is None else tensor(work.rows[row])
    uv = rows[:, :2] if work.has_uv else None
    colors = rows[:, 2 * work.has_uv :] if rows is not None and rows.shape[1] > 2 * work.has_uv else None
    material = part.material
    if material.textures and uv is None:
        names = ("base_color", "metallic_roughness", "occlusion", "normal", "emissive")
        material = replace(material, **dict.fromkeys(names))
    return Part(
        tensor(work.vertices[vertex]), torch.from_numpy(faces), material, part.name,
        normals=None if smooth is None else tensor(smooth[vertex]),
        uv=None if uv is None else uv.contiguous(), colors=None if colors is None else colors.contiguous(),
    )  # fmt: skip
