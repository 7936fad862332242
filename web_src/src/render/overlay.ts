// What lies over the picture, drawn in 2D: frame, outlines, names, front marks, guides, masks; and the whole
// simple view where there is no WebGL.
import { corners, CELLS, cells, EDGES, FACES, maskSize, silhouette } from "../math/box.ts";
import { pinhole, project, type Pinhole } from "../math/camera.ts";
import { dot, sub } from "../math/vec.ts";
import { nearestPerCell } from "../math/visibility.ts";
import { outputSize } from "../scene/comfort.ts";
import { activeCamera, colourOf, drawn, label, spoken } from "../scene/document.ts";
import type { Box, Scene, Vec3 } from "../scene/types.ts";
import type { Guide } from "../math/snap.ts";
import { path } from "../ui/gizmo.ts";
import type { Look, Palette } from "./look.ts";
import { FACE_TINTS, gridLines } from "./solid.ts";

type Ctx = CanvasRenderingContext2D;
export interface Rect {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** A line in space, cut at the near plane; null behind the camera. */
export function segment(camera: Pinhole, a: Vec3, b: Vec3, near = 0.05): number[][] | null {
  const [p, q] = [project(camera, a), project(camera, b)];
  if (p[2] <= near && q[2] <= near) return null;
  const cut = (from: Vec3, to: Vec3, df: number, dt: number) => {
    const t = (near - df) / (dt - df);
    return project(camera, from.map((v, i) => v + t * (to[i] - v)) as Vec3);
  };
  return [p[2] > near ? p : cut(a, b, p[2], q[2]), q[2] > near ? q : cut(b, a, q[2], p[2])];
}

export function drawFrame(ctx: Ctx, frame: Rect, w: number, h: number, palette: Palette, thirds: boolean): void {
  ctx.fillStyle = palette.dark ? "rgba(8,9,11,.62)" : "rgba(60,66,78,.42)";
  ctx.beginPath();
  ctx.rect(0, 0, w, h);
  ctx.rect(frame.x, frame.y, frame.w, frame.h);
  ctx.fill("evenodd");
  ctx.strokeStyle = palette.ink;
  ctx.globalAlpha = 0.75;
  ctx.lineWidth = 1;
  ctx.strokeRect(frame.x - 0.5, frame.y - 0.5, frame.w + 1, frame.h + 1);
  if (thirds) {
    ctx.globalAlpha = 0.16;
    ctx.beginPath();
    for (const t of [1 / 3, 2 / 3]) {
      ctx.moveTo(frame.x + frame.w * t, frame.y);
      ctx.lineTo(frame.x + frame.w * t, frame.y + frame.h);
      ctx.moveTo(frame.x, frame.y + frame.h * t);
      ctx.lineTo(frame.x + frame.w, frame.y + frame.h * t);
    }
    ctx.stroke();
    ctx.setLineDash([4, 4]);
    ctx.strokeRect(frame.x + frame.w * 0.05, frame.y + frame.h * 0.05, frame.w * 0.9, frame.h * 0.9);
    ctx.setLineDash([]);
  }
  ctx.globalAlpha = 1;
}

export function drawOutline(ctx: Ctx, box: Box, camera: Pinhole, colour: string, width: number, dash: number[] = []): void {
  const world = corners(box);
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.setLineDash(dash);
  ctx.beginPath();
  for (const [a, b] of EDGES) {
    const line = segment(camera, world[a], world[b]);
    if (!line) continue;
    ctx.moveTo(line[0][0], line[0][1]);
    ctx.lineTo(line[1][0], line[1][1]);
  }
  ctx.stroke();
  ctx.setLineDash([]);
}

/** A chevron on the floor before the front face (local +Y, the model's red one). */
export function drawFront(ctx: Ctx, box: Box, camera: Pinhole, colour: string): void {
  const world = corners(box);
  const bottom = [2, 3].map((i) => world[i]);
  const mid = bottom[0].map((v, i) => (v + bottom[1][i]) / 2) as Vec3;
  const c = [box.position[0], box.position[1], box.position[2]] as Vec3;
  const out = sub(mid, c);
  const n = Math.hypot(out[0], out[1]) || 1;
  const size = Math.min(0.28, 0.35 * Math.min(box.size[0], box.size[1]) + 0.06);
  const dir: Vec3 = [(out[0] / n) * size, (out[1] / n) * size, 0];
  const side: Vec3 = [-dir[1] * 0.8, dir[0] * 0.8, 0];
  const at = (f: number, s: number): Vec3 => [mid[0] + dir[0] * f + side[0] * s, mid[1] + dir[1] * f + side[1] * s, box.position[2]];
  const points = [at(0.35, -1), at(1.25, 0), at(0.35, 1)].map((p) => project(camera, p));
  if (points.some((p) => p[2] < 0.05)) return;
  path(ctx, points, false);
  ctx.strokeStyle = colour;
  ctx.lineWidth = 2;
  ctx.stroke();
}

export function drawLabel(ctx: Ctx, text: string, x: number, y: number, palette: Palette, chip?: string, strong = false): void {
  ctx.font = `${strong ? 600 : 400} 11px ui-sans-serif, system-ui, sans-serif`;
  const short = text.length > 34 ? `${text.slice(0, 33)}…` : text;
  const w = ctx.measureText(short).width + (chip ? 22 : 12);
  const [left, top] = [x - w / 2, y - 9];
  ctx.globalAlpha = strong ? 0.95 : 0.78;
  ctx.fillStyle = palette.halo;
  ctx.beginPath();
  ctx.roundRect(left, top, w, 18, 5);
  ctx.fill();
  ctx.globalAlpha = 1;
  if (chip) {
    ctx.fillStyle = chip;
    ctx.fillRect(left + 6, top + 5, 8, 8);
  }
  ctx.fillStyle = palette.ink;
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  ctx.fillText(short, left + (chip ? 18 : 6), top + 9.5);
}

/** A box's name above it, unless that would cover one that is already there (`taken`). */
export function drawName(ctx: Ctx, scene: Scene, box: Box, camera: Pinhole, palette: Palette, strong: boolean, taken: Rect[]): void {
  const top = project(camera, [box.position[0], box.position[1], box.position[2] + box.size[2]]);
  if (top[2] < 0.05) return;
  const text = `${scene.objects.indexOf(box) + 1}  ${label(box)}`;
  const w = Math.min(text.length, 34) * 6.2 + 22;
  const rect = { x: top[0] - w / 2, y: top[1] - 23, w, h: 18 };
  const covers = (r: Rect) => rect.x < r.x + r.w && r.x < rect.x + rect.w && rect.y < r.y + r.h && r.y < rect.y + rect.h;
  if (!strong && taken.some(covers)) return;
  taken.push(rect);
  drawLabel(ctx, text, top[0], top[1] - 14, palette, colourOf(scene, box), strong);
}

export function drawGuides(ctx: Ctx, guides: Guide[], boxes: Box[], camera: Pinhole, palette: Palette): void {
  ctx.strokeStyle = palette.accent;
  ctx.lineWidth = 1;
  ctx.setLineDash([5, 4]);
  for (const guide of guides) {
    const other = boxes.find((b) => b.id === guide.with);
    if (!other) continue;
    const [u, v] = [(guide.axis + 1) % 3, (guide.axis + 2) % 3];
    for (const k of [u, v]) {
      const a = [...other.position] as Vec3;
      a[guide.axis] = guide.at;
      const b = [...a] as Vec3;
      a[k] -= 3;
      b[k] += 3;
      const line = segment(camera, a, b);
      if (!line) continue;
      path(ctx, line, false);
      ctx.stroke();
    }
  }
  ctx.setLineDash([]);
}

/** Masks in the frame: every spoken object's cells and its outline; cells that others hide are hatched. */
export function drawMasks(ctx: Ctx, scene: Scene, camera: Pinhole, frame: Rect): void {
  const [w, h] = maskSize(outputSize(scene));
  const model = pinhole(activeCamera(scene), w, h);
  const boxes = drawn(scene);
  const first = nearestPerCell(boxes, model, w, h);
  const [cw, ch] = [frame.w / CELLS, frame.h / CELLS];
  ctx.save();
  ctx.beginPath();
  ctx.rect(frame.x, frame.y, frame.w, frame.h);
  ctx.clip();
  ctx.fillStyle = "#000";
  ctx.fillRect(frame.x, frame.y, frame.w, frame.h);
  for (const box of spoken(scene)) {
    const on = cells(silhouette(box, model), w, h);
    const own = boxes.indexOf(box);
    ctx.fillStyle = ctx.strokeStyle = colourOf(scene, box);
    ctx.lineWidth = 1;
    ctx.beginPath();
    on.forEach((set, i) => {
      if (!set) return;
      const [x, y] = [frame.x + (i % CELLS) * cw, frame.y + Math.floor(i / CELLS) * ch];
      ctx.globalAlpha = 0.34;
      if (first[i] === own || first[i] < 0) return ctx.fillRect(x + 0.5, y + 0.5, cw - 1, ch - 1);
      ctx.moveTo(x + 0.5, y + ch - 0.5);
      ctx.lineTo(x + cw - 0.5, y + 0.5);
    });
    ctx.globalAlpha = 0.8;
    ctx.stroke();
    ctx.globalAlpha = 1;
    const outline = silhouette(box, camera);
    if (outline.length < 3) continue;
    path(ctx, outline, true);
    ctx.lineWidth = 1.5;
    ctx.stroke();
  }
  ctx.restore();
}

/** The working view without WebGL, over what is there: the same grid, faces sorted from far to near, edges. */
export function drawSimple(ctx: Ctx, boxes: Box[], looks: Look[], camera: Pinhole, palette: Palette, extent: number): void {
  for (const line of gridLines(palette, extent)) {
    const cut = segment(camera, line.a, line.b);
    if (!cut) continue;
    ctx.globalAlpha = line.opacity;
    ctx.strokeStyle = line.colour;
    ctx.lineWidth = 1;
    path(ctx, cut, false);
    ctx.stroke();
  }
  const faces = boxes.flatMap((box, i) => {
    const world = corners(box);
    const points = world.map((p) => project(camera, p));
    return FACES.map((loop, k) => ({
      points: loop.map((c) => points[c]), look: looks[i], tint: FACE_TINTS[k],
      depth: loop.reduce((sum, c) => sum + points[c][2], 0) / 4,
    })).filter((f) => f.points.every((p) => p[2] > 0.05));
  });
  for (const face of faces.sort((a, b) => b.depth - a.depth)) {
    path(ctx, face.points, true);
    ctx.globalAlpha = face.look.opacity;
    ctx.fillStyle = face.look.flat ? face.look.colour : `rgb(${face.tint.map((v) => Math.round(v * 255)).join()})`;
    ctx.fill();
  }
  ctx.globalAlpha = 0.95;
  boxes.forEach((box, i) => drawOutline(ctx, box, camera, looks[i].edge, 1));
  ctx.globalAlpha = 1;
}
