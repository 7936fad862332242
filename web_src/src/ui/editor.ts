// The editor: puts the parts together, and keeps the host's keys, clipboard and pointer out of it where they would harm.
import type { Host } from "../host/types.ts";
import { counters, editorCount } from "../render/shared.ts";
import { seenBoxes, warnings } from "../scene/comfort.ts";
import { mend, read, sceneIsBase } from "../scene/document.ts";
import type { Problem } from "../scene/types.ts";
import type { Seen } from "../math/visibility.ts";
import { Actions } from "./actions.ts";
import { button, clear, element, icon } from "./dom.ts";
import { Exact } from "./exact.ts";
import { settleAll } from "./fields.ts";
import { Files } from "./files.ts";
import { Input } from "./input.ts";
import { dropJournal, readJournal } from "./journal.ts";
import { ObjectList } from "./list.ts";
import { Panels } from "./panels.ts";
import { closeMenus, popMenu, type Item } from "./menus.ts";
import { Store, type Mode } from "./store.ts";
import { addStyles } from "./styles.ts";
import { Toolbar } from "./toolbar.ts";
import { Viewport } from "./viewport.ts";
import { Windows } from "./windows.ts";

const STOPPED = ["pointerdown", "mousedown", "contextmenu", "dblclick", "click", "keydown", "keyup", "keypress", "touchstart"];
const CLIPBOARD = ["copy", "cut", "paste"];
const TIPS = "Sightline.LayoutEditor.Tips";
const SMALLEST = [300, 360]; // CSS px of the editor
const SMALLEST_SHOWN = 160; // px on the screen

export class Editor {
  readonly root: HTMLElement;
  readonly store: Store;
  readonly actions: Actions;
  readonly view: Viewport;
  readonly input: Input;
  readonly files: Files;
  readonly windows: Windows;
  readonly exact: Exact;
  private readonly list: ObjectList;
  private readonly panels: Panels;
  private readonly toolbar: Toolbar;
  private readonly status = element("div", { class: "se-status" });
  private readonly speech = element("div", { class: "se-speech", role: "status", "aria-live": "polite" });
  private readonly bar = element("div", { class: "se-bar" });
  private readonly hint = element("div", { class: "se-hint" });
  private readonly tip = element("div", { class: "se-tip", role: "note" });
  private readonly body: HTMLElement;
  private queued = false;
  problems: Problem[] = [];
  seen = new Map<string, Seen>();
  private dialog: HTMLDialogElement | null = null;
  private place: Comment | null = null;
  private readonly ends: (() => void)[] = [];

  constructor(readonly host: Host, readonly t: (key: string, values?: Record<string, unknown>) => string) {
    addStyles();
    editorCount(1);
    this.store = new Store(host);
    this.actions = new Actions(this.store, t);
    this.view = new Viewport(this.store, t);
    this.input = new Input(this.view, this.store, this.actions, (x, y) => this.contextMenu(x, y));
    this.root = element("div", { class: "sightline-editor", "data-capture-wheel": "true", lang: host.locale });
    this.exact = new Exact(this.store, t, (image) => {
      this.view.exact = image;
      this.view.invalidate();
      this.refresh();
    });
    this.files = new Files(this.store, this.actions, t, this.root);
    this.windows = new Windows(this.root, this.store, this.actions, this.files, this.view, t);
    this.list = new ObjectList(this.store, this.actions, t, (box, file) => this.files.reference(box, file), (id) => this.hover(id));
    this.panels = new Panels(this.store, this.actions, t, {
      presets: () => this.windows.presets(), image: (box) => this.files.chooseReference(box), ring: () => this.windows.ring(),
      look: () => this.view.look, trace: () => this.files.chooseBackdrop(),
    }, (id) => this.hover(id));
    this.toolbar = new Toolbar(this.store, this.actions, t, {
      add: () => this.windows.add(), more: (x, y) => this.moreMenu(x, y), fullscreen: () => this.toggleFullscreen(),
    });
    this.view.root.append(this.hint, this.tip, this.status);
    this.body = element("div", { class: "se-body" }, [this.list.root, this.view.root, this.panels.root]);
    this.root.append(this.toolbar.root, this.bar, this.body, this.speech);
    this.listen();
  }

