// The handles around the selection, as shapes on the screen: 96 CSS pixels long whatever the zoom. Drawing, hitting and
// dragging use the same shapes, with or without WebGL.
import { centre } from "../math/box.ts";
import { project, type Pinhole } from "../math/camera.ts";
import { add, apply, mul, rotation } from "../math/vec.ts";
import type { Palette } from "../render/look.ts";
import type { Vec3 } from "../scene/types.ts";
import { pivotOf, type Handle } from "./gesture.ts";
import type { Store } from "./store.ts";

export const REACH = 96;
const HIT = 11; // px; with a coarse pointer twice that
const NAMES = ["x", "y", "z"];

export interface Shape {
  name: string; // for tests and labels: "move-x", "turn", "scale+z", …
  handle: Handle;
  colour: string;
  line?: number[][]; // polyline
  fill?: number[][]; // polygon
  dot?: number[]; // square or arrow head at
  arrow?: boolean;
  grip: number[]; // where a finger would take it
}

const unit = (i: number): Vec3 => [i === 0 ? 1 : 0, i === 1 ? 1 : 0, i === 2 ? 1 : 0];

/** Shapes of the present tool, nearest last. Empty without an unlocked selection. */
export function gizmoShapes(store: Store, camera: Pinhole, palette: Palette): Shape[] {
  const boxes = store.selection.filter((b) => !b.locked);
  if (!boxes.length || store.readOnly) return [];
  const colours = [palette.axisX, palette.axisY, palette.axisZ];
  const at = (p: Vec3) => project(camera, p);
  const { tool } = store.session;
  const pivot = pivotOf(boxes, tool === "turn");
  const middle = at(pivot);
  if (middle[2] < 0.05) return [];
  const s = (REACH * middle[2]) / camera.focal;
  const shapes: Shape[] = [];
  if (tool === "move") {
    for (const axis of [0, 1, 2]) {
      const [u, v] = [(axis + 1) % 3, (axis + 2) % 3].map(unit);
      const quad = [[0.22, 0.22], [0.42, 0.22], [0.42, 0.42], [0.22, 0.42]].map(([a, b]) => at(add(pivot, add(mul(u, a * s), mul(v, b * s)))));
      const across = Math.abs((quad[1][0] - quad[0][0]) * (quad[3][1] - quad[0][1]) - (quad[1][1] - quad[0][1]) * (quad[3][0] - quad[0][0]));
      if (across > 60)
        shapes.push({ name: `plane-${NAMES[axis]}`, handle: { kind: "plane", axis }, colour: colours[axis], fill: quad, grip: mid(quad) });
    }
    for (const axis of [0, 1, 2]) {
      const tip = at(add(pivot, mul(unit(axis), s)));
      const length = Math.hypot(tip[0] - middle[0], tip[1] - middle[1]);
      if (length < 14) continue; // seen from its end: nothing to take hold of
      const from = lerp(middle, tip, 0.12);
      shapes.push({ name: `move-${NAMES[axis]}`, handle: { kind: "move", axis }, colour: colours[axis], line: [from, tip], dot: tip, arrow: true, grip: lerp(middle, tip, 0.8) });
    }
  } else if (tool === "turn") {
    const ring = Array.from({ length: 65 }, (_, i) => {
      const a = (i / 64) * 2 * Math.PI;
      return at(add(pivot, [Math.cos(a) * s, Math.sin(a) * s, 0]));
    });
    const yaw = rotation(boxes[boxes.length - 1].yaw_deg);
    const tip = at(add(pivot, apply(yaw, [s, 0, 0])));
    shapes.push({ name: "turn", handle: { kind: "turn" }, colour: colours[2], line: ring, dot: tip, grip: [tip[0], tip[1]] });
  } else {
    const box = store.primary && !store.primary.locked ? store.primary : boxes[0];
    const rows = rotation(box.yaw_deg, box.tilt);
    const c = centre(box);
    for (const [axis, sign] of [[0, 1], [0, -1], [1, 1], [1, -1], [2, 1]]) {
      const face = add(c, mul(apply(rows, unit(axis)), (sign * box.size[axis]) / 2));
      const tip = at(add(face, mul(apply(rows, unit(axis)), sign * s * 0.28)));
      const base = at(face);
      if (tip[2] < 0.05) continue;
      const name = `scale${sign > 0 ? "+" : "-"}${NAMES[axis]}`;
      shapes.push({ name, handle: { kind: "scale", axis, sign }, colour: colours[axis], line: [base, tip], dot: tip, grip: [tip[0], tip[1]] });
    }
    const corner = at(add(c, apply(rows, box.size.map((v) => (v / 2) * 1.04) as Vec3)));
    shapes.push({ name: "uniform", handle: { kind: "uniform" }, colour: palette.ink, dot: corner, grip: [corner[0], corner[1]] });
  }
  return shapes;
}

