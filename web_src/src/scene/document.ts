// The scene document in memory: every default filled in. Making, reading, writing, and what a scene says in words.
import presets from "../../../scene/document/presets.json";
import { defaultOf, isObject, readValue, SCHEMA, writeValue } from "./schema.ts";
import type { Box, Camera, Json, Problem, Scene } from "./types.ts";

export const VERSION = 1;
export const MAX_TEXT = 256 * 1024;
export const MAX_OBJECTS = 128;
const MAX_DEPTH = 32;

/** A text that is no usable scene; `problems` has at least one error. */
export class SceneTextError extends Error {
  constructor(readonly problems: Problem[]) {
    super(problems.map((p) => `${p.code} ${p.pointer}`).join(", "));
  }
}

export const copy = <T>(value: T): T => (value === undefined ? value : JSON.parse(JSON.stringify(value)));

/** The canonical text of a scene: the same scene gives the same bytes, here and in Python. */
export const toText = (scene: Scene): string => writeValue(SCHEMA, scene);

/** What a run needs of a scene: no revision, title, colours, locks, names or folders, so changing them costs no run. */
export function runText(scene: Scene): string {
  const bare = copy(scene);
  Object.assign(bare, { rev: 0, title: "", generator: "", groups: [] });
  for (const camera of bare.cameras) camera.locked = false;
  for (const box of bare.objects) Object.assign(box, { color: null, locked: false, group: null });
  return toText(bare);
}

export const newId = (): string =>
  globalThis.crypto?.randomUUID?.() ??
  "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (c) =>
    (Number(c) ^ (Math.random() * 16 >> (Number(c) / 4))).toString(16),
  );

const complete = (camera: Camera): Camera => {
  if (camera.mode === "orbit" && !camera.orbit)
    camera.orbit = defaultOf(SCHEMA.properties.cameras.items.properties.orbit.anyOf[0]);
  if (camera.mode === "free" && !camera.free)
    camera.free = defaultOf(SCHEMA.properties.cameras.items.properties.free.anyOf[0]);
  if (camera.free) {
    const length = Math.hypot(...camera.free.rotation);
    if (length < 1e-6) camera.free.rotation = [0.5, 0.5, 0.5, 0.5];
    else if (Math.abs(length - 1) > 2e-6)
      camera.free.rotation = camera.free.rotation.map((v) => v / length) as [number, number, number, number];
  }
  return camera;
};

export const newCamera = (id = "cam1"): Camera => complete({ ...defaultOf(SCHEMA.properties.cameras.items), id });

export const newBox = (id: string, values: Partial<Box> = {}): Box => ({
  ...defaultOf(SCHEMA.properties.objects.items),
  ...copy(values),
  id,
});

export function newScene(): Scene {
  const camera = { ...newCamera(), roles: ["control"] };
  return { ...defaultOf(SCHEMA), id: newId(), cameras: [camera], active_camera: camera.id };
}

const refuse = (code: string, values = {}, pointer = ""): never => {
  throw new SceneTextError([{ code, pointer, values }]);
};

function depth(value: Json): number {
  let deepest = 0;
  const stack: [Json, number][] = [[value, 1]];
  while (stack.length && deepest <= MAX_DEPTH) {
    const [one, level] = stack.pop();
    deepest = Math.max(deepest, level);
    for (const inner of Object.values(one as object)) if (inner && typeof inner === "object") stack.push([inner, level + 1]);
  }
  return deepest;
}

/** A complete scene and the warnings of reading it. Throws SceneTextError with everything that is wrong. */
export function read(text: string): { scene: Scene; problems: Problem[] } {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes > MAX_TEXT) refuse("E102", { n: Math.floor(bytes / 1024) });
  let raw: Json;
  try {
    raw = JSON.parse(text.replace(/^\ufeff/, ""));
  } catch (error) {
    refuse("E100", { detail: String((error as Error).message).slice(0, 120) });
  }
  if (!isObject(raw) || depth(raw) > MAX_DEPTH) refuse("E100");
  if (raw.format !== "sightline.scene") refuse("E100", {}, "format" in raw ? "/format" : "");
  const version = raw.version ?? VERSION;
  if (typeof version === "number" && version > VERSION) refuse("E101", { n: version }, "/version");
  const found = readValue(SCHEMA, raw);
  const scene = repair(found.value, found.problems);
  checkFiles(scene, found.problems);
  if (found.problems.some((p) => p.code.startsWith("E"))) throw new SceneTextError(found.problems);
  return { scene, problems: found.problems };
}

export const parse = (text: string): Scene => read(text).scene;