  private listen(): void {
    const { root, store } = this;
    for (const name of STOPPED) root.addEventListener(name, (e) => runs(e) ? store.settle() : e.stopPropagation());
    root.addEventListener("pointerenter", () => this.links());
    root.addEventListener("wheel", (e) => root.contains(document.activeElement) && e.stopPropagation(), { passive: true });
    root.addEventListener("pointerdown", (e) => {
      const on = e.target as HTMLElement;
      if (!on.closest("input, textarea, select, button, [tabindex]")) this.view.root.focus({ preventScroll: true });
    });
    root.addEventListener("keydown", (e) => this.keydown(e));
    // without a text selection the browser sends these to the body: they are caught before the host copies nodes
    const clipboard = (e: Event) => this.clipboard(e as ClipboardEvent);
    for (const name of CLIPBOARD) window.addEventListener(name, clipboard, true);
    counters.listeners += CLIPBOARD.length;
    root.addEventListener("dragover", (e) => {
      if (![...(e.dataTransfer?.types ?? [])].includes("Files")) return;
      e.preventDefault();
      e.stopPropagation();
    });
    root.addEventListener("drop", (e) => {
      const file = e.dataTransfer?.files?.[0];
      if (!file) return;
      e.preventDefault();
      e.stopPropagation();
      this.drop(file, e);
    });
    const resize = new ResizeObserver(() => {
      const { clientWidth: w, clientHeight: h } = root;
      root.classList.toggle("se-narrow", w < 420);
      root.classList.toggle("se-roomy", w >= 900 && h >= 480);
      this.fit();
    });
    resize.observe(root);
    if (this.view.gl) this.ends.push(this.view.gl.watch(() => this.refresh()));
    this.ends.push(
      () => resize.disconnect(),
      () => {
        for (const name of CLIPBOARD) window.removeEventListener(name, clipboard, true);
        counters.listeners -= CLIPBOARD.length;
      },
      ...["scene", "selection", "session", "loaded", "hover", "history", "modal"].map((what) => store.on(what, () => this.refresh())),
      store.on("settle", () => settleAll(root)),
      store.on("loaded", () => this.loaded()),
      store.on("add", () => this.windows.add()),
      store.on("help", () => this.windows.help()),
      store.on("fullscreen", () => this.toggleFullscreen()),
      store.on("rename", () => store.primary && this.list.rename(store.primary.id)),
      store.on("commit", () => this.speak()),
    );
  }

  /** Called by the host: at the start, and whenever it has put another text there. */
  load(): void {
    this.store.load(this.host.getText());
  }
  setMode(mode: Mode): void {
    this.store.set({ mode });
  }

  /** Too small to work in, by itself or by the graph's zoom: then only a still picture is left, which moves the node. */
  fit(): void {
    const { clientWidth: w, clientHeight: h } = this.root;
    const shown = this.root.getBoundingClientRect().width;
    if (!w || !shown) return; // collapsed
    const still = w < SMALLEST[0] || h < SMALLEST[1] || shown < SMALLEST_SHOWN;
    if (still === this.view.still) return;
    this.view.still = still;
    this.root.classList.toggle("se-still", still);
    this.view.invalidate();
  }

  /** Look again at what is connected. */
  links(): void {
    const { session } = this.store;
    const url = this.host.linkedPicture();
    if (url && url !== session.linked) this.linked(url, null);
    else if (url === undefined && session.linked !== null) this.store.set({ linked: null });
    if (!this.host.sceneLinked() && session.ghosts) this.store.set({ ghosts: null });
  }

  /** What a run found at the inputs: the picture to trace, and the boxes of the connected scene. */
  linked(picture: string | null, scene: string | null): void {
    const ghosts = scene === null ? null : safely(() => read(scene).scene.objects.filter((b) => b.visible));
    const { session } = this.store;
    const first = picture !== null && session.linked === null;
    if (picture === session.linked && ghosts === null && session.ghosts === null) return;
    this.store.set({ linked: picture ?? session.linked, ghosts: ghosts ?? (scene === null ? session.ghosts : null), ...(first && session.mode === "solid" ? { through: true } : {}) });
  }

  private keydown(e: KeyboardEvent): void {
    const on = e.target as HTMLElement;
    if (this.store.inDialog && (e.ctrlKey || e.metaKey) && ["z", "y"].includes(e.key.toLowerCase())) {
      e.preventDefault();
      settleAll(this.root);
      if (e.key.toLowerCase() === "y" || e.shiftKey) this.store.redo();
      else this.store.undo();
      return;
    }
    if (on.closest("input, textarea, select") || on.closest(".se-menu, .se-window")) return;
    if (e.defaultPrevented) return;
    if (runs(e)) return;
    if (on.closest("button") && (e.key === "Enter" || e.key === " ")) return;
    if (this.input.key(e)) e.preventDefault();
  }

