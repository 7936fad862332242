// What ComfyUI loads with the page: small. The editor and three.js come when the first node of ours is on a canvas.
// The truth is the string widget `scene`; the editor is a DOM widget after it that is not saved.
// @ts-ignore -- served by the host
import { app } from "../../scripts/app.js";
// @ts-ignore -- served by the host
import { api } from "../../scripts/api.js";
import type { Host } from "./types.ts";

const NODE = "SightlineLayoutEditor";
const SIZE = [540, 760];
const MIN_HEIGHT = 520;
const TEST = new URLSearchParams(location.search).has("sightline_test");
const base = new URL("./", import.meta.url);

let module: Promise<any> | null = null;
let texts: Promise<Record<string, string>> | null = null;
const editors = new Map<any, any>();

/** The bundle; where the server gives .mjs a wrong type, its text through a blob. */
function load(): Promise<any> {
  const url = new URL("./lib/editor.mjs", base).href;
  (globalThis as any).__sightlineBase = new URL("./lib/editor.mjs", base).href;
  module ??= import(url).catch(async () => {
    const source = await (await fetch(url)).text();
    return import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  });
  return module;
}

const locale = (): string => String(app.extensionManager?.setting?.get?.("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en");

/** Our texts in the user's language, as the host merged them. */
function translations(): Promise<Record<string, string>> {
  texts ??= api
    .fetchApi("/i18n")
    .then((answer: Response) => answer.json())
    .then((all: any) => all?.[locale()]?.sightline?.editor ?? {})
    .catch(() => ({}));
  return texts;
}

function hostOf(node: any, widget: any, words: Record<string, string>): Host {
  return {
    nodeId: () => String(node.id),
    getText: () => String(widget.value ?? ""),
    setText: (text) => {
      widget.value = text;
      widget.callback?.(text);
      node.graph?.setDirtyCanvas?.(true, true);
    },
    captureUndo: () => {
      const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
      (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
    },
    locale: locale(),
    translate: (key) => words[key],
    post: (path, body, headers = {}) => api.fetchApi(path, { method: "POST", body, headers }),
    get: (path) => api.fetchApi(path),
    upload: async (file) => {
      const body = new FormData();
      body.append("image", file);
      body.append("subfolder", "sightline");
      body.append("type", "input");
      const answer = await api.fetchApi("/upload/image", { method: "POST", body });
      if (!answer.ok) throw new Error(answer.statusText);
      const { name, subfolder } = await answer.json();
      return { kind: "input", name, subfolder };
    },
    fileUrl: (ref) => api.apiURL(`/view?${new URLSearchParams({ filename: ref.name, subfolder: ref.subfolder ?? "", type: ref.kind })}`),
    getSetting: (id) => app.extensionManager?.setting?.get?.(id),
    setSetting: (id, value) => app.extensionManager?.setting?.set?.(id, value),
    toast: (detail) => app.extensionManager?.toast?.add?.({ severity: "info", summary: "Sightline", detail, life: 6000 }),
    graphScale: () => app.canvas?.ds?.scale ?? 1,
    linkedPicture: () => {
      const from = origin(node, "backdrop");
      return from === null ? undefined : pictureOf(from);
    },
    sceneLinked: () => origin(node, "scene_in") !== null,
  };
}

const view = (file: any) =>
  api.apiURL(`/view?${new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "output" })}`);

/** The node that feeds an input of ours. */
function origin(node: any, name: string): any {
  const slot = node.inputs?.findIndex((i: any) => i.name === name) ?? -1;
  return slot < 0 || node.inputs[slot].link == null ? null : node.getInputNode?.(slot) ?? {};
}

/** What a node shows already: the picture of its last run, or the file chosen in it. */
function pictureOf(node: any): string | null {
  if (node?.imgs?.[0]?.src) return node.imgs[0].src;
  const chosen = node?.widgets?.find((w: any) => w.name === "image")?.value;
  const parts = typeof chosen === "string" && /^(?:(.*)\/)?([^/]+?)(?: \[(\w+)\])?$/.exec(chosen);
  return parts ? view({ filename: parts[2], subfolder: parts[1] ?? "", type: parts[3] ?? "input" }) : null;
}

function attach(node: any): void {
  const widget = node.widgets?.find((w: any) => w.name === "scene");
  if (!widget || editors.has(node)) return;
  widget.hidden = true;
  widget.options ??= {};
  widget.options.hidden = true; // the same object: Nodes 2.0 has already taken hold of it
  widget.computeSize = () => [0, -4];
  const holder = document.createElement("div");
  holder.style.cssText = "width:100%;height:100%;min-height:0";
  node.addDOMWidget("layout", "sightline_layout", holder, {
    serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT, getValue: () => "", setValue: () => {},
  });
  // Without the focus the wheel belongs to the graph. Nodes 2.0 passes it on by itself, classic nodes do not.
  holder.addEventListener("wheel", (e) => {
    const { ds, canvas } = app.canvas;
    if (holder.contains(document.activeElement)) return;
    const [scale, x, y] = [ds.scale, ...ds.offset];
    setTimeout(() => {
      if (ds.scale !== scale || ds.offset[0] !== x || ds.offset[1] !== y) return;
      canvas.dispatchEvent(new WheelEvent("wheel", e));
    });
  }, { passive: true });
  // the control image of a run is in the editor already; below it the host would take the editor's room for it
  node.hideOutputImages = true;
  Object.defineProperty(node, "imgs", { configurable: true, get: () => undefined, set: () => {} });
  const state: any = { editor: null, alive: true };
  widget.serializeValue = () => {
    state.editor?.store.settle();
    return state.editor ? state.editor.store.runText() : widget.value;
  };
  const start = async () => {
    const [{ createEditor }, words] = await Promise.all([load(), translations()]);
    if (!state.alive) return;
    const { root, editor } = createEditor(hostOf(node, widget, words));
    state.editor = editor;
    holder.replaceChildren(root);
    editor?.links();
  };
  // not before the node is in a graph: the host makes copies to write them down, and forgets them without a word
  const begin = () => {
    if (editors.has(node)) return;
    editors.set(node, state);
    state.alive = true;
    void start();
  };
  if (node.graph) begin();
  const connections = node.onConnectionsChange;
  node.onConnectionsChange = function (...all: unknown[]) {
    const result = connections?.apply(this, all);
    setTimeout(() => state.editor?.links());
    return result;
  };
  const before = node.onRemoved;
  node.onRemoved = function (...all: unknown[]) {
    state.alive = false;
    editors.delete(node);
    state.editor?.dispose();
    holder.replaceChildren();
    return before?.apply(this, all);
  };
  const configure = node.onConfigure;
  node.onConfigure = function (...all: unknown[]) {
    state.configured = true;
    const result = configure?.apply(this, all);
    state.editor?.load();
    return result;
  };
  // A new node begins empty: the host's store of values outlives a cleared graph and is keyed by node id.
  const added = node.onAdded;
  node.onAdded = function (...all: unknown[]) {
    const result = added?.apply(this, all);
    begin();
    if (!state.configured)
      queueMicrotask(() => {
        if (state.configured || !state.alive || !widget.value) return;
        widget.value = "";
        state.editor?.load();
      });
    return result;
  };
  if (node.size[0] < SIZE[0] || node.size[1] < SIZE[1]) node.setSize?.([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
}

app.registerExtension({
  name: "Sightline.LayoutEditor",
  settings: [
    {
      id: "Sightline.LayoutEditor.Keys", name: "Keys", category: ["Sightline", "3D Layout Editor", "Keys"], type: "combo", defaultValue: "grs",
      options: [{ value: "grs", text: "Blender (G R S)" }, { value: "wer", text: "three.js (W E R)" }],
    },
    { id: "Sightline.LayoutEditor.Presets", name: "Own presets", type: "hidden", defaultValue: [] },
    { id: "Sightline.LayoutEditor.Tips", name: "Tips shown", type: "hidden", defaultValue: 0 },
  ],
  nodeCreated(node: any) {
    if (node.comfyClass === NODE) attach(node);
  },
  setup() {
    api.addEventListener("executed", ({ detail }: any) => {
      const output = detail?.output ?? {};
      const from = String(detail.display_node ?? detail.node).split(":").pop();
      const image = output.images?.[output.images.length - 1];
      for (const [node, state] of editors) {
        if (String(node.id) !== from) image && state.editor?.generated(view(image));
        else state.editor?.linked(output.sightline_backdrop ? view(output.sightline_backdrop[0]) : null, output.sightline_scene_in?.[0] ?? null);
      }
    });
    // the graph's zoom is a transform of the page: nothing but the canvas itself tells that it has changed
    const { canvas } = app;
    const drawn = canvas.onDrawForeground;
    let scale = 0;
    canvas.onDrawForeground = function (...all: unknown[]) {
      if (canvas.ds.scale !== scale) {
        scale = canvas.ds.scale;
        requestAnimationFrame(() => editors.forEach((state) => state.editor?.fit()));
      }
      return drawn?.apply(this, all);
    };
  },
});

if (TEST)
  (window as any).__sightline = {
    load,
    editor: (id: unknown) => [...editors].findLast(([node]) => String(node.id) === String(id))?.[1].editor ?? null,
    editors,
  };
