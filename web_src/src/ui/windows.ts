// The panels that open over the editor: adding, presets, examples, harmonise, library, history, help.
import { copy, read } from "../scene/document.ts";
import { AS_REFERENCE, CATEGORIES, harmonise, PRESETS, type HarmoniseOptions } from "../scene/presets.ts";
import type { Problem, Vec3 } from "../scene/types.ts";
import type { Actions } from "./actions.ts";
import { button, clear, element, icon } from "./dom.ts";
import type { Files } from "./files.ts";
import { openPanel, searchList } from "./menus.ts";
import type { Store } from "./store.ts";
import type { Viewport } from "./viewport.ts";

const HELP: [string, string][] = [
  ["G  R  S", "help.tools"], ["G X 1.5 ⏎", "help.typed"], ["Ctrl", "help.snap"], ["Shift", "help.fine"], ["Alt", "help.alt"],
  ["Shift+A", "help.add"], ["Shift+D", "help.duplicate"], ["Del", "help.delete"], ["H / Alt+H", "help.hide"], ["L", "help.lock"],
  ["/", "help.solo"], ["B", "help.band"], ["0 1 3 7", "help.views"], [".  Home", "help.frame"], ["End", "help.drop"],
  ["← → ↑ ↓", "help.nudge"], ["PgUp PgDn", "help.height"], [",  ;", "help.turn"], ["F", "help.fullscreen"], ["Ctrl+C  Ctrl+V", "help.copy"],
];

const OWN = "Sightline.LayoutEditor.Presets";
interface Own {
  name: string;
  size: Vec3;
}

export class Windows {
  constructor(private readonly root: HTMLElement, private readonly store: Store, private readonly actions: Actions, private readonly files: Files, private readonly view: Viewport, private readonly t: (key: string, values?: Record<string, unknown>) => string) {}

  private open(title: string, options: { class?: string; onclose?: () => void } = {}) {
    return openPanel(this.root, title, this.t("window.close"), options);
  }

  /** Sizes that the user keeps: in ComfyUI's settings, so that they are there in every workflow. */
  private get own(): Own[] {
    const found = this.store.host.getSetting(OWN);
    return Array.isArray(found) ? found.filter((p) => typeof p?.name === "string" && p.size?.length === 3 && p.size.every(Number.isFinite)) : [];
  }
  private keep(presets: Own[]): void {
    this.store.host.setSetting(OWN, presets.slice(-200));
  }

  private choices() {
    const own = this.own.map((p, i) => ({ key: `${OWN}${i}`, label: p.name, words: p.name.toLowerCase(), detail: p.size.map((v) => v.toFixed(2)).join(" × ") }));
    return [...(own.length ? [{ name: this.t("category.own"), items: own }] : []), ...this.known()];
  }
  private known() {
    return CATEGORIES.map((category) => ({
      name: this.t(`category.${category}`),
      items: Object.entries(PRESETS).filter(([, p]) => p.category === category).map(([key, preset]) => ({
        key, label: this.t(`preset.${key}`), words: `${key} ${this.t(`preset.${key}`)}`.toLowerCase(),
        detail: preset.size.map((v) => v.toFixed(2)).join(" × "),
      })),
    }));
  }

  add(): void {
    if (this.store.readOnly) return;
    const { body, close } = this.open(this.t("add.title"));
    searchList(body, this.t("add.search"), this.choices(), (key, text) => {
      close();
      const own = key?.startsWith(OWN) ? this.own[Number(key.slice(OWN.length))] : null;
      this.actions.add(own ? own.name : key ?? text, own ? null : key, own?.size ?? null);
      this.view.root.focus({ preventScroll: true });
    }, (text) => this.t("add.free", { text }));
  }

  presets(): void {
    const box = this.store.primary;
    if (!box) return;
    const { body, close } = this.open(this.t("presets.title"));
    searchList(body, this.t("presets.search"), this.choices(), (key) => {
      close();
      const own = key.startsWith(OWN) ? this.own[Number(key.slice(OWN.length))] : null;
      this.actions.set([box], "preset", (b) => {
        b.preset = own ? null : key;
        b.size = copy(own?.size ?? PRESETS[key].size) as Vec3;
      });
    }, null);
    const name = element("input", { class: "se-text", value: box.name || box.prompt, maxlength: 80, "aria-label": this.t("presets.name") });
    const keep = () => {
      const text = name.value.trim();
      if (!text) return;
      this.keep([...this.own.filter((p) => p.name !== text), { name: text, size: copy(box.size) as Vec3 }]);
      close();
    };
    const forget = () => {
      this.keep(this.own.filter((p) => p.name !== name.value.trim()));
      close();
    };
    body.append(element("div", { class: "se-keep" }, [
      element("label", { class: "se-caption" }, [this.t("presets.keep")]), name,
      button(this.t("presets.save"), null, keep, { text: this.t("presets.save"), class: "se-primary" }),
      this.own.length > 0 && button(this.t("presets.forget"), "trash", forget, { class: "se-mini" }),
    ]));
    body.prepend(button(this.t("object.custom"), null, () => (close(), this.actions.set([box], "preset", (b) => (b.preset = null))), { text: this.t("object.custom") }));
  }