  private clipboard(e: ClipboardEvent): void {
    const focus = document.activeElement;
    if (!this.root.contains(focus)) return;
    e.stopImmediatePropagation();
    if (focus.closest("input, textarea")) return; // text fields keep theirs
    e.preventDefault();
    const name = e.type;
    if (name !== "paste") {
      e.clipboardData.setData("text/plain", this.actions.clipboard());
      if (name === "cut") this.actions.remove();
      this.say(this.t("said.copied", { n: this.store.selection.length || this.store.scene.objects.length }));
      return;
    }
    const file = e.clipboardData.files[0];
    if (file) return void this.drop(file, null);
    this.files.text(e.clipboardData.getData("text/plain"));
  }

  private drop(file: File, e: DragEvent | null): void {
    const image = file.type.startsWith("image/");
    if (!image) return void this.files.open(file);
    const r = this.view.root.getBoundingClientRect();
    const k = this.view.width / (r.width || 1);
    const on = e && this.input.pick((e.clientX - r.left) * k, (e.clientY - r.top) * k)?.box;
    const box = on ?? this.store.primary;
    if (box) void this.files.reference(box, file);
    else this.files.backdrop(file);
  }

  private hover(id: string | null): void {
    if (this.view.hovered === id) return;
    this.view.hovered = id;
    this.view.invalidate();
    this.store.tell("hover");
  }

  private refresh(): void {
    if (this.queued) return;
    this.queued = true;
    requestAnimationFrame(() => {
      this.queued = false;
      this.render();
    });
  }

  private render(): void {
    if (!this.root.isConnected) return;
    const { store, t } = this;
    if (!store.busy || !this.seen.size) {
      this.seen = seenBoxes(store.scene, store.scene.objects.length > 20 ? 32 : 64);
      this.problems = store.scene.objects.length ? warnings(store.scene, this.seen) : warnings(store.scene, this.seen).filter((p) => p.code.startsWith("W10"));
    }
    this.root.classList.toggle("se-readonly", store.readOnly);
    this.root.classList.toggle("se-light", !this.view.look.dark);
    this.toolbar.render(this.exact.reason);
    if (!store.busy) this.list.render(this.problems, this.seen);
    this.panels.render(this.problems, this.seen);
    for (const one of this.root.querySelectorAll<HTMLElement>(".se-word, .se-row"))
      one.classList.toggle("se-hovered", one.dataset.id === this.view.hovered);
    const modal = this.input.status;
    const mode = store.session.mode;
    clear(this.status);
    const note = this.exact.note && (mode === "exact" || (mode === "control" && this.view.simple)) ? this.exact.note : "";
    this.status.append(modal || note || t("status.objects", { n: store.scene.objects.length }));
    if (!modal && !note && this.problems.length)
      this.status.append(element("button", { type: "button", class: "se-warnings", title: this.problems.map((p) => t(`code.${p.code}`, p.values)).join("\n"), onclick: () => this.windows.problems(this.problems) }, [icon("warn"), t("status.warnings", { n: this.problems.length })]));
    if (this.view.simple) this.status.append(element("span", { class: "se-simple" }, [t("status.simple")]));
    if (this.view.gl?.lost) this.status.append(t("status.lost"));
    clear(this.hint);
    if (!store.scene.objects.length && !store.problem)
      this.hint.append(element("p", {}, [t("hint.empty")]), button(t("list.add"), "add", () => this.windows.add(), { text: t("list.add"), class: "se-primary" }), button(t("menu.examples"), null, () => this.windows.examples(), { text: t("menu.examples") }));
    if (mode === "compare" && !store.compared) this.hint.append(element("p", {}, [t("hint.compare")]));
    this.renderTip();
    this.exact.want(mode === "exact" || (this.view.simple && (mode === "control" || mode === "compare")));
  }

