// Oriented boxes: corners, rays, silhouettes, masks and how much of each is seen.
import type { Box, Vec3 } from "../scene/types.ts";
import { project, type Pinhole, type Ray } from "./camera.ts";
import { add, apply, applyInverse, rotation, sub } from "./vec.ts";

export const WIRE = 1.011547; // the wire frame of the control image reaches this far around the box
export const CELLS = 32;

/** Corner signs; bit 0 = x, bit 1 = y, bit 2 = z. */
const SIGNS: Vec3[] = Array.from({ length: 8 }, (_, i) => [i & 1 ? 1 : -1, i & 2 ? 1 : -1, i & 4 ? 1 : -1] as Vec3);
export const EDGES = [0, 1, 2, 3, 4, 5, 6].flatMap((i) => [1, 2, 4].filter((b) => !(i & b)).map((b) => [i, i | b]));
/** Local −X, +X, −Y, +Y, −Z, +Z as corner loops. */
export const FACES = [
  [0, 2, 6, 4],
  [1, 3, 7, 5],
  [0, 1, 5, 4],
  [2, 3, 7, 6],
  [0, 1, 3, 2],
  [4, 5, 7, 6],
];

export const centre = (box: Box): Vec3 => [box.position[0], box.position[1], box.position[2] + box.size[2] / 2];

export function corners(box: Box, inflate = 1): Vec3[] {
  const rows = rotation(box.yaw_deg, box.tilt);
  const c = centre(box);
  const half = box.size.map((v) => (v * inflate) / 2);
  return SIGNS.map((s) => add(c, apply(rows, [s[0] * half[0], s[1] * half[1], s[2] * half[2]])));
}

export function localRay(box: Box, r: Ray): Ray {
  const rows = rotation(box.yaw_deg, box.tilt);
  return { origin: applyInverse(rows, sub(r.origin, centre(box))), direction: applyInverse(rows, r.direction) };
}

/** Entry and exit along the ray and the local axis of the face entered, or null. */
export function hitBox(box: Box, r: Ray): { near: number; far: number; axis: number } | null {
  const { origin, direction } = localRay(box, r);
  let [near, far, axis] = [-Infinity, Infinity, 0];
  for (let i = 0; i < 3; i++) {
    const half = box.size[i] / 2;
    if (Math.abs(direction[i]) < 1e-12) {
      if (Math.abs(origin[i]) > half) return null;
      continue;
    }
    let [a, b] = [(-half - origin[i]) / direction[i], (half - origin[i]) / direction[i]];
    if (a > b) [a, b] = [b, a];
    if (a > near) [near, axis] = [a, i];
    far = Math.min(far, b);
  }
  return far >= near && far > 0 ? { near, far, axis } : null;
}

/** Corner points of the world box around a box. */
export function bounds(box: Box): { min: Vec3; max: Vec3 } {
  const points = corners(box);
  const pick = (f: (...v: number[]) => number): Vec3 => [0, 1, 2].map((i) => f(...points.map((p) => p[i]))) as Vec3;
  return { min: pick(Math.min), max: pick(Math.max) };
}

/** Convex hull (counter-clockwise in y-up terms) of 2D points. */
export function hull(points: number[][]): number[][] {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const turn = (o: number[], a: number[], b: number[]) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const half = (list: number[][]) => {
    const out: number[][] = [];
    for (const p of list) {
      while (out.length > 1 && turn(out[out.length - 2], out[out.length - 1], p) <= 0) out.pop();
      out.push(p);
    }
    out.pop();
    return out;
  };
  return sorted.length < 3 ? sorted : [...half(sorted), ...half(sorted.reverse())];
}

/** Outline of a box in the picture; edges that cross the near plane are cut there. Empty behind the camera. */
export function silhouette(box: Box, camera: Pinhole, near = 0.1, inflate = WIRE): number[][] {
  const world = corners(box, inflate);
  const seen = world.map((p) => project(camera, p));
  const points = seen.filter((p) => p[2] > near).map((p) => [p[0], p[1]]);
  for (const [a, b] of EDGES) {
    const [da, db] = [seen[a][2], seen[b][2]];
    if (da > near === db > near) continue;
    const t = (near - da) / (db - da);
    const p = project(camera, world[a].map((v, i) => v + t * (world[b][i] - v)) as Vec3);
    points.push([p[0], p[1]]);
  }
  return hull(points);
}

/** 32×32 cells of a w×h picture that the outline touches (any pixel centre within `reach` px of it). */
export function cells(outline: number[][], w: number, h: number, reach = 0.9): Uint8Array {
  const out = new Uint8Array(CELLS * CELLS);
  if (outline.length < 3) return out;
  const edges = outline.map((p, i) => {
    const q = outline[(i + 1) % outline.length];
    const n = [q[1] - p[1], p[0] - q[0]];
    const l = Math.hypot(n[0], n[1]) || 1;
    return [n[0] / l, n[1] / l, -(n[0] * p[0] + n[1] * p[1]) / l - reach]; // outside is positive
  });
  const ys = outline.map((p) => p[1]);
  const first = Math.max(0, Math.ceil(Math.min(...ys) - reach - 0.5));
  const last = Math.min(h - 1, Math.floor(Math.max(...ys) + reach - 0.5));
  for (let y = first; y <= last; y++) {
    let [low, high] = [-Infinity, Infinity];
    for (const [a, b, c] of edges) {
      const rest = b * (y + 0.5) + c;
      if (Math.abs(a) < 1e-12) {
        if (rest > 0) high = -Infinity;
      } else if (a > 0) high = Math.min(high, -rest / a);
      else low = Math.max(low, -rest / a);
    }
    const from = Math.max(0, Math.ceil(low - 0.5));
    const to = Math.min(w - 1, Math.floor(high - 0.5));
    if (from > to) continue;
    const [left, right] = cellRange(from, to, w);
    const [top, bottom] = cellRange(y, y, h);
    for (let r = top; r <= bottom; r++) out.fill(1, r * CELLS + left, r * CELLS + right + 1);
  }
  return out;
}

/** First and last of the 32 cells that hold a pixel of from..to; where 32 does not divide `n` neighbours share pixels. */
function cellRange(from: number, to: number, n: number): [number, number] {
  let left = Math.floor((from * CELLS) / n);
  while (left > 0 && Math.ceil((left * n) / CELLS) > from) left--;
  let right = Math.floor((to * CELLS) / n);
  while (right < CELLS - 1 && Math.floor(((right + 1) * n) / CELLS) <= to) right++;
  return [left, right];
}

/** Pixels of the masks: the longest side is 1024, as the reference draws them. */
export const maskSize = ([w, h]: [number, number]): [number, number] => {
  const side = (v: number) => Math.max(CELLS, Math.round((v * 1024) / Math.max(w, h)));
  return [side(w), side(h)];
};
