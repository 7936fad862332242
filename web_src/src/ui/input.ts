// Pointer, touch, wheel and keys over the viewport. Every gesture ends in one commit; Esc and the right button cancel.
import { hitBox } from "../math/box.ts";
import { ray } from "../math/camera.ts";
import { add, clamp, mul } from "../math/vec.ts";
import { counters } from "../render/shared.ts";
import { orbitAxes } from "../math/camera.ts";
import type { Box, Orbit, Vec3 } from "../scene/types.ts";
import type { Actions } from "./actions.ts";
import { applyTyped, Transform, type Handle, type Modifiers, type Typed } from "./gesture.ts";
import { cubeAt, type CubeSide } from "../render/view-cube.ts";
import { hitGizmo } from "./gizmo.ts";
import type { Store, Tool } from "./store.ts";
import type { Viewport } from "./viewport.ts";

const CLICK = 4; // px that still count as a click
const LONG_PRESS = 550;
const AXIS_KEYS: Record<string, number> = { x: 0, y: 1, z: 2 };

interface Drag {
  kind: "transform" | "body" | "orbit" | "pan" | "band" | "wipe";
  x: number;
  y: number;
  moved: boolean;
  box?: Box;
  side?: CubeSide; // of the view cube
  start: { x: number; y: number };
  depth?: number;
  button: number;
}

export class Input {
  private drag: Drag | null = null;
  private modal: { tool: Tool; typed: Typed; t: Transform } | null = null;
  private readonly pointers = new Map<number, { x: number; y: number }>();
  private readonly ends: (() => void)[] = [];
  private pinch: { d: number; x: number; y: number } | null = null;
  private banding = false;
  private press: ReturnType<typeof setTimeout> | undefined;
  private idle: ReturnType<typeof setTimeout> | undefined;
  private last = { x: 0, y: 0 };

  constructor(private readonly view: Viewport, private readonly store: Store, private readonly actions: Actions, private readonly menu: (x: number, y: number) => void) {
    const { root } = view;
    const on = (name: string, call: (e: any) => void, options?: AddEventListenerOptions) => root.addEventListener(name, call, options);
    on("pointerdown", (e) => this.down(e));
    on("pointermove", (e) => this.move(e));
    on("pointerup", (e) => this.up(e));
    on("pointercancel", (e) => this.abort(e));
    on("pointerleave", () => this.hover(null, null));
    on("wheel", (e) => this.wheel(e), { passive: false });
    on("contextmenu", (e) => e.preventDefault());
    on("dblclick", (e) => {
      const { x, y } = this.at(e);
      const box = this.pick(x, y)?.box;
      if (box) actions.frame([box]);
    });
    store.on("settle", () => this.settle());
    // Nodes 2.0 takes the middle button away from every node, to pan the graph: ours is caught before that
    const middle = (name: string, call: (e: PointerEvent) => void, wanted: (e: PointerEvent) => boolean) => {
      const early = (e: PointerEvent) => {
        if (!wanted(e)) return;
        e.preventDefault();
        e.stopImmediatePropagation();
        call(e);
      };
      window.addEventListener(name, early as EventListener, true);
      counters.listeners++;
      this.ends.push(() => {
        window.removeEventListener(name, early as EventListener, true);
        counters.listeners--;
      });
    };
    const onPicture = (e: PointerEvent) => root.contains(e.target as Node) && !view.still;
    middle("pointerdown", (e) => this.down(e), (e) => e.button === 1 && onPicture(e));
    middle("pointermove", (e) => this.move(e), (e) => (e.buttons & 4) === 4 && this.pointers.has(e.pointerId));
    middle("pointerup", (e) => this.up(e), (e) => e.button === 1 && this.pointers.has(e.pointerId));
  }

  dispose(): void {
    clearTimeout(this.idle);
    clearTimeout(this.press);
    for (const end of this.ends) end();
  }

