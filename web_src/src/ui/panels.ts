// The panels below the picture: object, words, camera, picture.
import { activeCamera, colourOf, fullPrompt } from "../scene/document.ts";
import { outputSize, tokenEstimate } from "../scene/comfort.ts";
import { PRESETS } from "../scene/presets.ts";
import type { Box, Camera, Problem, Scene } from "../scene/types.ts";
import type { Seen } from "../math/visibility.ts";
import type { Actions } from "./actions.ts";
import { drawSimple } from "../render/overlay.ts";
import type { Palette } from "../render/look.ts";
import { pinhole } from "../math/camera.ts";
import { button, clear, element, icon } from "./dom.ts";
import { numberField, refreshAll, slider, textField, type NumberOptions } from "./fields.ts";
import type { Store } from "./store.ts";

type Translate = (key: string, values?: Record<string, unknown>) => string;
export const TABS = ["object", "words", "camera", "picture"] as const;
const THUMB = 64; // px of a camera's picture
const THUMBS = 24; // with more cameras they have names only
const SIZES = [[512, 512], [768, 768], [1024, 1024], [1280, 720], [720, 1280], [1152, 896], [896, 1152]];

export class Panels {
  readonly root: HTMLElement;
  readonly tabs = element("div", { class: "se-tabs", role: "tablist" });
  readonly body = element("div", { class: "se-panel", role: "tabpanel" });
  private shown = "";
  private live: (() => void)[] = [];

  constructor(private readonly store: Store, private readonly actions: Actions, private readonly t: Translate, private readonly menu: { presets: () => void; image: (box: Box) => void; ring: () => void; trace: () => void; look: () => Palette }, private readonly hover: (id: string | null) => void) {
    this.root = element("div", { class: "se-panels" }, [this.tabs, this.body]);
    for (const name of TABS)
      this.tabs.append(element("button", { type: "button", role: "tab", class: "se-tab", "data-tab": name, onclick: () => store.set({ tab: name }) }, [t(`tab.${name}`)]));
    this.tabs.addEventListener("keydown", (e) => {
      const i = TABS.indexOf(store.session.tab as any) + (e.key === "ArrowRight" ? 1 : e.key === "ArrowLeft" ? -1 : NaN);
      if (!TABS[i]) return;
      store.set({ tab: TABS[i] });
      (this.tabs.children[i] as HTMLElement).focus();
      e.stopPropagation();
    });
  }

  /** Build what is shown if it changed, else bring the numbers up to date. */
  render(problems: Problem[], seen: Map<string, Seen>): void {
    const { tab, selection } = this.store.session;
    for (const one of this.tabs.children) {
      const on = one.getAttribute("data-tab") === tab;
      one.setAttribute("aria-selected", String(on));
      (one as HTMLElement).tabIndex = on ? 0 : -1;
    }
    const multi = selection.length > 1;
    const primary = this.store.primary;
    const key = [tab, primary?.id, multi, this.store.camera.id, this.store.camera.mode, this.store.scene.cameras.length, this.store.readOnly].join("|");
    if (key !== this.shown) {
      this.shown = key;
      this.live = [];
      clear(this.body);
      const build = { object: () => this.object(primary), words: () => this.words(), camera: () => this.camera(), picture: () => this.pictureTab() }[tab as "object"];
      this.body.append(...(build?.() ?? []));
    }
    refreshAll(this.body);
    this.problems = problems;
    this.seen = seen;
    for (const one of this.live) one();
  }
  private problems: Problem[] = [];
  private seen = new Map<string, Seen>();

  private range = (low: number, high: number) => this.t("field.range", { low, high });

  private number(label: string, get: (b: Box) => number, set: (b: Box, v: number) => void, low: number, high: number, by: number, step: string, unit?: string, hint?: string): HTMLElement {
    const { store } = this;
    const movable = () => store.selection.filter((b) => !b.locked);
    return numberField(store, {
      label, hint, low, high, by, unit, step: this.t(`step.${step}`), locale: store.host.locale, range: this.range,
      get: () => {
        const values = store.selection.map(get);
        return values.length && values.every((v) => v === values[0]) ? values[0] : values.length === 1 ? values[0] : values.length ? null : 0;
      },
      set: (v) => {
        const ids = new Set(movable().map((b) => b.id));
        store.change((scene) => scene.objects.filter((b) => ids.has(b.id)).forEach((b) => set(b, v)));
      },
    });
  }