  /** Three short tips for the first time, one after the other, in the first box's company. */
  private renderTip(): void {
    const { t, tip, store, host } = this;
    const at = Number(host.getSetting(TIPS) ?? 0);
    const wanted = at < 3 && store.scene.objects.length > 0 && !store.problem && store.session.mode === "solid";
    if (wanted && tip.dataset.at === String(at)) return;
    clear(tip);
    tip.dataset.at = wanted ? String(at) : "";
    if (!wanted) return;
    const go = (to: number) => (host.setSetting(TIPS, to), this.refresh());
    tip.append(
      element("span", {}, [t(`tip.${at + 1}`)]),
      at < 2 && button(t("tip.next"), null, () => go(at + 1), { text: t("tip.next"), class: "se-mini" }),
      button(t("tip.close"), "close", () => go(3), { class: "se-mini" }),
    );
  }

  private speak(): void {
    const box = this.store.primary;
    if (box) this.say(this.t("said.box", { name: box.name || box.prompt, x: box.position[0].toFixed(2), y: box.position[1].toFixed(2), z: box.position[2].toFixed(2), yaw: Math.round(box.yaw_deg) }));
  }
  private say(text: string): void {
    this.speech.textContent = text;
  }

  private loaded(): void {
    const { store, t, bar } = this;
    clear(bar);
    bar.className = "se-bar";
    if (store.problem) return this.showProblem();
    const entry = store.firstLoad ? readJournal(store.key) : null;
    if (!entry || entry.rev <= store.scene.rev || entry.scene === store.text()) return;
    bar.classList.add("se-offer");
    const time = new Date(entry.time).toLocaleTimeString(this.host.locale, { hour: "2-digit", minute: "2-digit" });
    const done = () => {
      clear(bar);
      bar.classList.remove("se-offer");
    };
    bar.append(
      element("span", {}, [t("journal.offer", { time })]),
      button(t("journal.restore"), null, () => (store.repairWith(entry.scene), done()), { text: t("journal.restore"), class: "se-primary" }),
      button(t("journal.drop"), "close", () => (dropJournal(store.key), done()), { class: "se-mini" }),
    );
  }

  /** The text is no scene: say so, show it, and let the user choose. Nothing is overwritten before. */
  private showProblem(): void {
    const { store, t, bar } = this;
    const { problems, text } = store.problem;
    bar.classList.add("se-trouble");
    const newer = problems.some((p) => p.code === "E101");
    const mended = newer ? null : safely(() => mend(text, problems));
    const journal = readJournal(store.key);
    bar.append(
      element("div", { role: "alert" }, problems.slice(0, 6).map((p) => element("p", { "data-code": p.code }, [t(`code.${p.code}`, p.values), p.pointer && element("code", {}, [p.pointer])]))),
      !newer && element("details", {}, [element("summary", {}, [t("trouble.text")]), element("pre", {}, [text.slice(0, 4000)])]),
      element("div", { class: "se-line" }, [
        mended && button(t("trouble.fix"), null, () => store.repairWith(mended), { text: t("trouble.fix"), class: "se-primary" }),
        !newer && button(t("trouble.empty"), null, () => store.startEmpty(), { text: t("trouble.empty") }),
        !newer && journal && button(t("trouble.last"), null, () => store.repairWith(journal.scene), { text: t("trouble.last") }),
      ]),
    );
  }

  private contextMenu(clientX: number, clientY: number): void {
    const { x, y } = this.inRoot(clientX, clientY);
    const { store, actions, t } = this;
    const chosen = store.selection;
    const some = chosen.length > 0;
    const items: Item[] = some
      ? [
          { label: t("menu.duplicate"), key: "Shift+D", sign: "copy", run: () => actions.duplicate() },
          { label: t("menu.rename"), key: "F2", run: () => store.tell("rename") },
          { label: t("menu.delete"), key: "Del", sign: "trash", run: () => actions.remove() },
          { line: true, label: "" },
          { label: t("list.hide"), key: "H", sign: "eyeoff", run: () => actions.hide(chosen) },
          { label: t("list.lock"), key: "L", sign: "lock", run: () => actions.lock(chosen, true) },
          { label: t("menu.solo"), key: "/", checked: store.session.solo !== null, run: () => actions.solo(store.primary) },
          { label: t("menu.group"), sign: "folder", run: () => actions.group(t("group.name", { n: store.scene.groups.length + 1 })) },
          { label: t("menu.ungroup"), off: !chosen.some((b) => b.group), run: () => actions.ungroup() },
          { line: true, label: "" },
          { label: t("menu.drop"), key: "End", run: () => actions.drop() },
          { label: t("menu.frame"), key: ".", run: () => actions.frame(chosen) },
          { label: t("menu.reference"), sign: "image", run: () => this.files.chooseReference(store.primary) },
        ]
      : [
          { label: t("list.add"), key: "Shift+A", sign: "add", run: () => this.windows.add() },
          { label: t("menu.all"), key: "Ctrl+A", run: () => store.select(store.shown.filter((b) => !b.locked).map((b) => b.id)) },
          { label: t("menu.showAll"), key: "Alt+H", sign: "eye", run: () => actions.showAll() },
          { label: t("menu.unlockAll"), sign: "unlock", run: () => actions.lock(store.scene.objects, false) },
          { label: t("menu.frameAll"), key: "Home", run: () => actions.frame([]) },
        ];
    popMenu(this.root, x, y, items, t("menu.label"));
  }

