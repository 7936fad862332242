// The 46 presets (sizes and relative scales are facts of the SeeThrough3D release) and the harmonising of sizes.
import table from "../../../scene/document/presets.json";
import type { Box, Scene, Vec3 } from "./types.ts";

export interface Preset {
  size: Vec3;
  scale: number;
  category: string;
}
export const PRESETS = table.presets as unknown as Record<string, Preset>;
export const CATEGORIES = ["animals", "birds", "furniture", "people", "things", "vehicles"];

/** Whether the size is the preset's, or a multiple of it: nobody changed its proportions by hand. */
export const untouched = (box: Box): boolean => {
  const ratios = PRESETS[box.preset].size.map((v, i) => box.size[i] / v);
  return Math.max(...ratios) <= Math.min(...ratios) * 1.001;
};

export interface HarmoniseOptions {
  keepHeight: boolean; // z stays; the reference drops everything to the floor
  edited: boolean; // also objects whose size was changed by hand
  keepScale: boolean; // the largest kind keeps its longest side
}
export const AS_REFERENCE: HarmoniseOptions = { keepHeight: false, edited: true, keepScale: false };

/** New sizes after which objects of known kinds have believable proportions to each other, by object id. */
export function harmonise(scene: Scene, options: HarmoniseOptions): Map<string, { size: Vec3; z: number }> {
  const known = scene.objects.filter((b) => PRESETS[b.preset] && (options.edited || untouched(b)));
  if (!known.length) return new Map();
  const largest = known.reduce((a, b) => (PRESETS[b.preset].scale > PRESETS[a.preset].scale ? b : a));
  const top = PRESETS[largest.preset];
  const factor = options.keepScale ? Math.max(...largest.size) / Math.max(...top.size) : 1;
  return new Map(
    known.map((b) => {
      const { size, scale } = PRESETS[b.preset];
      const fitted = size.map((v) => Math.max((v * scale * factor) / top.scale, 0.001)) as Vec3;
      return [b.id, { size: fitted, z: options.keepHeight ? b.position[2] : 0 }];
    }),
  );
}