  private object(box: Box | null): HTMLElement[] {
    const { t, store, actions } = this;
    if (!box) return [element("p", { class: "se-empty" }, [t("object.none")])];
    const now = () => store.scene.objects.find((b) => b.id === box.id) ?? box;
    const change = (mutate: (b: Box) => void) => store.change((scene) => scene.objects.filter((b) => b.id === box.id).forEach(mutate));
    const xyz = ["x", "y", "z"].map((axis, i) =>
      this.number(axis.toUpperCase(), (b) => b.position[i], (b, v) => (b.position[i] = v), -1000, 1000, 0.01, "move", undefined, t(`object.position.${axis}`)));
    const size = (["width", "depth", "height"] as const).map((name, i) =>
      this.number(t(`object.${name}`), (b) => b.size[i], (b, v) => (b.size[i] = v), 0.001, 1000, 0.01, "scale", undefined, t(`object.${name}.hint`)));
    const turn = this.number(t("object.yaw"), (b) => b.yaw_deg, (b, v) => (b.yaw_deg = v <= -180 ? v + 360 : v), -180, 180, 1, "turn", "°", t("object.yaw.hint"));
    const preset = element("button", { type: "button", class: "se-button se-preset", onclick: () => this.menu.presets() });
    const colour = element("input", { type: "color", class: "se-colour", "aria-label": t("object.color"), title: t("object.color") });
    colour.addEventListener("change", () => {
      store.begin();
      change((b) => (b.color = colour.value));
      store.commit(t("step.color"));
    });
    const uses = (["control", "prompt", "generate3d"] as const).map((key) => {
      const input = element("input", { type: "checkbox" });
      input.addEventListener("change", () => store.edit(t("step.use"), (s) => (s.objects.find((b) => b.id === box.id).use[key] = input.checked)));
      this.live.push(() => (input.checked = now().use[key]));
      return element("label", { class: "se-check", title: t(`object.use.${key}.hint`) }, [input, t(`object.use.${key}`)]);
    });
    const seen = element("p", { class: "se-info" });
    this.live.push(() => {
      const b = now();
      const known = b.preset && PRESETS[b.preset];
      preset.textContent = known ? t(`preset.${b.preset}`) : t("object.custom");
      colour.value = colourOf(store.scene, b);
      const s = this.seen.get(b.id);
      seen.textContent = s?.total ? t("object.seen", { n: Math.round((100 * s.visible) / s.total) }) : "";
      seen.append(...this.problems.filter((p) => p.object === b.id).map((p) => element("span", { class: "se-problem" }, [icon("warn"), t(`code.${p.code}`, p.values)])));
    });
    const many = store.session.selection.length > 1;
    const align = many
      ? [element("div", { class: "se-line" }, [
          element("span", { class: "se-caption" }, [t("object.align")]),
          ...["X", "Y", "Z"].flatMap((name, axis) => (["min", "mid", "max"] as const).map((where) =>
            button(t(`object.align.${where}`, { axis: name }), null, () => actions.align(axis, where), { sign: `${name}${{ min: "⇤", mid: "↔", max: "⇥" }[where]}`, class: "se-mini" }))),
          ...["X", "Y"].map((name, axis) => button(t("object.distribute", { axis: name }), null, () => actions.distribute(axis), { sign: `${name}≡`, class: "se-mini" })),
        ])]
      : [];
    return [
      many ? element("p", { class: "se-info" }, [t("object.many", { n: store.session.selection.length })]) :
      textField(store, { label: t("object.prompt"), get: () => now().prompt, set: (v) => change((b) => (b.prompt = v)), step: t("step.words"), limit: 400, placeholder: t("object.prompt.hint") }),
      element("div", { class: "se-three" }, xyz),
      element("div", { class: "se-three" }, size),
      element("div", { class: "se-line" }, [turn, preset, colour, button(t("object.image"), "image", () => this.menu.image(now()), { class: "se-mini" })]),
      ...align,
      element("div", { class: "se-line" }, uses),
      seen,
    ];
  }