const lerp = (a: number[], b: number[], t: number): number[] => [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t];
const mid = (points: number[][]): number[] => [0, 1].map((i) => points.reduce((s, p) => s + p[i], 0) / points.length);

function toSegment(x: number, y: number, a: number[], b: number[]): number {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const t = Math.max(0, Math.min(1, ((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - a[0] - t * dx, y - a[1] - t * dy);
}
export function inside(x: number, y: number, polygon: number[][]): boolean {
  let odd = false;
  polygon.forEach((p, i) => {
    const q = polygon[(i + 1) % polygon.length];
    if (p[1] > y !== q[1] > y && x < ((q[0] - p[0]) * (y - p[1])) / (q[1] - p[1]) + p[0]) odd = !odd;
  });
  return odd;
}

/** The handle under the pointer, the nearest one within reach. */
export function hitGizmo(shapes: Shape[], x: number, y: number, coarse = false): Shape | null {
  const reach = coarse ? HIT * 2 : HIT;
  let best: Shape | null = null;
  let least = reach;
  for (const shape of shapes) {
    let d = Infinity;
    if (shape.line) for (let i = 1; i < shape.line.length; i++) d = Math.min(d, toSegment(x, y, shape.line[i - 1], shape.line[i]));
    if (shape.dot) d = Math.min(d, Math.hypot(x - shape.dot[0], y - shape.dot[1]) - 4);
    if (shape.fill && inside(x, y, shape.fill)) d = Math.min(d, 3);
    if (d < least) [best, least] = [shape, d];
  }
  return best;
}

export function drawGizmo(ctx: CanvasRenderingContext2D, shapes: Shape[], hot: string | null, palette: Palette): void {
  ctx.lineCap = "round";
  ctx.lineJoin = "round";
  for (const shape of shapes) {
    const colour = shape.name === hot ? palette.accent : shape.colour;
    if (shape.fill) {
      path(ctx, shape.fill, true);
      ctx.globalAlpha = shape.name === hot ? 0.75 : 0.35;
      ctx.fillStyle = colour;
      ctx.fill();
      ctx.globalAlpha = 1;
      ctx.lineWidth = 1;
      ctx.strokeStyle = colour;
      ctx.stroke();
    }
    if (shape.line) {
      path(ctx, shape.line, false);
      ctx.strokeStyle = palette.halo;
      ctx.globalAlpha = 0.55;
      ctx.lineWidth = 5;
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.strokeStyle = colour;
      ctx.lineWidth = shape.name === hot ? 3.5 : 2.5;
      ctx.stroke();
    }
    if (shape.dot) drawTip(ctx, shape, colour, palette);
  }
}

function drawTip(ctx: CanvasRenderingContext2D, shape: Shape, colour: string, palette: Palette): void {
  const [x, y] = shape.dot;
  ctx.fillStyle = colour;
  ctx.strokeStyle = palette.halo;
  ctx.lineWidth = 1;
  ctx.beginPath();
  if (shape.arrow && shape.line) {
    const a = Math.atan2(y - shape.line[0][1], x - shape.line[0][0]);
    ctx.moveTo(x + Math.cos(a) * 9, y + Math.sin(a) * 9);
    for (const side of [2.5, -2.5]) ctx.lineTo(x + Math.cos(a + side) * 8, y + Math.sin(a + side) * 8);
    ctx.closePath();
  } else ctx.rect(x - 5, y - 5, 10, 10);
  ctx.fill();
  ctx.stroke();
}

export function path(ctx: CanvasRenderingContext2D, points: number[][], close: boolean): void {
  ctx.beginPath();
  points.forEach((p, i) => (i ? ctx.lineTo(p[0], p[1]) : ctx.moveTo(p[0], p[1])));
  if (close) ctx.closePath();
}
