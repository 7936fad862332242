// For tests and for the curious: the parts of the editor that can be looked at without a pointer.
import { pinhole, project } from "./math/camera.ts";
import { cells, corners, maskSize, silhouette } from "./math/box.ts";
import { ControlPicture } from "./render/control-picture.ts";
import { counters, peekGL, sharedGL } from "./render/shared.ts";
import { canonical } from "./math/camera.ts";
import { evaluate } from "./scene/expression.ts";
import { bringHome, outputSize, seenBoxes, warnings } from "./scene/comfort.ts";
import { fullPrompt, parse, read, runText, SceneTextError, spoken, toText, activeCamera } from "./scene/document.ts";
import { harmonise, PRESETS } from "./scene/presets.ts";
import type { Scene } from "./scene/types.ts";
import type { Viewport } from "./ui/viewport.ts";

/** The live control image as RGB bytes, row by row. */
function control(text: string, longest: number, samples: number): { w: number; h: number; data: number[] } | null {
  const gl = sharedGL();
  if (!gl) return null;
  const picture = new ControlPicture(() => {}, () => false);
  picture.render(gl, parse(text), longest, samples);
  const { width: w, height: h } = picture.canvas;
  const { data } = picture.canvas.getContext("2d").getImageData(0, 0, w, h);
  picture.dispose();
  return { w, h, data: Array.from(data).filter((_, i) => i % 4 !== 3) };
}

function problemsOf(text: string): { code: string; pointer: string }[] {
  try {
    return read(text).problems.map(({ code, pointer }) => ({ code, pointer }));
  } catch (error) {
    if (!(error instanceof SceneTextError)) throw error;
    return error.problems.map(({ code, pointer }) => ({ code, pointer }));
  }
}

export const hooks = {
  counters, peekGL, control, problemsOf, evaluate, canonical, fullPrompt, PRESETS,
  canonicalText: (text: string) => toText(parse(text)),
  promptOf: (text: string) => fullPrompt(parse(text)).text,
  runText: (text: string) => runText(parse(text)),
  warnings: (text: string) => warnings(parse(text)).map((p) => p.code),
  harmonise: (text: string, options: Parameters<typeof harmonise>[1]) => Object.fromEntries(harmonise(parse(text), options)),
  home: (text: string) => {
    const scene = parse(text);
    bringHome(scene);
    return toText(scene);
  },
  projected: (text: string, size: number) => {
    const scene: Scene = parse(text);
    const camera = pinhole(activeCamera(scene), size, size);
    return scene.objects.map((b) => corners(b).map((p) => project(camera, p)));
  },
  /** Corners of the boxes as the viewport shows them, in its pixels. */
  shownCorners: (view: Viewport) => view.store.scene.objects.map((b) => corners(b).map((p) => project(view.camera(), p))),
  masks: (text: string) => {
    const scene = parse(text);
    const [w, h] = maskSize(outputSize(scene));
    const camera = pinhole(activeCamera(scene), w, h);
    return spoken(scene).map((b) => Array.from(cells(silhouette(b, camera), w, h)));
  },
  hidden: (text: string, samples = 64) => {
    const scene = parse(text);
    return Object.fromEntries([...seenBoxes(scene, samples)].map(([id, s]) => [id, s.total ? 1 - s.visible / s.total : 1]));
  },
};