  private words(): HTMLElement[] {
    const { t, store } = this;
    const background = textField(store, {
      label: t("words.background"), rows: 2, limit: 2000, step: t("step.words"), placeholder: t("words.background.hint"),
      get: () => store.scene.prompt.background, set: (v) => store.change((s) => (s.prompt.background = v)),
    });
    const full = element("p", { class: "se-prompt", "aria-label": t("words.full") });
    const count = element("p", { class: "se-info" });
    this.live.push(() => {
      const { text, spans } = fullPrompt(store.scene);
      clear(full);
      let at = 0;
      for (const span of spans) {
        const box = store.scene.objects.find((b) => b.id === span.id);
        const i = store.scene.objects.indexOf(box);
        const chip = element("button", { type: "button", class: "se-word", "data-id": box.id, style: `--chip:${colourOf(store.scene, box)}`, onclick: () => store.select([box.id]) }, [
          element("span", { class: "se-chip", style: `--chip:${colourOf(store.scene, box)}` }, [String(i + 1)]), text.slice(span.start, span.end) || t("words.missing"),
        ]);
        chip.addEventListener("pointerenter", () => this.hover(box.id));
        chip.addEventListener("pointerleave", () => this.hover(null));
        full.append(text.slice(at, span.start), chip);
        at = span.end;
      }
      full.append(text.slice(at));
      count.textContent = t("words.tokens", { n: tokenEstimate(text) });
    });
    return [background, element("span", { class: "se-caption" }, [t("words.full")]), full, count];
  }

  private camera(): HTMLElement[] {
    const { t, store, actions } = this;
    const orbit = (label: string, get: () => number, set: (v: number) => void, o: Partial<NumberOptions> & { reset: number; from: number; to: number; low: number; high: number; by: number }) =>
      slider(store, {
        label, get, set: (v) => store.change(() => set(v)), step: t("step.camera"), range: this.range, locale: store.host.locale, resetLabel: t("camera.reset"), ...o,
      });
    const cam = () => activeCamera(store.scene);
    const o = () => cam().orbit;
    const sliders = cam().mode === "orbit"
      ? [
          orbit(t("camera.elevation"), () => o().elevation_deg, (v) => (o().elevation_deg = v), { from: 0, to: 90, low: -89, high: 90, by: 0.1, reset: 20, unit: "°" }),
          orbit(t("camera.lens"), () => cam().lens_mm, (v) => (cam().lens_mm = v), { from: 10, to: 200, low: 1, high: 2000, by: 1, reset: 50, unit: "mm" }),
          orbit(t("camera.azimuth"), () => o().azimuth_deg, (v) => (o().azimuth_deg = v <= -180 ? v + 360 : v), { from: -180, to: 180, low: -180, high: 180, by: 1, reset: 0, unit: "°" }),
          orbit(t("camera.distance"), () => o().distance, (v) => (o().distance = v), { from: 1, to: 30, low: 0.01, high: 1000, by: 0.1, reset: 6 }),
        ]
      : [orbit(t("camera.lens"), () => cam().lens_mm, (v) => (cam().lens_mm = v), { from: 10, to: 200, low: 1, high: 2000, by: 1, reset: 50, unit: "mm" })];
    const badge = element("div", { class: "se-badge", role: "status" });
    const list = element("div", { class: "se-line se-cameras" });
    this.live.push(() => {
      const own = this.problems.filter((p) => ["W101", "W102", "W103", "W113"].includes(p.code));
      clear(badge);
      badge.classList.toggle("se-amber", own.length > 0);
      if (own.length) badge.append(...own.map((p) => element("p", { "data-code": p.code }, [icon("warn"), t(`code.${p.code}`, p.values)])));
      else badge.append(element("p", {}, [t("camera.comfort")]));
      if (store.busy) return;
      clear(list);
      for (const camera of store.scene.cameras) list.append(this.cameraCard(camera));
      list.append(button(t("camera.add"), "add", () => actions.addCamera(), { class: "se-mini" }));
      if (store.scene.cameras.length > 1) list.append(button(t("camera.remove"), "trash", () => actions.removeCamera(store.scene.active_camera), { class: "se-mini" }));
      list.append(button(t("camera.ring"), null, () => this.menu.ring(), { text: t("camera.ring"), class: "se-mini" }));
    });
    const [trace, ...backdrop] = this.backdropLine();
    const locked = element("input", { type: "checkbox" });
    locked.addEventListener("change", () => store.edit(t("step.camera"), () => (cam().locked = locked.checked)));
    this.live.push(() => (locked.checked = cam().locked));
    return [
      ...sliders,
      ...backdrop,
      element("div", { class: "se-line" }, [
        button(t("camera.home"), "home", () => actions.bringHome(), { text: t("camera.home") }),
        element("label", { class: "se-check", title: t("camera.locked.hint") }, [locked, t("camera.locked")]),
        trace,
      ]),
      badge, list,
    ];
  }

