// What can be done to a scene, each one step of the history. Menus, keys and buttons all come here.
import { bounds } from "../math/box.ts";
import { canonical } from "../math/camera.ts";
import { freePlace, surfaceBelow } from "../math/snap.ts";
import { round, wrapDegrees } from "../math/vec.ts";
import { bringHome, viewRing } from "../scene/comfort.ts";
import { copy, freeId, MAX_OBJECTS, newBox, newScene, read, toText } from "../scene/document.ts";
import { harmonise, PRESETS, type HarmoniseOptions } from "../scene/presets.ts";
import type { Box, Orbit, Scene, Vec3 } from "../scene/types.ts";
import type { Store } from "./store.ts";

type Translate = (key: string, values?: Record<string, unknown>) => string;

export class Actions {
  constructor(readonly store: Store, readonly t: Translate) {}

  private edit(label: string, mutate: (scene: Scene) => void): void {
    this.store.edit(this.t(`step.${label}`), mutate);
  }
  private movable(): Box[] {
    return this.store.selection.filter((b) => !b.locked);
  }

  /** A box for a preset or for free words, where the view looks, touching nothing. */
  add(prompt: string, preset: string | null = null, own: Vec3 | null = null): Box | null {
    const { store } = this;
    if (store.readOnly || store.scene.objects.length >= MAX_OBJECTS) return null;
    const size = (own ?? (preset ? PRESETS[preset].size : [1, 1, 1])).map((v) => round(v, 1e-6)) as Vec3;
    const around = store.looksThrough ? store.camera.orbit?.target ?? [0, 0, 0] : store.session.view.target;
    const box = newBox(freeId(store.scene, "obj"), { prompt: prompt.trim().slice(0, 400), preset, size });
    const [x, y] = freePlace(size, [round(around[0], 0.05), round(around[1], 0.05)], store.scene.objects);
    box.position = [x, y, 0];
    this.edit("add", (scene) => scene.objects.push(box));
    store.select([box.id]);
    return box;
  }

  remove(): void {
    const gone = new Set(this.movable().map((b) => b.id));
    if (!gone.size) return;
    this.edit("delete", (scene) => (scene.objects = scene.objects.filter((b) => !gone.has(b.id))));
    this.store.select([]);
  }

  duplicate(): void {
    this.insert(this.store.selection, "duplicate");
  }

  /** Copies of boxes, beside the originals where those are in the way. */
  insert(boxes: Box[], label: "duplicate" | "paste"): void {
    const { store } = this;
    const room = MAX_OBJECTS - store.scene.objects.length;
    const chosen = boxes.slice(0, Math.max(0, room));
    if (!chosen.length || store.readOnly) return;
    const ids: string[] = [];
    this.edit(label, (scene) => {
      for (const one of chosen) {
        const box = { ...copy(one), id: freeId(scene, "obj"), locked: false, group: scene.groups.some((g) => g.id === one.group) ? one.group : null };
        const [x, y] = freePlace(box.size, [box.position[0], box.position[1]], scene.objects.filter((o) => Math.abs(o.position[2] - box.position[2]) < o.size[2]));
        box.position = [x, y, box.position[2]];
        scene.objects.push(box);
        ids.push(box.id);
      }
    });
    store.select(ids);
  }

