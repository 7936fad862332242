// What the image model is not used to: warnings, never errors. Codes as in the scene document's specification.
import { cameraAxes, canonical, pinhole } from "../math/camera.ts";
import { mostOverlaps, visibility, type Seen } from "../math/visibility.ts";
import { clamp, wrapDegrees } from "../math/vec.ts";
import { activeCamera, drawn, label } from "./document.ts";
import type { Problem, Scene } from "./types.ts";

const FACES_DRAWN = 8; // the reference's renderer stops after so many; a box has two on a line of sight

export const tokenEstimate = (text: string): number =>
  text.split(/\s+/).filter(Boolean).reduce((n, word) => n + Math.max(1, Math.ceil(word.length / 4.2)), 1);

export function outputSize(scene: Scene): [number, number] {
  return activeCamera(scene).size ?? scene.output.size;
}

/** Visibility of the drawn boxes in the active camera, by object id. */
export function seenBoxes(scene: Scene, samples = 64): Map<string, Seen> {
  const boxes = drawn(scene);
  const [w, h] = outputSize(scene);
  const seen = visibility(boxes, pinhole(activeCamera(scene), w, h), w, h, samples);
  return new Map(boxes.map((b, i) => [b.id, seen[i]]));
}

export function warnings(scene: Scene, seen: Map<string, Seen> = seenBoxes(scene)): Problem[] {
  const found: Problem[] = [];
  const say = (code: string, pointer: string, values = {}, object?: string) =>
    found.push({ code, pointer, values, object });
  const camera = activeCamera(scene);
  const at = `/cameras/${scene.cameras.indexOf(camera)}`;
  const home = canonical(camera);
  const boxes = drawn(scene);
  const [w, h] = outputSize(scene);
  if (home) {
    if (home.elevation < 5 || home.elevation > 45) say("W101", at, { e: Math.round(home.elevation * 10) / 10 });
  } else say("W113", at);
  if (camera.lens_mm < 35 || camera.lens_mm > 135) say("W102", at, { l: Math.round(camera.lens_mm * 10) / 10 });
  if (w !== h) say("W103", "/output/size", { w, h });
  if (boxes.length > 8) say("W106", "/objects", { n: boxes.length });
  if (2 * mostOverlaps(boxes, pinhole(camera, w, h), w, h) > FACES_DRAWN) say("W107", "/objects");
  const tokens = tokenEstimate([...boxes.map((b) => b.prompt), scene.prompt.background].join(" and "));
  if (tokens > 512) say("W109", "/prompt", { n: tokens });
  const texts = new Map<string, number>();
  boxes.forEach((box) => {
    const pointer = `/objects/${scene.objects.indexOf(box)}`;
    const name = label(box);
    if (home) {
      const [x, y, z] = home.move(box.position);
      const reach = 4.5 - 4 * clamp((x + 6) / 11, 0, 1);
      if (x < -6 || x > 5 || Math.abs(y) > reach) say("W104", pointer, { name }, box.id);
      if (z > 2.5) say("W105", pointer, { name }, box.id);
      if (box.size.some((v) => v * home.scale < 0.1 || v * home.scale > 5)) say("W108", pointer, { name }, box.id);
    }
    const view = seen.get(box.id);
    if (view && view.total === 0) say("W110", pointer, { name }, box.id);
    else if (view && view.visible / view.total < 0.1) {
      const by = [...view.occluders].sort((a, b) => b[1] - a[1]).map(([i]) => label(boxes[i]));
      say("W111", pointer, { name, occluders: by.slice(0, 2).join(", ") }, box.id);
    }
    if (box.tilt[0] || box.tilt[1]) say("W112", pointer, { name }, box.id);
    const text = box.prompt.trim().toLowerCase();
    if (text && texts.get(text) === 1) say("W114", pointer, { prompt: box.prompt.trim() }, box.id);
    texts.set(text, (texts.get(text) ?? 0) + 1);
  });
  return found;
}

/** Errors that would stop a run. */
export function runErrors(scene: Scene): Problem[] {
  const found: Problem[] = [];
  if (!drawn(scene).length) found.push({ code: "E120", pointer: "/objects", values: {} });
  for (const box of drawn(scene))
    if (!box.prompt.trim() && box.use.prompt)
      found.push({ code: "E121", pointer: `/objects/${scene.objects.indexOf(box)}`, values: { name: label(box) }, object: box.id });
  return found;
}

/** Turn the scene so that its camera stands at azimuth 0, distance 6, looking at the origin; the picture is the same. */
export function bringHome(scene: Scene): boolean {
  const camera = activeCamera(scene);
  const home = canonical(camera);
  if (!home) return false;
  for (const box of scene.objects) {
    box.position = home.move(box.position);
    box.size = box.size.map((v) => v * home.scale) as typeof box.size;
    box.yaw_deg = wrapDegrees(box.yaw_deg - home.azimuth);
  }
  camera.mode = "orbit";
  camera.orbit = { ...camera.orbit, target: [0, 0, 0], azimuth_deg: 0, elevation_deg: home.elevation, distance: 6 };
  return true;
}

/** n cameras in a ring around the active camera's target, all in the role of a view. */
export function viewRing(scene: Scene, n: number, elevation: number): void {
  const from = activeCamera(scene);
  const axes = cameraAxes(from);
  for (let i = 0; i < n; i++) {
    const used = new Set(scene.cameras.map((c) => c.id));
    let k = scene.cameras.length + 1;
    while (used.has(`cam${k}`)) k++;
    scene.cameras.push({
      ...JSON.parse(JSON.stringify(from)),
      id: `cam${k}`,
      name: `View ${i + 1}`,
      mode: "orbit",
      free: null,
      orbit: {
        target: from.mode === "orbit" ? [...from.orbit.target] : [0, 0, 0],
        azimuth_deg: wrapDegrees((from.mode === "orbit" ? from.orbit.azimuth_deg : 0) + (360 * i) / n),
        elevation_deg: elevation,
        distance: from.mode === "orbit" ? from.orbit.distance : Math.hypot(...axes.position),
      },
      roles: ["view"],
      locked: false,
    });
  }
}
