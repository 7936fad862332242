// The row of tools above the picture.
import type { Actions } from "./actions.ts";
import { button, element } from "./dom.ts";
import type { Mode, Store, Tool } from "./store.ts";

const MODES: Mode[] = ["solid", "control", "exact", "masks", "compare"];
const TOOLS: [Tool, string, string][] = [["move", "move", "G"], ["turn", "turn", "R"], ["scale", "scale", "S"]];
const GRID = [0.05, 0.1, 0.25, 0.5, 1];
const ANGLES = [5, 15, 45];

export class Toolbar {
  readonly root: HTMLElement;
  private readonly tools: HTMLButtonElement[];
  private readonly modes: HTMLButtonElement[];
  private readonly snap: HTMLButtonElement;
  private readonly through: HTMLButtonElement;
  private readonly full: HTMLButtonElement;
  private readonly undo: HTMLElement;

  constructor(private readonly store: Store, actions: Actions, private readonly t: (key: string, values?: Record<string, unknown>) => string, call: { add: () => void; more: (x: number, y: number) => void; fullscreen: () => void }) {
    this.tools = TOOLS.map(([tool, sign, key]) => button(t(`tool.${tool}`), sign, () => store.set({ tool }), { pressed: false, key }));
    this.modes = MODES.map((mode) => {
      const one = button(t(`mode.${mode}.hint`), null, () => store.set({ mode }), { pressed: false, text: t(`mode.${mode}`) });
      one.dataset.mode = mode;
      return one;
    });
    this.snap = button(t("tool.snap"), "snap", () => store.set({ snap: !store.session.snap }), { pressed: false, key: "Ctrl" });
    const step = element("select", { class: "se-step", "aria-label": t("tool.grid"), title: t("tool.grid") });
    for (const v of GRID) step.append(element("option", { value: v }, [v.toLocaleString(store.host.locale)]));
    step.addEventListener("change", () => store.set({ grid: Number(step.value) }));
    const angle = element("select", { class: "se-step", "aria-label": t("tool.angle"), title: t("tool.angle") });
    for (const v of ANGLES) angle.append(element("option", { value: v }, [`${v}°`]));
    angle.addEventListener("change", () => store.set({ angle: Number(angle.value) }));
    this.sync = () => {
      step.value = String(store.session.grid);
      angle.value = String(store.session.angle);
    };
    this.through = button(t("tool.through"), "camera", () => store.set({ through: !store.session.through, mode: "solid" }), { pressed: false, key: "0" });
    this.full = button(t("tool.fullscreen"), "full", () => call.fullscreen(), { key: "F", pressed: false });
    const more = button(t("tool.more"), "more", () => {
      const r = more.getBoundingClientRect();
      call.more(r.left, r.bottom);
    });
    more.setAttribute("aria-haspopup", "menu");
    this.undo = element("span", { class: "se-set se-history" }, [
      button(t("tool.undo"), "undo", () => store.undo(), { key: "Ctrl+Z" }), button(t("tool.redo"), "redo", () => store.redo(), { key: "Ctrl+Shift+Z" }),
    ]);
    this.root = element("div", { class: "se-toolbar", role: "toolbar", "aria-label": t("tool.label") }, [
      button(t("list.add"), "add", () => call.add(), { text: t("tool.add"), class: "se-primary", key: "Shift+A" }),
      element("span", { class: "se-set" }, this.tools),
      element("span", { class: "se-set" }, [this.snap, step, angle]),
      element("span", { class: "se-set", role: "group", "aria-label": t("mode.label") }, [this.through, ...this.modes]),
      this.undo,
      element("span", { class: "se-set se-end" }, [this.full, more]),
    ]);
    this.root.addEventListener("keydown", (e) => {
      if (e.key !== "ArrowRight" && e.key !== "ArrowLeft") return;
      const all = [...this.root.querySelectorAll<HTMLElement>("button:not([disabled])")].filter((b) => b.offsetParent);
      const at = all.indexOf(document.activeElement as HTMLElement);
      if (at < 0) return;
      all[(at + (e.key === "ArrowRight" ? 1 : -1) + all.length) % all.length].focus();
      e.preventDefault();
      e.stopPropagation();
    });
  }
  private readonly sync: () => void;

  render(exactReason: string): void {
    const { session, inDialog } = this.store;
    const press = (b: HTMLButtonElement, on: boolean) => b.setAttribute("aria-pressed", String(on));
    this.tools.forEach((b, i) => press(b, session.tool === TOOLS[i][0]));
    this.modes.forEach((b) => press(b, session.mode === b.dataset.mode));
    const exact = this.modes[MODES.indexOf("exact")];
    exact.disabled = Boolean(exactReason);
    exact.title = exactReason || this.t("mode.exact.hint");
    press(this.snap, session.snap);
    press(this.through, this.store.looksThrough);
    press(this.full, inDialog);
    this.undo.hidden = !inDialog;
    const [back, forth] = this.undo.querySelectorAll("button");
    back.disabled = this.store.at === 0;
    forth.disabled = this.store.at >= this.store.history.length - 1;
    this.sync();
  }
}
