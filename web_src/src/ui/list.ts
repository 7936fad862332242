// The objects: order of the prompt, eye, padlock, warnings; folders; drag to reorder.
import { colourOf, label } from "../scene/document.ts";
import type { Problem, Box } from "../scene/types.ts";
import type { Seen } from "../math/visibility.ts";
import type { Actions } from "./actions.ts";
import { button, clear, element, icon } from "./dom.ts";
import type { Store } from "./store.ts";

type Translate = (key: string, values?: Record<string, unknown>) => string;

export class ObjectList {
  readonly root: HTMLElement;
  readonly rows = element("div", { class: "se-rows", role: "listbox", "aria-multiselectable": "true", tabindex: "0" });
  private dragged: string | null = null;
  private shown = "";

  constructor(
    private readonly store: Store, private readonly actions: Actions, private readonly t: Translate,
    private readonly drop: (box: Box, file: File) => void, private readonly hover: (id: string | null) => void,
  ) {
    this.rows.setAttribute("aria-label", t("list.label"));
    const add = button(t("list.add"), "add", () => store.tell("add"), { text: t("list.add"), class: "se-add" });
    this.root = element("div", { class: "se-list" }, [this.rows, add]);
    this.rows.addEventListener("keydown", (e) => this.key(e));
  }

  render(problems: Problem[], seen: Map<string, Seen>): void {
    const { scene, session } = this.store;
    const focused = (document.activeElement as HTMLElement | null)?.closest?.(".se-row")?.getAttribute("data-id");
    if (this.rows.querySelector("input:focus")) return; // a name is being typed
    // rows stay while nothing in them changes: one that is being dragged must not be replaced
    const key = JSON.stringify([
      scene.objects.map((b) => [b.id, label(b), b.visible, b.locked, b.group, b.image, colourOf(scene, b), seen.get(b.id)?.visible, seen.get(b.id)?.total]),
      scene.groups, session.selection, problems,
    ]);
    if (key === this.shown) return;
    this.shown = key;
    clear(this.rows);
    const groups = new Map(scene.groups.map((g) => [g.id, g]));
    const done = new Set<string>();
    scene.objects.forEach((box, i) => {
      const group = groups.get(box.group);
      if (group && !done.has(group.id)) {
        done.add(group.id);
        const members = scene.objects.filter((b) => b.group === group.id);
        const fold = () => this.store.edit(this.t("step.group"), (s) => (s.groups.find((g) => g.id === group.id).collapsed = !group.collapsed));
        const head = element("div", {
          class: "se-group", role: "option", "aria-selected": "false", tabindex: "0", onclick: fold, ondblclick: () => this.store.select(members.map((b) => b.id)),
        }, [element("span", { "aria-hidden": "true" }, [group.collapsed ? "▸" : "▾"]), icon("folder"), `${group.name} (${members.length})`]);
        head.addEventListener("keydown", (e) => {
          if (e.key !== "Enter" && e.key !== " ") return;
          e.preventDefault();
          e.stopPropagation();
          fold();
        });
        this.rows.append(head);
      }
      if (group?.collapsed) return;
      this.rows.append(this.row(box, i, problems.filter((p) => p.object === box.id), seen.get(box.id), Boolean(group)));
    });
    if (!scene.objects.length) this.rows.append(element("p", { class: "se-empty" }, [this.t("list.empty")]));
    if (focused) (this.rows.querySelector(`[data-id="${CSS.escape(focused)}"]`) as HTMLElement | null)?.focus({ preventScroll: true });
    this.rows.setAttribute("aria-activedescendant", session.selection.length ? `row-${session.selection[session.selection.length - 1]}` : "");
  }

