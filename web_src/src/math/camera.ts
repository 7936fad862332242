// A pinhole: position, axes (right, up, forward) and where it falls on a rectangle of pixels, y down.
import type { Camera, Orbit, Vec3 } from "../scene/types.ts";
import { add, dot, length, mul, quaternionRows, RAD, sub } from "./vec.ts";

export interface Pinhole {
  position: Vec3;
  right: Vec3;
  up: Vec3;
  forward: Vec3;
  focal: number; // pixels
  cx: number;
  cy: number;
}

export interface Ray {
  origin: Vec3;
  direction: Vec3; // depth 1 per unit: not normalised
}

/** Axes of an orbit; valid straight from above. */
export function orbitAxes(orbit: Orbit): { position: Vec3; right: Vec3; up: Vec3; forward: Vec3 } {
  const [ca, sa] = [Math.cos(orbit.azimuth_deg * RAD), Math.sin(orbit.azimuth_deg * RAD)];
  const [ce, se] = [Math.cos(orbit.elevation_deg * RAD), Math.sin(orbit.elevation_deg * RAD)];
  const away: Vec3 = [ce * ca, ce * sa, se];
  return {
    position: add(orbit.target, mul(away, orbit.distance)),
    right: [-sa, ca, 0],
    up: [-se * ca, -se * sa, ce],
    forward: mul(away, -1),
  };
}

/** Axes of a camera of the document (orbit or free). */
export function cameraAxes(camera: Camera): { position: Vec3; right: Vec3; up: Vec3; forward: Vec3 } {
  if (camera.mode === "free" && camera.free) {
    const rows = quaternionRows(camera.free.rotation);
    return {
      position: camera.free.position,
      right: [rows[0][0], rows[1][0], rows[2][0]],
      up: [rows[0][1], rows[1][1], rows[2][1]],
      forward: [-rows[0][2], -rows[1][2], -rows[2][2]],
    };
  }
  return orbitAxes(camera.orbit);
}

/** The camera on a picture of w×h pixels whose top left corner lies at (x, y). */
export function pinhole(camera: Camera, w: number, h: number, x = 0, y = 0): Pinhole {
  const longest = Math.max(w, h);
  return {
    ...cameraAxes(camera),
    focal: (camera.lens_mm / camera.sensor_mm) * longest,
    cx: x + w / 2 + camera.shift[0] * longest,
    cy: y + h / 2 - camera.shift[1] * longest,
  };
}

/** [x, y, depth] of a point; x and y mean nothing where depth is not positive. */
export function project(camera: Pinhole, point: Vec3): Vec3 {
  const q = sub(point, camera.position);
  const depth = dot(q, camera.forward);
  const s = camera.focal / depth;
  return [camera.cx + s * dot(q, camera.right), camera.cy - s * dot(q, camera.up), depth];
}

export function ray(camera: Pinhole, x: number, y: number): Ray {
  const a = (x - camera.cx) / camera.focal;
  const b = (camera.cy - y) / camera.focal;
  return { origin: camera.position, direction: add(camera.forward, add(mul(camera.right, a), mul(camera.up, b))) };
}

/** Where a ray meets the plane through `point` with normal `n`, or null. */
export function meetPlane(r: Ray, point: Vec3, n: Vec3): Vec3 | null {
  const slope = dot(r.direction, n);
  if (Math.abs(slope) < 1e-9) return null;
  const t = dot(sub(point, r.origin), n) / slope;
  return t > 0 ? add(r.origin, mul(r.direction, t)) : null;
}

/** Parameter along the line point + s·axis that lies nearest to the ray. */
export function nearestOnLine(r: Ray, point: Vec3, axis: Vec3): number {
  const w = sub(point, r.origin);
  const [a, b, c] = [dot(axis, axis), dot(axis, r.direction), dot(r.direction, r.direction)];
  const [d, e] = [dot(axis, w), dot(r.direction, w)];
  const den = a * c - b * b;
  return Math.abs(den) < 1e-12 ? 0 : (b * e - c * d) / den;
}

/** Largest rectangle of aspect W:H inside w×h, centred, with `margin` left free on every side. */
export function frameRect(w: number, h: number, W: number, H: number, margin: number) {
  const s = Math.min((w - 2 * margin) / W, (h - 2 * margin) / H);
  return { x: (w - W * s) / 2, y: (h - H * s) / 2, w: W * s, h: H * s };
}

/** The similarity that brings a roll-free camera looking at the floor to the reference's: azimuth 0, distance 6. */
export function canonical(camera: Camera) {
  const { position, right, forward } = cameraAxes(camera);
  const rolled = Math.abs(right[2]) > 1e-6;
  if (rolled || forward[2] >= -1e-9 || position[2] <= 1e-9 || camera.shift[0] !== 0 || camera.shift[1] !== 0) return null;
  const target = add(position, mul(forward, -position[2] / forward[2]));
  const away = sub(position, target);
  const distance = length(away);
  const elevation = Math.asin(Math.min(1, away[2] / distance)) / RAD;
  const azimuth = Math.atan2(-right[0], right[1]) / RAD;
  const [c, s] = [Math.cos(azimuth * RAD), Math.sin(azimuth * RAD)];
  const scale = 6 / distance;
  const move = (p: Vec3): Vec3 => {
    const q = sub(p, target);
    return [scale * (c * q[0] + s * q[1]), scale * (c * q[1] - s * q[0]), scale * q[2]];
  };
  return { target, distance, elevation, azimuth, scale, move };
}
