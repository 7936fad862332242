// What a drag does to the selected boxes: moves, turns and scales, by pointer or by typed numbers.
import { bounds, centre } from "../math/box.ts";
import { meetPlane, nearestOnLine, type Ray } from "../math/camera.ts";
import { snapToBoxes, type Guide } from "../math/snap.ts";
import { add, apply, clamp, dot, mul, rotation, round, sub, wrapDegrees } from "../math/vec.ts";
import type { Box, Vec3 } from "../scene/types.ts";
import type { Store } from "./store.ts";

export type Handle =
  | { kind: "move"; axis: number }
  | { kind: "plane"; axis: number }
  | { kind: "turn" }
  | { kind: "scale"; axis: number; sign: number }
  | { kind: "uniform" }
  | { kind: "floor"; id: string }
  | { kind: "free" };

export interface Modifiers {
  snap: boolean; // Ctrl, or the snap switch without it
  fine: boolean; // Shift
  centred: boolean; // Alt
}

const AXES: Vec3[] = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
const UP: Vec3 = [0, 0, 1];
export const LENGTH = 1e-4; // gestures round to this
export const ANGLE = 1e-3;
const MIN = 0.001;

export class Transform {
  readonly start: Map<string, Box>;
  readonly pivot: Vec3;
  guides: Guide[] = [];
  private from: Vec3 | null = null;
  private s0 = 0;
  private angle0 = 0;
  private lastRay: Ray | null = null;
  private fineFrom: Ray | null = null;

  constructor(private readonly store: Store, readonly handle: Handle) {
    const boxes = store.selection.filter((b) => !b.locked);
    this.start = new Map(boxes.map((b) => [b.id, JSON.parse(JSON.stringify(b))]));
    this.pivot = pivotOf(boxes, handle.kind === "turn");
    store.begin();
  }

  get lead(): Box | null {
    return this.start.get(this.store.primary?.id) ?? [...this.start.values()][0] ?? null;
  }

  /** First ray of a pointer drag. */
  grab(ray: Ray): void {
    const h = this.handle;
    if (h.kind === "move") this.s0 = nearestOnLine(ray, this.pivot, AXES[h.axis]);
    else if (h.kind === "scale") this.s0 = nearestOnLine(ray, this.faceCentre(h.axis, h.sign), this.localAxis(h.axis));
    else if (h.kind === "turn") this.angle0 = this.angleOf(ray) ?? 0;
    else if (h.kind === "uniform") this.s0 = Math.max(this.spread(ray), 1e-6);
    else this.from = this.onPlane(ray);
    this.lastRay = ray;
  }

  drag(ray: Ray, mods: Modifiers): void {
    const h = this.handle;
    if (mods.fine) {
      // a tenth of the way from where Shift went down
      this.fineFrom ??= this.lastRay;
      const base = this.fineFrom;
      ray = { origin: add(base.origin, mul(sub(ray.origin, base.origin), 0.1)), direction: add(base.direction, mul(sub(ray.direction, base.direction), 0.1)) };
    } else this.fineFrom = null;
    this.lastRay = mods.fine ? this.lastRay : ray;
    if (h.kind === "move") this.move(mul(AXES[h.axis], nearestOnLine(ray, this.pivot, AXES[h.axis]) - this.s0), mods, [h.axis]);
    else if (h.kind === "scale") {
      const s = nearestOnLine(ray, this.faceCentre(h.axis, h.sign), this.localAxis(h.axis));
      this.scale(h.axis, h.sign, (s - this.s0) * h.sign, mods);
    } else if (h.kind === "turn") {
      const angle = this.angleOf(ray);
      if (angle !== null) this.turn(angle - this.angle0, mods);
    } else if (h.kind === "uniform") this.scaleAll(this.spread(ray) / this.s0, mods);
    else {
      const to = this.onPlane(ray);
      if (to && this.from) this.move(sub(to, this.from), mods, h.kind === "plane" ? [0, 1, 2].filter((a) => a !== h.axis) : [0, 1]);
    }
  }

  /** Shift everything by `delta` along the axes named. */
  move(delta: Vec3, mods: Modifiers, axes = [0, 1, 2]): void {
    const lead = this.lead;
    if (!lead) return;
    this.guides = [];
    const step = this.store.session.grid / (mods.fine ? 10 : 1);
    const shift = delta.map((v, i) => (axes.includes(i) ? v : 0)) as Vec3;
    if (mods.snap) {
      const moved = { ...lead, position: add(lead.position, shift) };
      const others = this.store.shown.filter((b) => !this.start.has(b.id));
      const near = snapToBoxes(moved, others, Math.max(0.06, step * 0.6), axes);
      for (const axis of axes) {
        const guide = near.guides.find((g) => g.axis === axis);
        if (guide) shift[axis] += near.shift[axis];
        else shift[axis] = round(lead.position[axis] + shift[axis], step) - lead.position[axis];
      }
      this.guides = near.guides;
    }
    this.apply((box, old) => {
      box.position = old.position.map((v, i) => (axes.includes(i) ? limit(round(v + shift[i], LENGTH)) : v)) as Vec3;
    });
  }

