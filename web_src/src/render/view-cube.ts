// The cube in the corner: which way is which, and a click on a side looks from there.
import { orbitAxes, type Pinhole } from "../math/camera.ts";
import { cross, dot, mul } from "../math/vec.ts";
import type { Vec3 } from "../scene/types.ts";
import { inside, path } from "../ui/gizmo.ts";
import type { Palette } from "./look.ts";

const HALF = 19; // px from the cube's middle to a side
export const CUBE_ROOM = 46; // px from the corner of the viewport to its middle

export interface CubeSide {
  name: string; // "front", "right", "back", "left", "top", "bottom"
  azimuth: number | null; // null: stays
  elevation: number;
  axis: number;
  points: number[][];
  u: number[]; // one unit to the right and up on the side, on the screen
  v: number[];
  middle: number[];
}

const SIDES: [string, Vec3, number | null, number, number][] = [
  ["front", [1, 0, 0], 0, 4, 0], ["right", [0, 1, 0], 90, 4, 1], ["back", [-1, 0, 0], 180, 4, 0], ["left", [0, -1, 0], -90, 4, 1],
  ["top", [0, 0, 1], null, 90, 2], ["bottom", [0, 0, -1], null, -20, 2],
];

/** The sides that are seen, with their places around (x, y). */
export function cubeSides(camera: Pinhole, x: number, y: number): CubeSide[] {
  const flat = (p: Vec3): number[] => [dot(p, camera.right) * HALF, -dot(p, camera.up) * HALF];
  return SIDES.filter(([, normal]) => dot(normal, camera.forward) < -0.02).map(([name, normal, azimuth, elevation, axis]) => {
    const axes = orbitAxes({ target: [0, 0, 0], azimuth_deg: azimuth ?? 0, elevation_deg: 0, distance: 1 });
    const right = axes.right;
    const up = azimuth === null ? mul(cross(right, normal), -1) : ([0, 0, 1] as Vec3);
    const [c, u, v] = [flat(normal), flat(right), flat(up)];
    const at = (a: number, b: number) => [x + c[0] + a * u[0] + b * v[0], y + c[1] + a * u[1] + b * v[1]];
    return { name, azimuth, elevation, axis, points: [at(-1, -1), at(1, -1), at(1, 1), at(-1, 1)], u, v, middle: at(0, 0) };
  });
}

export const cubeAt = (sides: CubeSide[], x: number, y: number): CubeSide | null => sides.find((s) => inside(x, y, s.points)) ?? null;

export function drawCube(ctx: CanvasRenderingContext2D, sides: CubeSide[], hot: string | null, palette: Palette, word: (name: string) => string): void {
  const colours = [palette.axisX, palette.axisY, palette.axisZ];
  ctx.lineJoin = "round";
  for (const side of sides) {
    path(ctx, side.points, true);
    ctx.globalAlpha = 0.88;
    ctx.fillStyle = side.name === hot ? palette.accent : palette.halo;
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colours[side.axis];
    ctx.lineWidth = 1.5;
    ctx.stroke();
    const text = word(side.name);
    ctx.save();
    ctx.transform(side.u[0] / HALF, side.u[1] / HALF, -side.v[0] / HALF, -side.v[1] / HALF, side.middle[0], side.middle[1]);
    ctx.font = "600 11px ui-sans-serif, system-ui, sans-serif";
    const fit = Math.min(1, (2 * HALF - 6) / ctx.measureText(text).width);
    ctx.scale(fit, fit);
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    ctx.fillStyle = side.name === hot ? palette.halo : palette.ink;
    ctx.fillText(text, 0, 0.5);
    ctx.restore();
  }
}
