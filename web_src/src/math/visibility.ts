// How much of each box is seen, who hides the rest, and how many boxes stand behind each other.
import type { Box } from "../scene/types.ts";
import { centre, CELLS, silhouette } from "./box.ts";
import type { Pinhole } from "./camera.ts";
import { applyInverse, rotation, sub } from "./vec.ts";

export interface Seen {
  total: number; // samples of the box inside the frame
  visible: number;
  outside: number; // part of the silhouette outside the frame, 0..1
  occluders: Map<number, number>;
}

interface Slab {
  start: number[]; // the eye in the box's own frame, in half extents
  steps: number[]; // forward, right, up there: 9 numbers
  rect: number[]; // left, right, top, bottom of the outline
}

/** What every ray of one camera needs of a box: rays differ in two numbers only. */
function slab(box: Box, camera: Pinhole, outline: number[][]): Slab {
  const rows = rotation(box.yaw_deg, box.tilt);
  const local = (v: typeof camera.position) => applyInverse(rows, v).map((c, i) => (2 * c) / box.size[i]);
  const xs = outline.map((p) => p[0]);
  const ys = outline.map((p) => p[1]);
  return {
    start: local(sub(camera.position, centre(box))),
    steps: [...local(camera.forward), ...local(camera.right), ...local(camera.up)],
    rect: [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)],
  };
}

/** Depth at which the ray through the picture at (a, b) focal lengths enters the box; -1 where it misses. */
function depth({ start, steps }: Slab, a: number, b: number): number {
  let near = -Infinity;
  let far = Infinity;
  for (let i = 0; i < 3; i++) {
    const d = steps[i] + a * steps[3 + i] + b * steps[6 + i];
    const o = start[i];
    if (Math.abs(d) < 1e-12) {
      if (Math.abs(o) > 1) return -1;
      continue;
    }
    const t = -o / d;
    const w = Math.abs(1 / d);
    if (t - w > near) near = t - w;
    if (t + w < far) far = t + w;
  }
  return far >= near && far > 0 ? Math.max(near, 0) : -1;
}

/** Shoot n×n rays at the part of each box that is in the picture, all taken for opaque. */
export function visibility(boxes: Box[], camera: Pinhole, w: number, h: number, n = 64): Seen[] {
  const outlines = boxes.map((b) => silhouette(b, camera, 0.1, 1));
  const slabs = boxes.map((b, i) => slab(b, camera, outlines[i]));
  return boxes.map((_, i) => {
    const seen: Seen = { total: 0, visible: 0, outside: outsidePart(outlines[i], w, h), occluders: new Map() };
    if (outlines[i].length < 3) return seen;
    const [left, right, top, bottom] = slabs[i].rect.map((v, k) => Math.min(Math.max(v, 0), k < 2 ? w : h));
    if (right <= left || bottom <= top) return seen;
    const others = slabs.map((s, j) => ({ s, j })).filter(({ s, j }) =>
      j !== i && outlines[j].length && s.rect[0] < right && left < s.rect[1] && s.rect[2] < bottom && top < s.rect[3]);
    for (let v = 0; v < n; v++) {
      const b = (camera.cy - top - ((v + 0.5) / n) * (bottom - top)) / camera.focal;
      for (let u = 0; u < n; u++) {
        const a = (left + ((u + 0.5) / n) * (right - left) - camera.cx) / camera.focal;
        const own = depth(slabs[i], a, b);
        if (own < 0) continue;
        seen.total++;
        let before = -1;
        let least = own;
        for (const { s, j } of others) {
          const t = depth(s, a, b);
          if (t >= 0 && (t < least || (t === least && j < i && before < 0))) [before, least] = [j, t];
        }
        if (before < 0) seen.visible++;
        else seen.occluders.set(before, (seen.occluders.get(before) ?? 0) + 1);
      }
    }
    return seen;
  });
}

/** Which box is seen first in the middle of each of the 32×32 cells of the frame: its place in the list, or -1. */
export function nearestPerCell(boxes: Box[], camera: Pinhole, w: number, h: number): Int16Array {
  const slabs = boxes.map((b) => slab(b, camera, silhouette(b, camera, 0.1, 1)));
  const out = new Int16Array(CELLS * CELLS).fill(-1);
  for (let i = 0; i < out.length; i++) {
    const a = ((((i % CELLS) + 0.5) / CELLS) * w - camera.cx) / camera.focal;
    const b = (camera.cy - ((Math.floor(i / CELLS) + 0.5) / CELLS) * h) / camera.focal;
    let least = Infinity;
    slabs.forEach((s, k) => {
      const t = depth(s, a, b);
      if (t >= 0 && t < least) [out[i], least] = [k, t];
    });
  }
  return out;
}

/** The most boxes whose outlines lie over each other at one of 32×32 places of the picture. */
export function mostOverlaps(boxes: Box[], camera: Pinhole, w: number, h: number): number {
  const outlines = boxes.map((b) => silhouette(b, camera)).filter((o) => o.length > 2);
  const step = Math.max(w, h) / CELLS;
  let most = 0;
  for (let y = step / 16; y < h; y += step)
    for (let x = step / 16; x < w; x += step) most = Math.max(most, outlines.filter((o) => within(o, x, y)).length);
  return most;
}

/** Whether a point lies in a convex outline. */
function within(outline: number[][], x: number, y: number): boolean {
  let sign = 0;
  return outline.every((p, i) => {
    const q = outline[(i + 1) % outline.length];
    const side = Math.sign((q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]));
    if (side && sign && side !== sign) return false;
    sign ||= side;
    return true;
  });
}

function outsidePart(outline: number[][], w: number, h: number): number {
  if (outline.length < 3) return 1;
  const all = area(outline);
  let cut = outline;
  for (const [axis, limit, keep] of [[0, 0, 1], [0, w, -1], [1, 0, 1], [1, h, -1]] as const) {
    const inside = (p: number[]) => (p[axis] - limit) * keep >= 0;
    cut = cut.flatMap((p, i) => {
      const q = cut[(i + 1) % cut.length];
      const t = (limit - p[axis]) / (q[axis] - p[axis]);
      const mid = [p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])];
      return inside(p) ? (inside(q) ? [p] : [p, mid]) : inside(q) ? [mid] : [];
    });
    if (!cut.length) return 1;
  }
  return all > 0 ? 1 - area(cut) / all : 1;
}

function area(points: number[][]): number {
  return Math.abs(points.reduce((sum, p, i) => {
    const q = points[(i + 1) % points.length];
    return sum + p[0] * q[1] - q[0] * p[1];
  }, 0)) / 2;
}
