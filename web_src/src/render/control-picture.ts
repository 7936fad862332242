// The live control image of one viewport: coarse while something is dragged, then finer, then smoother, then still.
import type { Scene } from "../scene/types.ts";
import { outputSize } from "../scene/comfort.ts";
import { ControlView } from "./control.ts";
import type { SharedGL } from "./shared.ts";

let view: ControlView | null = null;
let viewGL: SharedGL | null = null;
let owner: ControlPicture | null = null;

export class ControlPicture {
  readonly canvas = document.createElement("canvas");
  private fresh = false;
  private coarse = false;
  private wantFine = false;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly again: () => void, private readonly busy: () => boolean) {}

  stale(): void {
    this.fresh = false;
    this.wantFine = false;
  }

  /** Bring the picture up to date: coarsely while dragging and on software GL, which refines when it rests. */
  start(gl: SharedGL, scene: Scene): void {
    if (this.fresh && owner === this && viewGL === gl) return;
    const dragging = this.busy();
    const fine = !dragging && (!gl.software || this.wantFine);
    const longest = fine ? (gl.software ? 320 : 512) : gl.software ? 144 : 256;
    this.render(gl, scene, longest, 1);
    this.fresh = true;
    this.coarse = !fine;
    this.wantFine = false;
    clearTimeout(this.timer);
    if (this.coarse) this.timer = setTimeout(() => this.rest(), 120);
  }

  private rest(): void {
    if (this.busy()) {
      this.timer = setTimeout(() => this.rest(), 120);
      return;
    }
    this.fresh = false;
    this.wantFine = true;
    this.again();
  }

  /** One more sample per pixel, then ask for the next frame; stops by itself. */
  proceed(): void {
    if (!view || owner !== this || !this.fresh || this.coarse || this.busy()) return;
    if (view.samples >= (viewGL.software ? 4 : 16)) return;
    view.sample();
    this.take();
    this.again();
  }

  /** The scene with its longest side `longest` pixels and a number of samples, at once. */
  render(gl: SharedGL, scene: Scene, longest: number, samples: number): void {
    if (!view || viewGL !== gl) {
      view = new ControlView(gl);
      viewGL = gl;
    }
    owner = this;
    const size = outputSize(scene);
    const [w, h] = size.map((v) => Math.max(1, Math.round((v * longest) / Math.max(...size))));
    view.begin(scene, w, h);
    for (let i = 0; i < samples; i++) view.sample();
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    this.take();
  }

  private take(): void {
    const { width: w, height: h } = this.canvas;
    view.present();
    const from = viewGL.canvas;
    this.canvas.getContext("2d").drawImage(from, 0, from.height - h, w, h, 0, 0, w, h);
  }

  dispose(): void {
    clearTimeout(this.timer);
    if (owner === this) owner = null;
  }
}
