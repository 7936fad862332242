// Snapping of a moved box: to the grid, to the floor, to faces and centres of other boxes.
import type { Box, Vec3 } from "../scene/types.ts";
import { bounds } from "./box.ts";
import { round } from "./vec.ts";

export interface Guide {
  axis: 0 | 1 | 2;
  at: number;
  with: string; // id of the other box
}

/** Shift (per axis) that puts a face or the centre of `box` on one of another box, where one is within `reach`. */
export function snapToBoxes(box: Box, others: Box[], reach: number, axes: number[] = [0, 1, 2]) {
  const own = bounds(box);
  const shift: Vec3 = [0, 0, 0];
  const guides: Guide[] = [];
  for (const axis of axes as (0 | 1 | 2)[]) {
    const mine = [own.min[axis], own.max[axis], (own.min[axis] + own.max[axis]) / 2];
    let best = reach;
    let guide: Guide | null = null;
    const consider = (value: number, targets: number[], id: string) => {
      for (const target of targets)
        if (Math.abs(target - value) < best) {
          best = Math.abs(target - value);
          shift[axis] = target - value;
          guide = { axis, at: target, with: id };
        }
    };
    if (axis === 2) consider(mine[0], [0], "floor");
    for (const other of others) {
      const its = bounds(other);
      consider(mine[0], [its.min[axis], its.max[axis]], other.id);
      consider(mine[1], [its.min[axis], its.max[axis]], other.id);
      consider(mine[2], [(its.min[axis] + its.max[axis]) / 2], other.id);
    }
    if (guide) guides.push(guide);
  }
  return { shift, guides };
}

export const snapPoint = (p: Vec3, step: number): Vec3 => p.map((v) => round(v, step)) as Vec3;

/** Height on which a box comes to rest when it drops: the highest top below it, or the floor. */
export function surfaceBelow(box: Box, others: Box[]): number {
  const own = bounds(box);
  let top = 0;
  for (const other of others) {
    const its = bounds(other);
    const apart = [0, 1].some((i) => own.max[i] <= its.min[i] + 1e-6 || its.max[i] <= own.min[i] + 1e-6);
    if (!apart && its.max[2] <= own.min[2] + 1e-6) top = Math.max(top, its.max[2]);
  }
  return top;
}

/** A free place for a box of this size near (x, y): rings of tries until it touches nothing. */
export function freePlace(size: Vec3, near: [number, number], others: Box[]): [number, number] {
  const taken = others.map(bounds);
  const gap = 0.05;
  const fits = (x: number, y: number) =>
    taken.every((b) => x + size[0] / 2 + gap < b.min[0] || x - size[0] / 2 - gap > b.max[0] ||
      y + size[1] / 2 + gap < b.min[1] || y - size[1] / 2 - gap > b.max[1]);
  for (let ring = 0; ring < 80; ring++)
    for (let k = 0; k < Math.max(1, ring * 6); k++) {
      const turn = Math.PI / 2 + (2 * Math.PI * k) / Math.max(1, ring * 6);
      const [x, y] = [round(near[0] + Math.cos(turn) * ring * 0.25, 0.05), round(near[1] + Math.sin(turn) * ring * 0.25, 0.05)];
      if (fits(x, y)) return [x, y];
    }
  return near;
}
