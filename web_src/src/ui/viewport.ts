// The picture of the scene: what is drawn when, and through which camera. Nothing runs while nothing changes.
import { silhouette } from "../math/box.ts";
import { frameRect, orbitAxes, pinhole, type Pinhole } from "../math/camera.ts";
import { ControlPicture } from "../render/control-picture.ts";
import { palette, type Look, type Palette } from "../render/look.ts";
import {
  drawFrame, drawFront, drawGuides, drawMasks, drawName, drawOutline, drawSimple, type Rect,
} from "../render/overlay.ts";
import { counters, sharedGL, type SharedGL } from "../render/shared.ts";
import { SolidView } from "../render/solid.ts";
import { CUBE_ROOM, cubeSides, drawCube, type CubeSide } from "../render/view-cube.ts";
import { outputSize } from "../scene/comfort.ts";
import { colourOf } from "../scene/document.ts";
import type { Box, Vec3 } from "../scene/types.ts";
import { element } from "./dom.ts";
import { drawGizmo, gizmoShapes, path, type Shape } from "./gizmo.ts";
import type { Store } from "./store.ts";
import type { Transform } from "./gesture.ts";

const MARGIN = 14;
let solid: { gl: SharedGL; view: SolidView } | null = null;

export class Viewport {
  readonly root: HTMLElement;
  readonly base = document.createElement("canvas");
  readonly over = document.createElement("canvas");
  readonly control: ControlPicture;
  hovered: string | null = null;
  hot: string | null = null;
  band: number[] | null = null;
  transform: Transform | null = null;
  wipe = 0.5;
  exact: CanvasImageSource | null = null;
  ghost: Map<string, { size: Vec3; z: number }> | null = null; // sizes being offered
  look: Palette;
  shapes: Shape[] = [];
  cube: CubeSide[] = [];
  hotSide: string | null = null;
  still = false; // too small to work in: the camera's picture alone
  width = 0;
  height = 0;
  private pictures = new Map<string, HTMLImageElement>();
  private dirty = { base: true, over: true };
  private frame = 0;
  private visible = true;
  private readonly ends: (() => void)[] = [];

  constructor(readonly store: Store, private readonly t: (key: string, values?: Record<string, unknown>) => string) {
    this.root = element("div", { class: "se-viewport", tabindex: "0", role: "application", "aria-label": t("viewport.label") }, [this.base, this.over]);
    this.base.setAttribute("aria-hidden", "true");
    this.over.setAttribute("aria-hidden", "true");
    this.look = palette(this.root);
    this.control = new ControlPicture(() => this.invalidate(), () => store.busy);
    const resize = new ResizeObserver(() => this.measure());
    resize.observe(this.root);
    const sight = new IntersectionObserver((entries) => {
      this.visible = entries[entries.length - 1].isIntersecting;
      if (this.visible) this.invalidate();
    });
    sight.observe(this.root);
    const theme = new MutationObserver(() => {
      this.look = palette(this.root);
      this.invalidate();
    });
    for (const one of [document.documentElement, document.body])
      theme.observe(one, { attributes: true, attributeFilter: ["class", "style"] });
    const shown = () => this.invalidate();
    document.addEventListener("visibilitychange", shown);
    counters.listeners += 4;
    this.ends.push(
      () => resize.disconnect(), () => sight.disconnect(), () => theme.disconnect(),
      () => document.removeEventListener("visibilitychange", shown),
      store.on("scene", () => (this.control.stale(), this.invalidate())),
      store.on("loaded", () => (this.control.stale(), this.invalidate())),
      store.on("selection", () => this.invalidate()),
      store.on("session", () => this.invalidate()),
    );
    if (this.gl) this.ends.push(this.gl.watch(() => this.invalidate()));
  }

  get gl(): SharedGL | null {
    return sharedGL();
  }
  get simple(): boolean {
    return this.gl === null;
  }

  /** The rectangle of the output picture inside the viewport, CSS pixels. */
  get frameRect(): Rect {
    const [w, h] = outputSize(this.store.scene);
    return frameRect(this.width, this.height, w, h, this.still ? 0 : MARGIN);
  }

  /** The camera that is looked through, in CSS pixels of the viewport. */
  camera(): Pinhole {
    if (this.store.looksThrough || this.still) {
      const f = this.frameRect;
      return pinhole(this.store.camera, f.w, f.h, f.x, f.y);
    }
    const focal = 1.25 * Math.min(this.height, this.width * 0.8);
    return { ...orbitAxes(this.store.session.view), focal, cx: this.width / 2, cy: this.height / 2 };
  }

