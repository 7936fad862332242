// Small vectors as plain arrays; pure functions.
import type { Vec3 } from "../scene/types.ts";

export const RAD = Math.PI / 180;
export const add = (a: Vec3, b: Vec3): Vec3 => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const sub = (a: Vec3, b: Vec3): Vec3 => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const mul = (a: Vec3, s: number): Vec3 => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a: Vec3, b: Vec3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const length = (a: Vec3): number => Math.hypot(a[0], a[1], a[2]);
export const normalise = (a: Vec3): Vec3 => mul(a, 1 / (length(a) || 1));
export const cross = (a: Vec3, b: Vec3): Vec3 => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const clamp = (v: number, low: number, high: number): number => Math.min(high, Math.max(low, v));
export const round = (v: number, step: number): number => {
  const inverse = 1 / step;
  const value = Math.round(v * inverse) / inverse;
  return value === 0 ? 0 : Number(value.toFixed(9)); // no -0, no binary tail
};

/** Degrees in (-180, 180]. */
export function wrapDegrees(v: number): number {
  const turned = v - 360 * Math.ceil((v - 180) / 360);
  return turned === 0 ? 0 : turned;
}

/** Rows of Rz(yaw)·Ry(pitch)·Rx(roll), degrees; box → world. */
export function rotation(yaw: number, tilt: [number, number] = [0, 0]): [Vec3, Vec3, Vec3] {
  const [cz, sz] = [Math.cos(yaw * RAD), Math.sin(yaw * RAD)];
  const [cy, sy] = [Math.cos(tilt[0] * RAD), Math.sin(tilt[0] * RAD)];
  const [cx, sx] = [Math.cos(tilt[1] * RAD), Math.sin(tilt[1] * RAD)];
  return [
    [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
    [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
    [-sy, cy * sx, cy * cx],
  ];
}

export const apply = (rows: [Vec3, Vec3, Vec3], v: Vec3): Vec3 => [dot(rows[0], v), dot(rows[1], v), dot(rows[2], v)];
export const applyInverse = (rows: [Vec3, Vec3, Vec3], v: Vec3): Vec3 => [
  rows[0][0] * v[0] + rows[1][0] * v[1] + rows[2][0] * v[2],
  rows[0][1] * v[0] + rows[1][1] * v[1] + rows[2][1] * v[2],
  rows[0][2] * v[0] + rows[1][2] * v[1] + rows[2][2] * v[2],
];

/** Rows of the rotation of a unit quaternion (w, x, y, z). */
export function quaternionRows([w, x, y, z]: number[]): [Vec3, Vec3, Vec3] {
  return [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
}