  /** What a camera sees, small, with its name. */
  private cameraCard(camera: Camera): HTMLElement {
    const { store, actions, t } = this;
    const [w, h] = camera.size ?? store.scene.output.size;
    const k = THUMB / Math.max(w, h);
    const one = button(t("camera.use", { name: camera.name }), null, () => actions.useCamera(camera.id), { pressed: camera.id === store.scene.active_camera, class: "se-cam" });
    const canvas = element("canvas", { width: Math.round(w * k * 2), height: Math.round(h * k * 2), style: `width:${w * k}px;height:${h * k}px`, "aria-hidden": "true" });
    if (store.scene.cameras.length <= THUMBS) {
      const ctx = canvas.getContext("2d");
      const look = this.menu.look();
      ctx.fillStyle = look.ground;
      ctx.fillRect(0, 0, canvas.width, canvas.height);
      const boxes = store.shown;
      const looks = boxes.map((b) => ({ colour: colourOf(store.scene, b), edge: colourOf(store.scene, b), opacity: 0.45, flat: true }));
      drawSimple(ctx, boxes, looks, pinhole(camera, canvas.width, canvas.height), look, 10);
      one.append(canvas);
    }
    one.append(element("span", {}, [camera.name]));
    return one;
  }

  /** A button to choose a picture to trace, and how strongly it shows once there is one. */
  private backdropLine(): HTMLElement[] {
    const { store, t } = this;
    const range = element("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": t("backdrop.opacity") });
    range.addEventListener("input", () => store.set({ backdropOpacity: Number(range.value), through: true, mode: "solid" }));
    const shown = element("div", { class: "se-slider" }, [
      element("span", { class: "se-caption" }, [t("backdrop.opacity")]), range,
      button(t("menu.noBackdrop"), "close", () => store.set({ backdrop: null }), { class: "se-mini" }),
    ]);
    const choose = button(t("menu.backdrop"), "image", () => this.menu.trace());
    this.live.push(() => {
      shown.hidden = !store.backdrop;
      (shown.lastChild as HTMLElement).hidden = !store.session.backdrop;
      range.value = String(store.session.backdropOpacity);
    });
    return [choose, shown];
  }

  private pictureTab(): HTMLElement[] {
    const { t, store } = this;
    const out = () => store.scene.output;
    const field = (key: string, low: number, high: number, by: number, get: () => number, set: (s: Scene, v: number) => void) =>
      numberField(store, { label: t(`picture.${key}`), low, high, by, step: t("step.picture"), locale: store.host.locale, range: this.range, get, set: (v) => store.change((s) => set(s, v)) });
    const sixteen = (v: number) => Math.round(v / 16) * 16;
    const size = element("select", { class: "se-text", "aria-label": t("picture.size") });
    for (const [w, h] of SIZES) size.append(element("option", { value: `${w}x${h}` }, [`${w} × ${h}`]));
    size.append(element("option", { value: "" }, [t("picture.other")]));
    size.addEventListener("change", () => {
      if (size.value) store.edit(t("step.picture"), (s) => (s.output.size = size.value.split("x").map(Number)));
    });
    this.live.push(() => {
      const value = outputSize(store.scene).join("x");
      size.value = SIZES.some((s) => s.join("x") === value) ? value : "";
    });
    return [
      element("div", { class: "se-line" }, [
        element("label", { class: "se-field" }, [element("span", {}, [t("picture.size")]), size]),
        field("width", 256, 4096, 16, () => out().size[0], (s, v) => (s.output.size = [sixteen(v), s.output.size[1]])),
        field("height", 256, 4096, 16, () => out().size[1], (s, v) => (s.output.size = [s.output.size[0], sixteen(v)])),
      ]),
      element("div", { class: "se-three" }, [
        field("seed", 0, 2 ** 53 - 1, 1, () => out().seed, (s, v) => (s.output.seed = Math.round(v))),
        field("steps", 1, 200, 1, () => out().steps, (s, v) => (s.output.steps = Math.round(v))),
        field("guidance", 0, 30, 0.1, () => out().guidance, (s, v) => (s.output.guidance = v)),
      ]),
      element("div", { class: "se-three" }, [field("control", 64, 4096, 64, () => out().control_size, (s, v) => (s.output.control_size = Math.round(v)))]),
      element("p", { class: "se-info" }, [t("picture.privacy")]),
    ];
  }
}