  set(boxes: Box[], label: string, change: (box: Box) => void): void {
    const ids = new Set(boxes.map((b) => b.id));
    this.edit(label, (scene) => scene.objects.filter((b) => ids.has(b.id)).forEach(change));
  }
  rename(box: Box, name: string): void {
    this.set([box], "rename", (b) => (b.name = name.trim().slice(0, 80)));
  }
  hide(boxes: Box[], hidden = true): void {
    this.set(boxes, hidden ? "hide" : "show", (b) => (b.visible = !hidden));
  }
  showAll(): void {
    this.set(this.store.scene.objects, "show", (b) => (b.visible = true));
  }
  lock(boxes: Box[], locked: boolean): void {
    this.set(boxes, locked ? "lock" : "unlock", (b) => (b.locked = locked));
  }
  solo(box: Box | null): void {
    this.store.set({ solo: box && this.store.session.solo !== box.id ? box.id : null });
  }
  reorder(id: string, to: number): void {
    this.edit("reorder", (scene) => {
      const from = scene.objects.findIndex((b) => b.id === id);
      const [box] = scene.objects.splice(from, 1);
      scene.objects.splice(Math.max(0, Math.min(scene.objects.length, to)), 0, box);
    });
  }
  group(name: string): void {
    const ids = new Set(this.store.selection.map((b) => b.id));
    if (!ids.size) return;
    this.edit("group", (scene) => {
      const id = freeId(scene, "group");
      scene.groups.push({ id, name, collapsed: false });
      for (const box of scene.objects) if (ids.has(box.id)) box.group = id;
      dropEmptyGroups(scene);
    });
  }
  ungroup(): void {
    const ids = new Set(this.store.selection.map((b) => b.id));
    this.edit("ungroup", (scene) => {
      for (const box of scene.objects) if (ids.has(box.id)) box.group = null;
      dropEmptyGroups(scene);
    });
  }

  nudge(axis: number, by: number): void {
    const boxes = this.movable();
    if (!boxes.length) return;
    this.store.change((scene) => {
      for (const box of scene.objects)
        if (boxes.some((b) => b.id === box.id)) box.position[axis] = round(box.position[axis] + by, 1e-4);
    });
  }
  turnBy(degrees: number): void {
    const boxes = this.movable();
    if (!boxes.length) return;
    this.store.change((scene) => {
      for (const box of scene.objects)
        if (boxes.some((b) => b.id === box.id)) box.yaw_deg = wrapDegrees(round(box.yaw_deg + degrees, 1e-3));
    });
  }
  drop(): void {
    const boxes = this.movable();
    const others = this.store.scene.objects.filter((b) => b.visible && !boxes.includes(b));
    this.set(boxes, "drop", (b) => (b.position[2] = round(b.position[2] + surfaceBelow(b, others) - bounds(b).min[2], 1e-4)));
  }

  /** Line up the selection: faces or centres on an axis with the last selected box. */
  align(axis: number, where: "min" | "mid" | "max"): void {
    const lead = this.store.primary;
    const boxes = this.movable().filter((b) => b.id !== lead?.id);
    if (!lead || !boxes.length) return;
    const at = (box: Box) => {
      const b = bounds(box);
      return where === "mid" ? (b.min[axis] + b.max[axis]) / 2 : b[where][axis];
    };
    this.set(boxes, "align", (b) => (b.position[axis] = round(b.position[axis] + at(lead) - at(b), 1e-4)));
  }
  /** Equal gaps between centres along an axis; the outer two stay. */
  distribute(axis: number): void {
    const boxes = [...this.store.selection].sort((a, b) => a.position[axis] - b.position[axis]);
    if (boxes.length < 3) return;
    const [first, last] = [boxes[0].position[axis], boxes[boxes.length - 1].position[axis]];
    const places = new Map(boxes.map((b, i) => [b.id, round(first + ((last - first) * i) / (boxes.length - 1), 1e-4)]));
    this.set(this.movable(), "distribute", (b) => (b.position[axis] = places.get(b.id)));
  }

  harmonise(options: HarmoniseOptions): void {
    const next = harmonise(this.store.scene, options);
    this.set(this.store.scene.objects.filter((b) => next.has(b.id)), "harmonise", (b) => {
      const { size, z } = next.get(b.id);
      b.size = size.map((v) => round(v, 1e-6)) as Vec3;
      b.position[2] = z;
    });
  }

  /** Build on the connected scene, or let it take this one's place. */
  useLinked(base: boolean): void {
    this.edit("linked", (scene) => {
      const { sightline, ...others } = scene.ext ?? {};
      const { scene_in, ...own } = sightline ?? {};
      const kept = base ? { ...own, scene_in: "base" } : own;
      scene.ext = Object.keys(kept).length ? { ...others, sightline: kept } : others;
    });
  }