/** The text with every error mended that has a fix; null where one has none. */
export function mend(text: string, problems: Problem[]): string | null {
  const errors = problems.filter((p) => p.code.startsWith("E"));
  if (!errors.length || errors.some((p) => p.fix === undefined)) return null;
  const raw = JSON.parse(text);
  for (const { pointer, fix } of errors) {
    const keys = pointer.split("/").slice(1).map((k) => k.replace(/~1/g, "/").replace(/~0/g, "~"));
    const last = keys.pop();
    keys.reduce((at, key) => at[key], raw)[last] = fix;
  }
  return JSON.stringify(raw);
}

function repair(scene: Scene, problems: Problem[]): Scene {
  if (!scene.id) scene.id = newId();
  if (!scene.cameras.length) scene.cameras = [{ ...newCamera(), roles: ["control"] }];
  for (const name of ["cameras", "objects", "groups"] as const) {
    const seen = new Set<string>();
    (scene[name] as { id: string }[]).forEach((part, i) => {
      const old = part.id;
      for (let n = 2; seen.has(part.id); n++) part.id = `${old.slice(0, 58)}-${n}`;
      if (part.id !== old) problems.push({ code: "W191", pointer: `/${name}/${i}/id`, values: { key: old } });
      seen.add(part.id);
    });
  }
  scene.objects.forEach((box, i) => {
    if (box.preset !== null && !Object.hasOwn(presets.presets, box.preset))
      problems.push({ code: "W193", pointer: `/objects/${i}/preset`, values: { name: label(box) }, object: box.id });
  });
  scene.cameras.forEach(complete);
  if (!scene.cameras.some((c) => c.id === scene.active_camera)) {
    problems.push({ code: "W192", pointer: "/active_camera", values: {} });
    scene.active_camera = scene.cameras[0].id;
  }
  return scene;
}

function checkFiles(scene: Scene, problems: Problem[]): void {
  const check = (ref: Json, pointer: string) => {
    if (!ref) return;
    const both = [ref.subfolder, ref.name];
    const parts = both.flatMap((one) => one.replace(/\\/g, "/").split("/"));
    if (both.some((one) => /^[/\\]/.test(one) || /[:\0]/.test(one)) || parts.includes(".."))
      problems.push({ code: "E130", pointer, values: {} });
  };
  scene.cameras.forEach((c, i) => ["image", "mask", "depth"].forEach((k) => check(c[k], `/cameras/${i}/${k}`)));
  scene.objects.forEach((o, i) => {
    ["image", "mask", "amodal_mask"].forEach((k) => check(o[k], `/objects/${i}/${k}`));
    check(o.asset?.file, `/objects/${i}/asset/file`);
  });
}

/** stem1, stem2, … : the first that no object, camera or group has. */
export function freeId(scene: Scene, stem: string): string {
  const used = new Set([...scene.objects, ...scene.cameras, ...scene.groups].map((one) => one.id));
  let n = 1;
  while (used.has(`${stem}${n}`)) n++;
  return `${stem}${n}`;
}

export const activeCamera = (scene: Scene): Camera =>
  scene.cameras.find((c) => c.id === scene.active_camera) ?? scene.cameras[0];

export const label = (box: Box): string => box.name || box.prompt || box.preset || box.id;

/** Boxes of the picture, in the order of the prompt. */
export const drawn = (scene: Scene): Box[] => scene.objects.filter((b) => b.visible && b.use.control);

/** Boxes that have a row in the masks: they are in the picture and in the prompt. */
export const spoken = (scene: Scene): Box[] => drawn(scene).filter((b) => b.use.prompt);

/** The full prompt, and the character range of each object's words in it. */
export function fullPrompt(scene: Scene): { text: string; spans: { id: string; start: number; end: number }[] } {
  const { prefix, joiner, suffix, background } = scene.prompt;
  const boxes = spoken(scene);
  let text = prefix;
  const spans = boxes.map((box, i) => {
    if (i) text += joiner;
    const start = text.length;
    text += box.prompt;
    return { id: box.id, start, end: text.length };
  });
  return { text: text + (boxes.length ? " " : "") + background + (suffix ? ` ${suffix}` : ""), spans };
}

/** Colours of the chips and boxes when none is chosen; they tell objects apart on dark and on light. */
export const PALETTE = [
  "#e5534b", "#3fb68b", "#4c8dff", "#e0b03c", "#b07cf0", "#39b9d0", "#f08a3c", "#e06aa8", "#8fbf3f", "#9aa4b2",
];
export const colourOf = (scene: Scene, box: Box): string =>
  box.color ?? PALETTE[Math.max(0, scene.objects.indexOf(box)) % PALETTE.length];


/** Whether a connected scene is what this one is built on; else it takes this one's place. */
export const sceneIsBase = (scene: Scene): boolean => scene.ext?.sightline?.scene_in === "base";
