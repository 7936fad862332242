// Where the five lights stand: given, drawn as the reference draws them from a seed, or the fixed set.
import type { Scene, Vec3 } from "../scene/types.ts";

const RADIUS = 16;
/** Degrees and cosines, evenly over where the reference draws its lights: `even_lights` of the Python renderer. */
const FIXED = [[-72, 0.65], [-36, 0.85], [0, 0.55], [36, 0.95], [72, 0.75]];

/** numpy's legacy generator (MT19937, seeded by an integer), uniform in [0, 1). */
export function mersenne(seed: number): () => number {
  const state = new Uint32Array(624);
  state[0] = seed >>> 0;
  for (let i = 1; i < 624; i++) {
    const last = state[i - 1] ^ (state[i - 1] >>> 30);
    state[i] = Math.imul(1812433253, last) + i;
  }
  let at = 624;
  const next = () => {
    if (at === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
  return () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
}

/** In the document's frame. */
export function lightPositions(scene: Scene): Vec3[] {
  const { lights_seed, light_positions } = scene.output.render;
  if (light_positions) return light_positions.slice(0, 16);
  const on = (phi: number, cos: number): Vec3 => {
    const sin = Math.sqrt(1 - cos * cos);
    return [RADIUS * sin * Math.cos(phi), RADIUS * sin * Math.sin(phi), RADIUS * cos];
  };
  if (lights_seed === null || lights_seed === undefined) return FIXED.map(([deg, cos]) => on((deg * Math.PI) / 180, cos));
  const uniform = mersenne(lights_seed);
  const phi = Array.from({ length: 5 }, () => -Math.PI / 2 + Math.PI * uniform());
  const cos = Array.from({ length: 5 }, () => 0.5 + 0.5 * uniform());
  return phi.map((p, i) => on(p, cos[i]));
}