  /** Position in CSS pixels of the viewport, whatever the graph's zoom. */
  private at(e: { clientX: number; clientY: number }): { x: number; y: number } {
    const r = this.view.root.getBoundingClientRect();
    const k = this.view.width / (r.width || 1);
    return { x: (e.clientX - r.left) * k, y: (e.clientY - r.top) * k };
  }

  pick(x: number, y: number): { box: Box; t: number } | null {
    const r = ray(this.view.camera(), x, y);
    let best: { box: Box; t: number } | null = null;
    for (const box of this.store.shown) {
      if (box.locked) continue;
      const hit = hitBox(box, r);
      const t = hit && Math.max(hit.near, 0);
      if (hit && (!best || t < best.t)) best = { box, t };
    }
    return best;
  }

  private mods(e: { ctrlKey: boolean; metaKey?: boolean; shiftKey: boolean; altKey: boolean }): Modifiers {
    return { snap: (e.ctrlKey || Boolean(e.metaKey)) !== this.store.session.snap, fine: e.shiftKey, centred: e.altKey };
  }

  private down(e: PointerEvent): void {
    if ((e.target as HTMLElement).closest("button")) return; // of the notes over the picture
    this.view.root.focus({ preventScroll: true });
    const { x, y } = this.at(e);
    this.last = { x, y };
    if (this.modal) {
      if (e.button === 2) this.endModal(false);
      else this.endModal(true);
      e.preventDefault();
      return;
    }
    this.view.root.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, { x, y });
    if (this.pointers.size === 2) return this.startPinch();
    if (this.pointers.size > 2 || this.drag) return;
    this.store.settle();
    const drag: Drag = { kind: "orbit", x, y, moved: false, start: { x, y }, button: e.button };
    this.drag = drag;
    if (e.button === 1) drag.kind = e.shiftKey ? "pan" : "orbit";
    else if (e.button === 2) drag.kind = "pan";
    else if (this.onWipe(x, y)) drag.kind = "wipe";
    else if ((drag.side = cubeAt(this.view.cube, x, y))) drag.kind = "orbit";
    else {
      const shape = hitGizmo(this.view.shapes, x, y, e.pointerType === "touch");
      const under = this.pick(x, y);
      if (shape) this.startTransform(drag, shape.handle, x, y);
      else if (this.banding) {
        drag.kind = "band";
        this.banding = false;
      } else if (under) {
        drag.kind = "body";
        drag.box = under.box;
        drag.depth = under.t;
        if (e.shiftKey) this.store.select([under.box.id], true);
        else if (!this.store.session.selection.includes(under.box.id)) this.store.select([under.box.id]);
        else if (this.store.primary !== under.box) this.store.select([...this.store.session.selection.filter((i) => i !== under.box.id), under.box.id]);
      } else if (e.shiftKey) drag.kind = "pan";
    }
    if (e.pointerType !== "mouse") {
      clearTimeout(this.press);
      this.press = setTimeout(() => {
        if (this.drag && !this.drag.moved) {
          this.drag = null;
          this.menu(e.clientX, e.clientY);
        }
      }, LONG_PRESS);
    }
  }

  private startTransform(drag: Drag, handle: Handle, x: number, y: number, height = 0): void {
    drag.kind = "transform";
    const t = new Transform(this.store, handle);
    t.grabHeight = height;
    t.grab(ray(this.view.camera(), x, y));
    this.view.transform = t;
  }

  private move(e: PointerEvent): void {
    const { x, y } = this.at(e);
    const [dx, dy] = [x - this.last.x, y - this.last.y];
    this.last = { x, y };
    if (this.modal && !this.modal.typed.number) {
      this.modal.t.drag(ray(this.view.camera(), x, y), this.mods(e));
      return;
    }
    if (this.pointers.has(e.pointerId)) this.pointers.set(e.pointerId, { x, y });
    if (this.pinch) return this.movePinch();
    const { drag } = this;
    if (!drag) {
      if (e.pointerType !== "mouse") return;
      const side = cubeAt(this.view.cube, x, y)?.name ?? null;
      if (side) this.hover(null, null, side);
      else this.hover(hitGizmo(this.view.shapes, x, y)?.name ?? null, this.pick(x, y)?.box.id ?? null);
      return;
    }
    if (!drag.moved && Math.hypot(x - drag.start.x, y - drag.start.y) < CLICK) return;
    if (!drag.moved) {
      drag.moved = true;
      clearTimeout(this.press);
      if (drag.kind === "body" && this.store.primary && !this.store.readOnly) {
        const r = ray(this.view.camera(), drag.start.x, drag.start.y);
        this.startTransform(drag, { kind: "floor", id: drag.box.id }, drag.start.x, drag.start.y, r.origin[2] + r.direction[2] * drag.depth);
      }
    }
    if (drag.kind === "transform") this.view.transform.drag(ray(this.view.camera(), x, y), this.mods(e));
    else if (drag.kind === "orbit") this.orbit(dx, dy);
    else if (drag.kind === "pan") this.pan(dx, dy);
    else if (drag.kind === "band") {
      this.view.band = [drag.start.x, drag.start.y, x, y];
      this.view.invalidate("over");
    } else if (drag.kind === "wipe") {
      const f = this.view.frameRect;
      this.view.wipe = clamp((x - f.x) / f.w, 0, 1);
      this.view.invalidate();
    }
  }

  private up(e: PointerEvent): void {
    clearTimeout(this.press);
    this.pointers.delete(e.pointerId);
    if (this.pinch) {
      if (this.pointers.size < 2) {
        this.pinch = null;
        this.store.commit(this.actions.t("step.camera"));
      }
      return;
    }
    const { drag } = this;
    this.drag = null;
    if (!drag) return;
    const { x, y } = this.at(e);
    if (drag.kind === "transform") this.finish();
    else if (drag.kind === "band") {
      this.view.band = null;
      this.store.select(this.view.within(drag.start.x, drag.start.y, x, y).map((b) => b.id), e.shiftKey);
    } else if (!drag.moved && drag.side) this.actions.look(drag.side.azimuth, drag.side.elevation);
    else if (!drag.moved && drag.button === 2) this.menu(e.clientX, e.clientY);
    else if (!drag.moved && drag.kind === "orbit" && drag.button === 0) this.store.select([]);
    else if (!drag.moved && drag.kind === "body" && !e.shiftKey) this.store.select([drag.box.id]);
    else if (drag.kind === "orbit" || drag.kind === "pan") this.store.commit(this.actions.t("step.camera"));
    this.view.invalidate();
  }

  private finish(): void {
    const kind = this.view.transform?.handle.kind;
    this.view.transform = null;
    this.store.commit(this.actions.t(`step.${kind === "turn" ? "turn" : kind === "scale" || kind === "uniform" ? "scale" : "move"}`));
    this.view.invalidate();
  }

  private abort(e?: PointerEvent): void {
    if (e) this.pointers.delete(e.pointerId);
    clearTimeout(this.press);
    this.drag = null;
    this.pinch = null;
    this.view.transform = null;
    this.view.band = null;
    this.store.cancel();
    this.view.invalidate();
  }

  private settle(): void {
    clearTimeout(this.idle);
    if (this.modal) this.endModal(true);
    else if (this.drag?.kind === "transform") {
      this.drag = null;
      this.finish();
    }
  }

  private hover(hot: string | null, hovered: string | null, side: string | null = null): void {
    if (hot === this.view.hot && hovered === this.view.hovered && side === this.view.hotSide) return;
    const other = hovered !== this.view.hovered;
    this.view.hot = hot;
    this.view.hotSide = side;
    this.view.hovered = hot ? null : hovered;
    this.view.root.style.cursor = hot ? "grab" : hovered || side ? "pointer" : "";
    this.view.invalidate(other ? "all" : "over");
    if (other) this.store.tell("hover");
  }

  private onWipe(x: number, y: number): boolean {
    if (this.store.session.mode !== "compare" || !this.store.compared) return false;
    const f = this.view.frameRect;
    return Math.abs(x - f.x - f.w * this.view.wipe) < 14 && y > f.y && y < f.y + f.h;
  }

  private orbit(dx: number, dy: number): void {
    this.actions.navigate((o) => {
      o.azimuth_deg = ((o.azimuth_deg - dx * 0.4 + 540) % 360) - 180;
      o.elevation_deg = clamp(o.elevation_deg + dy * 0.4, this.store.looksThrough ? 0 : -20, 90);
    });
  }

  pan(dx: number, dy: number): void {
    const camera = this.view.camera();
    this.actions.navigate((o: Orbit) => {
      const axes = orbitAxes(o);
      const s = o.distance / camera.focal;
      o.target = add(o.target, add(mul(axes.right, -dx * s), mul(axes.up, dy * s))) as Vec3;
    });
  }

  zoom(factor: number): void {
    this.actions.navigate((o) => (o.distance = clamp(o.distance * factor, 0.3, 200)));
  }

  private wheel(e: WheelEvent): void {
    if (!this.view.root.contains(document.activeElement)) return; // unfocused: the graph zooms, as everywhere
    e.preventDefault();
    e.stopPropagation();
    this.zoom(Math.exp(clamp(e.deltaY, -200, 200) * 0.0016));
    this.later(250, "camera");
  }

  /** Commit once the hand rests. */
  private later(ms: number, step: string): void {
    clearTimeout(this.idle);
    this.idle = setTimeout(() => this.store.commit(this.actions.t(`step.${step}`)), ms);
  }

  private startPinch(): void {
    clearTimeout(this.press);
    if (this.drag?.kind === "transform") this.abort();
    this.drag = null;
    this.store.cancel();
    const [a, b] = [...this.pointers.values()];
    this.pinch = { d: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
  }

  private movePinch(): void {
    const [a, b] = [...this.pointers.values()];
    if (!b) return;
    const next = { d: Math.hypot(a.x - b.x, a.y - b.y), x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    if (this.pinch.d > 4 && next.d > 4) this.zoom(this.pinch.d / next.d);
    this.pan(next.x - this.pinch.x, next.y - this.pinch.y);
    this.pinch = next;
  }

  /** Keys with the focus in the viewport. True when the key was ours. */
  key(e: KeyboardEvent): boolean {
    const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
    if (this.modal) return this.modalKey(key, e);
    if (e.ctrlKey || e.metaKey) {
      if (key === "a") return this.store.select(this.store.shown.filter((b) => !b.locked).map((b) => b.id)), true;
      return false;
    }
    const { actions, store } = this;
    const fine = e.shiftKey ? 0.1 : 1;
    const step = store.session.grid * fine;
    const nudges: Record<string, [number, number]> = {
      ArrowUp: [0, -step], ArrowDown: [0, step], ArrowLeft: [1, -step], ArrowRight: [1, step], PageUp: [2, step], PageDown: [2, -step],
    };
    if (nudges[key]) return actions.nudge(...nudges[key]), this.later(400, "move"), true;
    if (key === "," || key === "<" || key === "[") return actions.turnBy(store.session.angle * fine), this.later(400, "turn"), true;
    if (key === ";" || key === "]") return actions.turnBy(-store.session.angle * fine), this.later(400, "turn"), true;
    const letters = store.host.getSetting("Sightline.LayoutEditor.Keys") === "wer" ? { w: "move", e: "turn", r: "scale" } : { g: "move", r: "turn", s: "scale" };
    const tool = (letters as Record<string, Tool>)[key];
    if (tool && !e.shiftKey) return this.startModal(tool), true;
    const plain: Record<string, () => void> = {
      Delete: () => actions.remove(), Backspace: () => actions.remove(), x: () => actions.remove(),
      "0": () => store.set({ through: !store.session.through }), "1": () => actions.view("front"), "3": () => actions.view("side"), "7": () => actions.view("top"),
      ".": () => actions.frame(store.selection), Home: () => actions.frame([]), End: () => actions.drop(),
      b: () => (this.banding = true), h: () => (e.altKey ? actions.showAll() : actions.hide(store.selection)),
      l: () => actions.lock(store.selection, !store.selection.every((b) => b.locked)),
      d: () => e.shiftKey && actions.duplicate(), a: () => e.shiftKey && store.tell("add"), "?": () => store.tell("help"),
      f: () => store.tell("fullscreen"), F2: () => store.tell("rename"), "/": () => actions.solo(store.primary),
      ContextMenu: () => {
        const r = this.view.root.getBoundingClientRect();
        this.menu(r.left + 40, r.top + 40);
      },
      Escape: () => {
        if (this.drag) this.abort();
        else if (store.session.selection.length) store.select([]);
        else if (store.inDialog) store.tell("fullscreen");
        else this.view.root.blur();
      },
    };
    if (!Object.hasOwn(plain, key)) return false;
    plain[key]();
    return true;
  }

  private startModal(tool: Tool): void {
    const { store } = this;
    store.set({ tool });
    if (!store.selection.some((b) => !b.locked) || store.readOnly) return;
    store.settle();
    const handle: Handle = tool === "move" ? { kind: "free" } : tool === "turn" ? { kind: "turn" } : { kind: "uniform" };
    const t = new Transform(store, handle);
    t.grab(ray(this.view.camera(), this.last.x, this.last.y));
    this.view.transform = t;
    this.modal = { tool, typed: { axis: null, number: "" }, t };
    store.tell("modal");
  }

  get status(): string {
    if (!this.modal) return "";
    const { tool, typed } = this.modal;
    return `${this.actions.t(`tool.${tool}`)} ${typed.axis === null ? "" : "XYZ"[typed.axis]} ${typed.number}`;
  }

  private modalKey(key: string, e: KeyboardEvent): boolean {
    const { typed, tool } = this.modal;
    if (key === "Escape") return this.endModal(false), true;
    if (key === "Enter") return this.endModal(true), true;
    if (key in AXIS_KEYS && tool !== "turn") {
      typed.axis = typed.axis === AXIS_KEYS[key] ? null : AXIS_KEYS[key];
      this.rebase(typed.axis === null ? null : tool === "move" ? { kind: "move", axis: typed.axis } : { kind: "scale", axis: typed.axis, sign: 1 });
    } else if (/^[\d.,]$/.test(key)) typed.number += key;
    else if (key === "-") typed.number = typed.number.startsWith("-") ? typed.number.slice(1) : `-${typed.number}`;
    else if (key === "Backspace") typed.number = typed.number.slice(0, -1);
    else return !(e.ctrlKey || e.metaKey);
    applyTyped(this.modal.t, tool, typed);
    this.store.tell("modal");
    return true;
  }

  /** Begin the running gesture again with another handle. */
  private rebase(handle: Handle | null): void {
    this.store.cancel();
    const { tool } = this.modal;
    const t = new Transform(this.store, handle ?? (tool === "move" ? { kind: "free" } : { kind: "uniform" }));
    t.grab(ray(this.view.camera(), this.last.x, this.last.y));
    this.view.transform = t;
    this.modal.t = t;
  }

  private endModal(keep: boolean): void {
    const { tool } = this.modal;
    this.modal = null;
    this.view.transform = null;
    if (keep) this.store.commit(this.actions.t(`step.${tool}`));
    else this.store.cancel();
    this.store.tell("modal");
    this.view.invalidate();
  }
}
