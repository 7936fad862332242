// Built from web_src/ of ComfyUI-Sightline (Apache-2.0). Do not edit: change the sources and build.

// src/host/entry.ts
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
var NODE = "SightlineLayoutEditor";
var SIZE = [540, 760];
var MIN_HEIGHT = 520;
var TEST = new URLSearchParams(location.search).has("sightline_test");
var base = new URL("./", import.meta.url);
var module = null;
var texts = null;
var editors = /* @__PURE__ */ new Map();
function load() {
  const url = new URL("./lib/editor.mjs", base).href;
  globalThis.__sightlineBase = new URL("./lib/editor.mjs", base).href;
  module ??= import(url).catch(async () => {
    const source = await (await fetch(url)).text();
    return import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  });
  return module;
}
var locale = () => String(app.extensionManager?.setting?.get?.("Comfy.Locale") ?? app.ui?.settings?.getSettingValue?.("Comfy.Locale") ?? "en");
function translations() {
  texts ??= api.fetchApi("/i18n").then((answer) => answer.json()).then((all) => all?.[locale()]?.sightline?.editor ?? {}).catch(() => ({}));
  return texts;
}
function hostOf(node, widget, words) {
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
    toast: (detail) => app.extensionManager?.toast?.add?.({ severity: "info", summary: "Sightline", detail, life: 6e3 }),
    graphScale: () => app.canvas?.ds?.scale ?? 1,
    linkedPicture: () => {
      const from = origin(node, "backdrop");
      return from === null ? void 0 : pictureOf(from);
    },
    sceneLinked: () => origin(node, "scene_in") !== null
  };
}
var view = (file) => api.apiURL(`/view?${new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "output" })}`);
function origin(node, name) {
  const slot = node.inputs?.findIndex((i) => i.name === name) ?? -1;
  return slot < 0 || node.inputs[slot].link == null ? null : node.getInputNode?.(slot) ?? {};
}
function pictureOf(node) {
  if (node?.imgs?.[0]?.src) return node.imgs[0].src;
  const chosen = node?.widgets?.find((w) => w.name === "image")?.value;
  const parts = typeof chosen === "string" && /^(?:(.*)\/)?([^/]+?)(?: \[(\w+)\])?$/.exec(chosen);
  return parts ? view({ filename: parts[2], subfolder: parts[1] ?? "", type: parts[3] ?? "input" }) : null;
}
function attach(node) {
  const widget = node.widgets?.find((w) => w.name === "scene");
  if (!widget || editors.has(node)) return;
  widget.hidden = true;
  widget.options ??= {};
  widget.options.hidden = true;
  widget.computeSize = () => [0, -4];
  const holder = document.createElement("div");
  holder.style.cssText = "width:100%;height:100%;min-height:0";
  node.addDOMWidget("layout", "sightline_layout", holder, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
    getValue: () => "",
    setValue: () => {
    }
  });
  holder.addEventListener("wheel", (e) => {
    const { ds, canvas } = app.canvas;
    if (holder.contains(document.activeElement)) return;
    const [scale, x, y] = [ds.scale, ...ds.offset];
    setTimeout(() => {
      if (ds.scale !== scale || ds.offset[0] !== x || ds.offset[1] !== y) return;
      canvas.dispatchEvent(new WheelEvent("wheel", e));
    });
  }, { passive: true });
  node.hideOutputImages = true;
  Object.defineProperty(node, "imgs", { configurable: true, get: () => void 0, set: () => {
  } });
  const state = { editor: null, alive: true };
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
  const begin = () => {
    if (editors.has(node)) return;
    editors.set(node, state);
    state.alive = true;
    void start();
  };
  if (node.graph) begin();
  const connections = node.onConnectionsChange;
  node.onConnectionsChange = function(...all) {
    const result = connections?.apply(this, all);
    setTimeout(() => state.editor?.links());
    return result;
  };
  const before = node.onRemoved;
  node.onRemoved = function(...all) {
    state.alive = false;
    editors.delete(node);
    state.editor?.dispose();
    holder.replaceChildren();
    return before?.apply(this, all);
  };
  const configure = node.onConfigure;
  node.onConfigure = function(...all) {
    state.configured = true;
    const result = configure?.apply(this, all);
    state.editor?.load();
    return result;
  };
  const added = node.onAdded;
  node.onAdded = function(...all) {
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
      id: "Sightline.LayoutEditor.Keys",
      name: "Keys",
      category: ["Sightline", "3D Layout Editor", "Keys"],
      type: "combo",
      defaultValue: "grs",
      options: [{ value: "grs", text: "Blender (G R S)" }, { value: "wer", text: "three.js (W E R)" }]
    },
    { id: "Sightline.LayoutEditor.Presets", name: "Own presets", type: "hidden", defaultValue: [] },
    { id: "Sightline.LayoutEditor.Tips", name: "Tips shown", type: "hidden", defaultValue: 0 }
  ],
  nodeCreated(node) {
    if (node.comfyClass === NODE) attach(node);
  },
  setup() {
    api.addEventListener("executed", ({ detail }) => {
      const output = detail?.output ?? {};
      const from = String(detail.display_node ?? detail.node).split(":").pop();
      const image = output.images?.[output.images.length - 1];
      for (const [node, state] of editors) {
        if (String(node.id) !== from) image && state.editor?.generated(view(image));
        else state.editor?.linked(output.sightline_backdrop ? view(output.sightline_backdrop[0]) : null, output.sightline_scene_in?.[0] ?? null);
      }
    });
    const { canvas } = app;
    const drawn = canvas.onDrawForeground;
    let scale = 0;
    canvas.onDrawForeground = function(...all) {
      if (canvas.ds.scale !== scale) {
        scale = canvas.ds.scale;
        requestAnimationFrame(() => editors.forEach((state) => state.editor?.fit()));
      }
      return drawn?.apply(this, all);
    };
  }
});
if (TEST)
  window.__sightline = {
    load,
    editor: (id) => [...editors].findLast(([node]) => String(node.id) === String(id))?.[1].editor ?? null,
    editors
  };