  invalidate(what: "all" | "over" = "all"): void {
    this.dirty.over = true;
    if (what === "all") this.dirty.base = true;
    if (this.frame || document.hidden || !this.visible) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private measure(): void {
    const { clientWidth: w, clientHeight: h } = this.root;
    if (w === this.width && h === this.height) return;
    [this.width, this.height] = [w, h];
    this.look = palette(this.root); // the host's colours are known only in the page
    this.control.stale();
    this.invalidate();
  }

  /** Drawn pixels per CSS pixel: the widget is scaled by the graph's zoom. */
  private density(): number {
    const scale = this.root.getBoundingClientRect().width / (this.width || 1);
    return Math.min(2, Math.max(0.5, scale * (window.devicePixelRatio || 1)));
  }

  private draw(): void {
    if (this.width < 2 || this.height < 2 || !this.root.isConnected || this.root.getBoundingClientRect().width < 1) return;
    counters.frames++;
    const k = this.density();
    const [w, h] = [Math.round(this.width * k), Math.round(this.height * k)];
    if (this.dirty.base) this.drawBase(w, h, k);
    this.drawOver(w, h, k);
    this.dirty = { base: false, over: false };
    const { mode } = this.store.session;
    if (mode === "control" || mode === "compare") this.control.proceed();
  }

  private looks(boxes: Box[]): Look[] {
    const { selection, faceColours } = this.store.session;
    return boxes.map((box) => {
      const colour = colourOf(this.store.scene, box);
      const near = selection.includes(box.id) || this.hovered === box.id;
      return { colour, edge: colour, opacity: (near ? 0.42 : 0.26) * (box.use.control ? 1 : 0.45), flat: !faceColours };
    });
  }

  private drawBase(w: number, h: number, k: number): void {
    const gl = this.gl;
    if (gl?.lost) return; // keep the last frame
    const sized = this.base.width !== w || this.base.height !== h;
    if (sized) [this.base.width, this.base.height] = [w, h];
    const ctx = this.base.getContext("2d");
    const boxes = this.store.shown;
    const camera = scaled(this.camera(), k);
    const extent = Math.min(80, this.store.scene.environment?.grid?.size || 20);
    ctx.fillStyle = this.look.ground;
    ctx.fillRect(0, 0, w, h);
    if (this.store.backdrop && this.store.session.mode === "solid" && this.store.looksThrough) this.drawBackdrop(ctx, k);
    if (gl) {
      if (solid?.gl !== gl) solid = { gl, view: new SolidView() };
      solid.view.draw(gl, boxes, this.looks(boxes), camera, w, h, this.look, extent);
      const top = gl.canvas.height - h;
      ctx.drawImage(gl.canvas, 0, top, w, h, 0, 0, w, h);
    } else drawSimple(ctx, boxes, this.looks(boxes), camera, this.look, extent);
    if (!this.still) this.drawPictures(ctx, k);
  }

  /** A picture behind the boxes, to trace: it covers the frame and keeps its own proportions. */
  private drawBackdrop(ctx: CanvasRenderingContext2D, k: number): void {
    const image = this.picture(this.store.backdrop);
    if (!image) return;
    const f = this.frameRect;
    const s = Math.max(f.w / image.naturalWidth, f.h / image.naturalHeight);
    const [w, h] = [f.w / s, f.h / s];
    ctx.globalAlpha = this.store.session.backdropOpacity;
    ctx.drawImage(image, (image.naturalWidth - w) / 2, (image.naturalHeight - h) / 2, w, h, f.x * k, f.y * k, f.w * k, f.h * k);
    ctx.globalAlpha = 1;
  }

  /** Control image, server's image, masks, wipe: what fills the frame. */
  private drawPictures(ctx: CanvasRenderingContext2D, k: number): void {
    const { mode } = this.store.session;
    const { compared } = this.store;
    const f = this.frameRect;
    const put = (image: CanvasImageSource | null, alpha = 1) => {
      if (!image) return;
      ctx.globalAlpha = alpha;
      ctx.drawImage(image, f.x * k, f.y * k, f.w * k, f.h * k);
      ctx.globalAlpha = 1;
    };
    if (mode === "exact") put(this.exact);
    if (mode === "masks") {
      ctx.save();
      ctx.scale(k, k);
      drawMasks(ctx, this.store.scene, this.camera(), f);
      ctx.restore();
    }
    if (mode === "control" || mode === "compare") {
      if (this.gl && !this.gl.lost) this.control.start(this.gl, this.store.scene);
      put(this.gl ? this.control.canvas : this.exact);
    }
    if (mode === "compare" && compared) {
      const image = this.picture(compared);
      ctx.save();
      ctx.beginPath();
      ctx.rect((f.x + f.w * this.wipe) * k, f.y * k, f.w * (1 - this.wipe) * k, f.h * k);
      ctx.clip();
      put(image);
      ctx.restore();
    }
  }

  private picture(url: string): HTMLImageElement | null {
    let image = this.pictures.get(url);
    if (!image) {
      image = new Image();
      image.onload = () => this.invalidate();
      image.src = url;
      if (this.pictures.size > 4) this.pictures.clear();
      this.pictures.set(url, image);
    }
    return image.complete && image.naturalWidth ? image : null;
  }

  private drawOver(w: number, h: number, k: number): void {
    if (this.over.width !== w || this.over.height !== h) [this.over.width, this.over.height] = [w, h];
    const ctx = this.over.getContext("2d");
    ctx.setTransform(k, 0, 0, k, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    const { store, look } = this;
    const { mode, names } = store.session;
    const camera = this.camera();
    this.shapes = [];
    this.cube = [];
    if (this.still) return;
    if (store.looksThrough) drawFrame(ctx, this.frameRect, this.width, this.height, look, mode === "solid");
    const selected = new Set(store.session.selection);
    for (const box of store.shown) {
      const strong = selected.has(box.id);
      const hovered = this.hovered === box.id;
      if (strong || hovered) drawOutline(ctx, box, camera, strong ? look.accent : look.ink, strong ? 2 : 1.5, box.locked ? [4, 3] : []);
      if (mode === "solid" && (strong || names)) drawFront(ctx, box, camera, strong ? look.accent : colourOf(store.scene, box));
    }
    for (const box of store.session.ghosts ?? []) drawOutline(ctx, box, camera, look.grid, 1, [3, 4]);
    if (this.ghost)
      for (const box of store.scene.objects) {
        const next = this.ghost.get(box.id);
        if (next) drawOutline(ctx, { ...box, size: next.size, position: [box.position[0], box.position[1], next.z] }, camera, look.ink, 1.5, [5, 4]);
      }
    if (this.transform) drawGuides(ctx, this.transform.guides, store.shown, camera, look);
    const taken: Rect[] = [];
    const near = (box: Box) => selected.has(box.id) || this.hovered === box.id;
    for (const box of [...store.shown].sort((a, b) => Number(near(b)) - Number(near(a))))
      if (near(box) || (names && mode === "solid")) drawName(ctx, store.scene, box, camera, look, near(box), taken);
    this.shapes = gizmoShapes(store, camera, look);
    const still = mode === "exact" || mode === "compare" || mode === "masks";
    if (!still || this.transform) drawGizmo(ctx, this.shapes, this.hot, look);
    if (mode === "compare" && store.compared) this.drawWipe(ctx);
    if (!store.looksThrough) {
      this.cube = cubeSides(camera, this.width - CUBE_ROOM, CUBE_ROOM);
      drawCube(ctx, this.cube, this.hotSide, look, (name) => this.t(`cube.${name}`));
    }
    if (this.band) {
      const [a, b, c, d] = this.band;
      ctx.strokeStyle = look.accent;
      ctx.setLineDash([4, 3]);
      ctx.strokeRect(a, b, c - a, d - b);
      ctx.setLineDash([]);
    }
  }

  private drawWipe(ctx: CanvasRenderingContext2D): void {
    const f = this.frameRect;
    const x = f.x + f.w * this.wipe;
    path(ctx, [[x, f.y], [x, f.y + f.h]], false);
    ctx.strokeStyle = this.look.accent;
    ctx.lineWidth = 2;
    ctx.stroke();
    ctx.beginPath();
    ctx.arc(x, f.y + f.h / 2, 8, 0, 7);
    ctx.fillStyle = this.look.accent;
    ctx.fill();
  }

  /** Boxes whose outline meets a rectangle on the screen. */
  within(x0: number, y0: number, x1: number, y1: number): Box[] {
    const camera = this.camera();
    const [left, right, top, bottom] = [Math.min(x0, x1), Math.max(x0, x1), Math.min(y0, y1), Math.max(y0, y1)];
    return this.store.shown.filter((box) => {
      if (box.locked) return false;
      const o = silhouette(box, camera, 0.05, 1);
      return o.length > 2 && o.every((p) => p[0] >= left && p[0] <= right && p[1] >= top && p[1] <= bottom);
    });
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    for (const end of this.ends) end();
    counters.listeners -= 4;
    this.control.dispose();
    this.pictures.clear();
  }
}

export function scaled(camera: Pinhole, k: number): Pinhole {
  return { ...camera, focal: camera.focal * k, cx: camera.cx * k, cy: camera.cy * k };
}