  private row(box: Box, i: number, problems: Problem[], seen: Seen | undefined, inGroup: boolean): HTMLElement {
    const { store, actions, t } = this;
    const on = store.session.selection.includes(box.id);
    const chip = element("span", { class: "se-chip", style: `--chip:${colourOf(store.scene, box)}` }, [String(i + 1)]);
    const hidden = seen && seen.total ? Math.round(100 * (1 - seen.visible / seen.total)) : 0;
    const name = element("span", { class: "se-name" }, [label(box)]);
    // for the pointer; with the keyboard H and L do the same, and a choice of a list may hold no buttons
    const toggle = (sign: string, label: string, press: () => void, on: boolean) =>
      element("span", { class: `se-button se-mini ${on ? "se-on" : ""}`, title: label, "aria-hidden": "true", onclick: (e) => (e.stopPropagation(), press()) }, [icon(sign)]);
    const row = element("div", {
      class: `se-row ${on ? "se-selected" : ""} ${box.visible ? "" : "se-hidden"} ${inGroup ? "se-inner" : ""}`, role: "option", id: `row-${box.id}`,
      "aria-selected": String(on), "aria-keyshortcuts": "H L F2", "data-id": box.id, tabindex: on ? "0" : "-1", draggable: "true",
      title: problems.map((p) => t(`code.${p.code}`, p.values)).join("\n") || label(box),
    }, [
      chip,
      box.image && element("img", { class: "se-thumb", alt: "", src: store.host.fileUrl(box.image), draggable: "false" }),
      name,
      problems.length > 0 && element("span", { class: "se-warn", "aria-label": problems.map((p) => t(`code.${p.code}`, p.values)).join(" ") }, [icon("warn")]),
      hidden > 0 && element("span", { class: "se-seen", title: t("list.hiddenPart", { n: hidden }) }, [`${hidden}%`]),
      toggle(box.visible ? "eye" : "eyeoff", t(box.visible ? "list.hide" : "list.show"), () => actions.hide([box], box.visible), !box.visible),
      toggle(box.locked ? "lock" : "unlock", t(box.locked ? "list.unlock" : "list.lock"), () => actions.lock([box], !box.locked), box.locked),
    ]);
    row.querySelector("img")?.addEventListener("error", (e) => {
      const broken = element("span", { class: "se-broken", title: t("list.missing", { name: box.image.name }) }, [icon("image")]);
      (e.target as HTMLElement).replaceWith(broken);
    });
    row.addEventListener("click", (e) => {
      if (e.shiftKey && store.session.selection.length) this.selectRange(box.id);
      else store.select([box.id], e.ctrlKey || e.metaKey);
    });
    row.addEventListener("dblclick", () => this.rename(box.id));
    row.addEventListener("pointerenter", () => this.hover(box.id));
    row.addEventListener("pointerleave", () => this.hover(null));
    row.addEventListener("dragstart", (e) => {
      this.dragged = box.id;
      e.dataTransfer.setData("application/x-sightline-row", box.id);
      e.stopPropagation();
    });
    row.addEventListener("dragover", (e) => {
      e.preventDefault();
      e.stopPropagation();
      row.classList.add("se-over");
    });
    row.addEventListener("dragleave", () => row.classList.remove("se-over"));
    row.addEventListener("drop", (e) => {
      row.classList.remove("se-over");
      const file = [...(e.dataTransfer?.files ?? [])].find((f) => f.type.startsWith("image/"));
      if (!file && !this.dragged) return; // not for a row
      e.preventDefault();
      e.stopPropagation();
      if (file) this.drop(box, file);
      else if (this.dragged !== box.id) actions.reorder(this.dragged, store.scene.objects.indexOf(box));
      this.dragged = null;
    });
    return row;
  }

  private selectRange(to: string): void {
    const ids = this.store.scene.objects.map((b) => b.id);
    const from = this.store.session.selection[this.store.session.selection.length - 1];
    const [a, b] = [ids.indexOf(from), ids.indexOf(to)].sort((x, y) => x - y);
    const between = ids.slice(a, b + 1).filter((id) => id !== to);
    this.store.select([...between, to]);
  }

  rename(id: string): void {
    const box = this.store.scene.objects.find((b) => b.id === id);
    const span = this.rows.querySelector(`[data-id="${CSS.escape(id)}"] .se-name`);
    if (!box || !span) return;
    const input = element("input", { class: "se-text", value: label(box), maxlength: 80, "aria-label": this.t("list.rename") });
    let over = false;
    const end = (keep: boolean) => {
      if (over) return;
      over = true;
      const value = input.value.trim();
      input.replaceWith(span);
      this.shown = "";
      if (keep && value !== label(box)) this.actions.rename(box, value);
    };
    input.addEventListener("keydown", (e) => {
      e.stopPropagation();
      if (e.key === "Enter") end(true);
      else if (e.key === "Escape") end(false);
    });
    input.addEventListener("blur", () => end(true));
    input.addEventListener("dblclick", (e) => e.stopPropagation());
    span.replaceWith(input);
    input.focus();
    input.select();
  }

  private key(e: KeyboardEvent): void {
    const ids = this.store.scene.objects.map((b) => b.id);
    const now = ids.indexOf(this.store.session.selection[this.store.session.selection.length - 1]);
    const go = (to: number) => {
      const i = Math.max(0, Math.min(ids.length - 1, to));
      if (!ids[i]) return;
      if (e.altKey && now >= 0) this.actions.reorder(ids[now], i);
      else this.store.select([ids[i]]);
      (this.rows.querySelector(`[data-id="${CSS.escape(e.altKey ? ids[now] : ids[i])}"]`) as HTMLElement | null)?.focus();
    };
    const keys: Record<string, () => void> = {
      ArrowDown: () => go(now + 1), ArrowUp: () => go(now < 0 ? 0 : now - 1), Home: () => go(0), End: () => go(ids.length - 1),
      F2: () => this.rename(ids[now]), Enter: () => this.rename(ids[now]), Delete: () => this.actions.remove(),
      h: () => this.actions.hide(this.store.selection, this.store.selection.some((b) => b.visible)),
      l: () => this.actions.lock(this.store.selection, !this.store.selection.every((b) => b.locked)),
    };
    if (!Object.hasOwn(keys, e.key) || (e.target as HTMLElement).tagName === "INPUT") return;
    e.preventDefault();
    e.stopPropagation();
    keys[e.key]();
  }
}