  turn(degrees: number, mods: Modifiers): void {
    const lead = this.lead;
    if (!lead) return;
    const step = this.store.session.angle / (mods.fine ? 10 : 1);
    let by = degrees;
    if (mods.snap) by = round(lead.yaw_deg + degrees, step) - lead.yaw_deg;
    const rows = rotation(by);
    const many = this.start.size > 1;
    this.apply((box, old) => {
      box.yaw_deg = wrapDegrees(round(old.yaw_deg + by, ANGLE));
      if (!many) return;
      const p = add(this.pivot, apply(rows, sub(old.position, this.pivot)));
      box.position = [round(p[0], LENGTH), round(p[1], LENGTH), old.position[2]];
    });
  }

  /** One extent grows by `delta`; the opposite face stays, or with Alt the centre (the bottom always stays for height). */
  scale(axis: number, sign: number, delta: number, mods: Modifiers): void {
    const lead = this.lead;
    if (!lead) return;
    const step = this.store.session.grid / (mods.fine ? 10 : 1);
    let size = lead.size[axis] + delta * (mods.centred && axis !== 2 ? 2 : 1);
    if (mods.snap) size = Math.max(round(size, step), step);
    size = clamp(size, MIN, 1000);
    this.apply((box, old) => {
      const ratio = size / lead.size[axis];
      const next = old.id === lead.id ? size : clamp(old.size[axis] * ratio, MIN, 1000);
      box.size = old.size.map((v, i) => (i === axis ? round(next, LENGTH) || MIN : v)) as Vec3;
      box.position = [...old.position] as Vec3;
      if (axis === 2 || mods.centred) return;
      const out = apply(rotation(old.yaw_deg, old.tilt), AXES[axis]);
      const by = ((box.size[axis] - old.size[axis]) / 2) * sign;
      box.position = old.position.map((v, i) => round(v + out[i] * by, LENGTH)) as Vec3;
    });
  }

  scaleAll(factor: number, mods: Modifiers): void {
    const lead = this.lead;
    if (!lead) return;
    let f = Math.max(factor, 1e-3);
    if (mods.snap) f = Math.max(round(f, mods.fine ? 0.01 : 0.1), 0.01);
    const many = this.start.size > 1;
    this.apply((box, old) => {
      box.size = old.size.map((v) => clamp(round(v * f, LENGTH), MIN, 1000)) as Vec3;
      if (many) box.position = old.position.map((v, i) => (i === 2 ? v : round(this.pivot[i] + (v - this.pivot[i]) * f, LENGTH))) as Vec3;
    });
  }

  private apply(change: (box: Box, old: Box) => void): void {
    this.store.change((scene) => {
      for (const box of scene.objects) {
        const old = this.start.get(box.id);
        if (old) change(box, old);
      }
    });
  }

  private localAxis(axis: number): Vec3 {
    return apply(rotation(this.lead.yaw_deg, this.lead.tilt), AXES[axis]);
  }
  private faceCentre(axis: number, sign: number): Vec3 {
    return add(centre(this.lead), mul(this.localAxis(axis), (sign * this.lead.size[axis]) / 2));
  }
  private onPlane(ray: Ray): Vec3 | null {
    const normal = this.handle.kind === "plane" ? AXES[this.handle.axis] : UP;
    const through: Vec3 = this.handle.kind === "floor" ? [0, 0, this.grabHeight] : this.pivot;
    return meetPlane(ray, through, normal);
  }
  grabHeight = 0;
  private angleOf(ray: Ray): number | null {
    const p = meetPlane(ray, this.pivot, UP);
    return p ? (Math.atan2(p[1] - this.pivot[1], p[0] - this.pivot[0]) * 180) / Math.PI : null;
  }
  private spread(ray: Ray): number {
    const t = dot(sub(this.pivot, ray.origin), ray.direction) / dot(ray.direction, ray.direction);
    const p = add(ray.origin, mul(ray.direction, t));
    return Math.hypot(...sub(p, this.pivot));
  }
}

export const limit = (v: number): number => clamp(v, -1000, 1000);

/** Where the gizmo sits: the middle of one box, or of the bounds of several. */
export function pivotOf(boxes: Box[], onFloor = false): Vec3 {
  if (!boxes.length) return [0, 0, 0];
  if (boxes.length === 1) return onFloor ? [...boxes[0].position] as Vec3 : centre(boxes[0]);
  const all = boxes.map(bounds);
  const p = [0, 1, 2].map((i) => (Math.min(...all.map((b) => b.min[i])) + Math.max(...all.map((b) => b.max[i]))) / 2) as Vec3;
  if (onFloor) p[2] = Math.min(...all.map((b) => b.min[2]));
  return p;
}

/** Typed letters and numbers after G, R or S: "X 1.5", "Y-.2", "45". */
export interface Typed {
  axis: number | null;
  number: string;
}
export function applyTyped(t: Transform, tool: "move" | "turn" | "scale", typed: Typed): void {
  const value = Number(typed.number.replace(",", "."));
  if (!typed.number || !Number.isFinite(value)) return;
  const plain = { snap: false, fine: false, centred: false };
  if (tool === "move") t.move(mul(AXES[typed.axis ?? 0], value), plain);
  else if (tool === "turn") t.turn(value, plain);
  else if (typed.axis === null) t.scaleAll(value, plain);
  else if (t.lead) t.scale(typed.axis, 1, t.lead.size[typed.axis] * (value - 1), { ...plain, centred: true });
}