  harmonise(): void {
    const options: HarmoniseOptions = { keepHeight: true, edited: false, keepScale: true };
    const { body, close } = this.open(this.t("menu.harmonise"), { onclose: () => ((this.view.ghost = null), this.view.invalidate("over")) });
    const table = element("table", { class: "se-table" });
    let exact = false;
    const show = () => {
      const chosen = exact ? AS_REFERENCE : options;
      const next = harmonise(this.store.scene, chosen);
      this.view.ghost = next;
      this.view.invalidate("over");
      clear(table);
      for (const box of this.store.scene.objects) {
        const after = next.get(box.id);
        if (!after) continue;
        const text = (v: number[]) => v.map((x) => x.toFixed(2)).join(" × ");
        table.append(element("tr", {}, [element("th", {}, [box.name || box.prompt]), element("td", {}, [text(box.size)]), element("td", {}, ["→"]), element("td", {}, [text(after.size)])]));
      }
      if (!next.size) table.append(element("tr", {}, [element("td", {}, [this.t("harmonise.none")])]));
    };
    const check = (key: keyof HarmoniseOptions) => {
      const input = element("input", { type: "checkbox" });
      input.checked = options[key];
      input.addEventListener("change", () => ((options[key] = input.checked), show()));
      return element("label", { class: "se-check" }, [input, this.t(`harmonise.${key}`)]);
    };
    const reference = element("input", { type: "checkbox" });
    reference.addEventListener("change", () => ((exact = reference.checked), show()));
    body.append(
      element("p", { class: "se-info" }, [this.t("harmonise.what")]), table, check("keepHeight"), check("edited"), check("keepScale"),
      element("label", { class: "se-check" }, [reference, this.t("harmonise.reference")]),
      button(this.t("harmonise.apply"), null, () => {
        this.actions.harmonise(exact ? AS_REFERENCE : options);
        close();
      }, { text: this.t("harmonise.apply"), class: "se-primary" }),
    );
    show();
  }

  examples(): void {
    const { body, close } = this.open(this.t("menu.examples"), { class: "se-wide" });
    const base = new URL("../assets/examples/", (globalThis as any).__sightlineBase ?? import.meta.url);
    const grid = element("div", { class: "se-gallery" });
    body.append(grid);
    void fetch(new URL("index.json", base)).then((r) => r.json()).then((list: { file: string }[]) => {
      for (const { file } of list) {
        const title = this.t(`example.${file}`);
        const take = async () => {
          const text = await (await fetch(new URL(`${file}.json`, base))).text();
          close();
          this.actions.open(read(text).scene, "example");
        };
        grid.append(element("button", { type: "button", class: "se-example", "data-example": file, onclick: () => void take() }, [
          element("img", { src: new URL(`${file}.webp`, base).href, alt: "", width: 160, height: 160 }), element("span", {}, [title]),
        ]));
      }
    }).catch(() => grid.append(this.t("library.failed")));
  }

  async library(): Promise<void> {
    const { body, close } = this.open(this.t("menu.library"));
    const name = element("input", { class: "se-text", value: this.store.scene.title, placeholder: this.t("library.name"), "aria-label": this.t("library.name") });
    body.append(element("div", { class: "se-line" }, [name, button(this.t("library.save"), null, () => void this.files.librarySave(name.value).then(close), { text: this.t("library.save"), class: "se-primary" })]));
    const list = element("div", { class: "se-choices" });
    body.append(list);
    for (const file of await this.files.libraryList().catch(() => [] as string[]))
      list.append(element("button", { type: "button", class: "se-choice", onclick: () => (close(), void this.files.libraryOpen(file)) }, [file.replace(/\.json$/, "")]));
    if (!list.children.length) list.append(element("p", { class: "se-empty" }, [this.t("library.empty")]));
  }

  history(): void {
    const { body } = this.open(this.t("menu.history"));
    const show = () => {
      clear(body);
      this.store.history.forEach((step, i) =>
        body.append(element("button", { type: "button", class: "se-choice", "aria-current": i === this.store.at, onclick: () => (this.store.goTo(i), show()) }, [`${i}  ${step.label === "Open" ? this.t("step.open") : step.label}`])));
    };
    show();
  }

  ring(): void {
    const { body, close } = this.open(this.t("camera.ring"));
    const count = element("input", { class: "se-text", type: "number", min: 2, max: 64, value: 8, "aria-label": this.t("ring.count") });
    const elevation = element("input", { class: "se-text", type: "number", min: 0, max: 89, value: 20, "aria-label": this.t("ring.elevation") });
    body.append(
      element("label", { class: "se-field" }, [element("span", {}, [this.t("ring.count")]), count]),
      element("label", { class: "se-field" }, [element("span", {}, [this.t("ring.elevation")]), elevation]),
      button(this.t("ring.make"), null, () => {
        this.actions.viewRing(Math.max(2, Math.min(64, Number(count.value) || 8)), Math.max(-89, Math.min(90, Number(elevation.value) || 20)));
        close();
      }, { text: this.t("ring.make"), class: "se-primary" }),
    );
  }

  problems(problems: Problem[]): void {
    const { body, close } = this.open(this.t("problems.title"));
    for (const p of problems)
      body.append(element("button", { type: "button", class: "se-choice se-problem", "data-code": p.code, onclick: () => (close(), p.object && this.store.select([p.object])) }, [icon("warn"), this.t(`code.${p.code}`, p.values)]));
  }

  help(): void {
    const { body } = this.open(this.t("menu.help"), { class: "se-wide" });
    body.append(
      element("p", { class: "se-info" }, [this.t("help.mouse")]),
      element("table", { class: "se-table" }, HELP.map(([keys, text]) => element("tr", {}, [element("th", {}, [element("kbd", {}, [keys])]), element("td", {}, [this.t(text)])]))),
      element("p", { class: "se-info" }, [this.t("picture.privacy")]),
    );
  }

}
