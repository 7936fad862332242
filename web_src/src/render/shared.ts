// One WebGL2 context for the page, made by the first editor that is seen. Every editor draws into it and copies the
// frame to its own plain canvas; browsers drop the oldest of about 16 contexts, and the host's viewers need some too.
import { WebGLRenderer } from "three";

export const counters = { frames: 0, contexts: 0, commits: 0, draws: 0, listeners: 0, editors: 0 };
const RELEASE_AFTER = 30_000;

let shared: SharedGL | null = null;
let refused = false;
let release: ReturnType<typeof setTimeout> | undefined;

export class SharedGL {
  readonly canvas = document.createElement("canvas");
  readonly renderer: WebGLRenderer;
  readonly software: boolean;
  lost = false;
  private over = false;
  private readonly watchers = new Set<() => void>();

  constructor() {
    const context = this.canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true, preserveDrawingBuffer: true });
    if (!context) throw new Error("WebGL 2 is not available");
    const info = context.getExtension("WEBGL_debug_renderer_info");
    const name = info ? String(context.getParameter(info.UNMASKED_RENDERER_WEBGL)) : "";
    this.software = /swiftshader|llvmpipe|software/i.test(name);
    this.renderer = new WebGLRenderer({ canvas: this.canvas, context, alpha: true });
    this.renderer.autoClear = false;
    counters.contexts++;
    this.canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.lost = true;
      this.tell();
      setTimeout(() => {
        if (!this.lost || this.over) return;
        refused = true; // no restore: the simple view takes over
        this.tell();
      }, 3000);
    });
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.lost = false;
      refused = false;
      this.tell();
    });
  }

  /** Grow the drawing surface to hold w×h pixels. It never shrinks while in use: resizing is slow. */
  fit(w: number, h: number): void {
    if (this.canvas.width < w || this.canvas.height < h)
      this.renderer.setSize(Math.max(w, this.canvas.width), Math.max(h, this.canvas.height), false);
  }

  watch(change: () => void): () => void {
    this.watchers.add(change);
    return () => void this.watchers.delete(change);
  }

  private tell(): void {
    for (const watcher of [...this.watchers]) watcher();
  }

  dispose(): void {
    this.over = true;
    this.renderer.dispose();
    this.renderer.forceContextLoss();
    counters.contexts--;
  }
}

/** The page's context, or null where there is none to be had (then the simple view draws). */
export function sharedGL(): SharedGL | null {
  if (refused) return null;
  if (!shared && counters.editors > 0) {
    try {
      shared = new SharedGL();
    } catch {
      refused = true;
    }
  }
  return shared;
}

export const peekGL = (): SharedGL | null => shared;

/** Called by each editor that comes and goes: the context is given back half a minute after the last one left. */
export function editorCount(change: 1 | -1): void {
  counters.editors += change;
  clearTimeout(release);
  if (counters.editors > 0) return;
  release = setTimeout(() => {
    shared?.dispose();
    shared = null;
    refused = false;
  }, RELEASE_AFTER);
}