  bringHome(): void {
    this.edit("home", (scene) => bringHome(scene));
  }
  viewRing(count: number, elevation: number): void {
    this.edit("ring", (scene) => viewRing(scene, count, elevation));
  }
  addCamera(): void {
    this.edit("camera", (scene) => {
      const id = freeId(scene, "cam");
      const now = scene.cameras.find((c) => c.id === scene.active_camera);
      const camera = { ...copy(now), id, name: `Camera ${scene.cameras.length + 1}`, roles: [], locked: false };
      if (!this.store.looksThrough) camera.orbit = copy(this.store.session.view);
      scene.cameras.push(camera);
      scene.active_camera = id;
    });
  }
  useCamera(id: string): void {
    this.edit("camera", (scene) => (scene.active_camera = id));
  }
  removeCamera(id: string): void {
    this.edit("camera", (scene) => {
      if (scene.cameras.length < 2) return;
      scene.cameras = scene.cameras.filter((c) => c.id !== id);
      if (scene.active_camera === id) scene.active_camera = scene.cameras[0].id;
    });
  }

  /** Change the orbit of what is looked through, or of the working view. Returns false where the camera is locked. */
  navigate(change: (orbit: Orbit) => void): boolean {
    const { store } = this;
    if (!store.looksThrough) {
      change(store.session.view);
      store.tell("session");
      return true;
    }
    if (store.camera.locked || store.readOnly) return false;
    store.change((scene) => {
      const camera = scene.cameras.find((c) => c.id === scene.active_camera);
      if (camera.mode === "free") {
        const home = canonical(camera);
        if (!home) return;
        Object.assign(camera, {
          mode: "orbit",
          orbit: { target: home.target, azimuth_deg: home.azimuth, elevation_deg: home.elevation, distance: home.distance },
        });
      }
      change(camera.orbit);
      const o = camera.orbit;
      o.azimuth_deg = wrapDegrees(round(o.azimuth_deg, 1e-3));
      o.elevation_deg = round(o.elevation_deg, 1e-3);
      o.distance = round(o.distance, 1e-4);
      o.target = o.target.map((v) => round(v, 1e-4)) as Vec3;
    });
    return true;
  }

  view(name: "front" | "side" | "top"): void {
    const [azimuth, elevation] = { front: [0, 4], side: [90, 4], top: [0, 90] }[name];
    this.look(azimuth, elevation);
  }
  /** Turn the working view; without an azimuth it keeps its own. */
  look(azimuth: number | null, elevation_deg: number): void {
    const { view } = this.store.session;
    this.store.set({ through: false, mode: "solid", view: { ...view, azimuth_deg: azimuth ?? view.azimuth_deg, elevation_deg } });
  }
  frame(boxes: Box[]): void {
    const { store } = this;
    const list = boxes.length ? boxes : store.shown;
    if (!list.length) {
      store.set({ through: false, mode: "solid", view: { target: [0, 0, 0.4], azimuth_deg: 28, elevation_deg: 24, distance: 8 } });
      return;
    }
    const all = list.map(bounds);
    const low = [0, 1, 2].map((i) => Math.min(...all.map((b) => b.min[i])));
    const high = [0, 1, 2].map((i) => Math.max(...all.map((b) => b.max[i])));
    const target = low.map((v, i) => (v + high[i]) / 2) as Vec3;
    const radius = Math.hypot(...high.map((v, i) => v - low[i])) / 2;
    store.set({ through: false, mode: "solid", view: { ...store.session.view, target, distance: Math.max(radius * 2.2, 1.5) } });
  }

  /** The selection (or everything) as text that another editor, or a text editor, takes. */
  clipboard(): string {
    const { store } = this;
    const boxes = store.selection.length ? store.selection : store.scene.objects;
    return toText({ ...newScene(), objects: copy(boxes), prompt: copy(store.scene.prompt) });
  }
  /** Boxes of a pasted scene are added. Throws SceneTextError. */
  paste(text: string): void {
    this.insert(read(text).scene.objects, "paste");
  }
  open(scene: Scene, label = "open"): void {
    this.store.replace(this.t(`step.${label}`), scene);
  }
}

function dropEmptyGroups(scene: Scene): void {
  scene.groups = scene.groups.filter((g) => scene.objects.some((b) => b.group === g.id));
}