  private moreMenu(clientX: number, clientY: number): void {
    const { x, y } = this.inRoot(clientX, clientY);
    const { store, actions, t } = this;
    const s = store.session;
    popMenu(this.root, x, y, [
      { label: t("menu.examples"), run: () => this.windows.examples() },
      { label: t("menu.harmonise"), run: () => this.windows.harmonise() },
      { line: true, label: "" },
      { label: t("menu.open"), run: () => this.files.choose() },
      { label: t("menu.save"), run: () => this.files.save(false) },
      { label: t("menu.saveBare"), run: () => this.files.save(true) },
      { label: t("menu.png"), run: () => this.files.png(this.view) },
      { label: t("menu.library"), run: () => this.windows.library() },
      { line: true, label: "" },
      { label: t("menu.linked"), checked: sceneIsBase(store.scene), off: !this.host.sceneLinked(), run: () => actions.useLinked(!sceneIsBase(store.scene)) },
      { label: t("menu.backdrop"), sign: "image", run: () => this.files.chooseBackdrop() },
      { label: t("menu.noBackdrop"), off: !s.backdrop, run: () => store.set({ backdrop: null }) },
      { label: t("menu.faces"), checked: s.faceColours, run: () => store.set({ faceColours: !s.faceColours }) },
      { label: t("menu.names"), checked: s.names, run: () => store.set({ names: !s.names }) },
      { line: true, label: "" },
      { label: t("menu.history"), sign: "undo", run: () => this.windows.history() },
      { label: t("menu.help"), key: "?", sign: "help", run: () => this.windows.help() },
    ], t("menu.label"));
  }

  private inRoot(clientX: number, clientY: number): { x: number; y: number } {
    const r = this.root.getBoundingClientRect();
    const k = this.root.clientWidth / (r.width || 1);
    return { x: (clientX - r.left) * k, y: (clientY - r.top) * k };
  }

  /** The same element in a modal dialog: while one is open the host keeps its shortcuts to itself. */
  toggleFullscreen(): void {
    if (this.dialog) return this.dialog.close();
    closeMenus(this.root);
    this.store.settle();
    this.place = document.createComment("sightline");
    this.root.replaceWith(this.place);
    const dialog = element("dialog", { class: "sightline-dialog", "aria-label": this.t("viewport.label") }, [this.root]);
    this.dialog = dialog;
    document.body.append(dialog);
    dialog.addEventListener("cancel", (e) => {
      if (this.root.querySelector(".se-menu, .se-window") || this.input.status || this.store.selection.length) e.preventDefault();
    });
    dialog.addEventListener("close", () => this.leaveFullscreen());
    dialog.showModal();
    this.store.inDialog = true;
    this.view.root.focus({ preventScroll: true });
  }

  private leaveFullscreen(): void {
    this.store.settle();
    this.place?.replaceWith(this.root);
    this.dialog?.remove();
    this.dialog = this.place = null;
    this.store.inDialog = false;
    this.view.root.focus({ preventScroll: true });
    this.view.invalidate();
  }

  /** The picture that the last run made, for comparing. */
  generated(url: string): void {
    this.store.set({ generated: url });
  }

  dispose(): void {
    if (this.dialog) this.dialog.remove();
    for (const end of this.ends) end();
    this.exact.dispose();
    this.input.dispose();
    this.view.dispose();
    this.store.dispose();
    this.root.remove();
    editorCount(-1);
  }
}

/** The host's keys for a run, which are let through. */
const runs = (e: Event): boolean => e instanceof KeyboardEvent && (e.ctrlKey || e.metaKey) && e.key === "Enter";

function safely<T>(call: () => T): T | null {
  try {
    return call();
  } catch {
    return null;
  }
}

