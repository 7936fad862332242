// The display curve of the control image: a closed form of Blender's AgX for dark pictures. The numbers are the file that
// the Python renderer uses, the formula that of kernels/box_render/agx.py.
import fit from "../../../kernels/box_render/agx_fit.json";

const list = (values: number[]) => values.map((v) => v.toFixed(9)).join(", ");
const columns = (m: number[][]) => [0, 1, 2].flatMap((c) => m.map((row) => row[c])); // GLSL's order

export const AGX_GLSL = `
float luminance(vec3 c) {
  const vec3 weights = vec3(${list(fit.luminance)});
  vec3 inverse = max(c.x, max(c.y, c.z)) - c;
  return max(inverse.x, max(inverse.y, inverse.z)) - dot(inverse, weights) + dot(c, weights);
}
vec3 agx(vec3 linear) {
  const mat3 inset = mat3(${list(columns(fit.inset))});
  const mat3 outset = mat3(${list(columns(fit.outset))});
  const float terms[${fit.polynomial.length}] = float[](${list(fit.polynomial)});
  vec3 c = inset * max(linear, 0.0);
  vec3 t = (log2(c + exp2(${fit.log_offset.toFixed(9)})) - (${fit.log_shift.toFixed(9)})) / ${fit.log_scale.toFixed(9)};
  vec3 q = vec3(0.0);
  for (int i = 0; i < terms.length(); i++) q = q * t + terms[i];
  q = pow(max(q, 0.0), vec3(${fit.power.toFixed(9)}));
  float low = min(c.x, min(c.y, c.z)), high = max(c.x, max(c.y, c.z));
  float bottom = min(q.x, min(q.y, q.z)), top = max(q.x, max(q.y, q.z));
  vec3 before = bottom + (top - bottom) * (c - low) / (high - low + 1e-9);
  vec3 v = outset * mix(q, before, ${fit.hue_mix.toFixed(9)});
  vec3 lifted = v + max(-min(v.x, min(v.y, v.z)), 0.0);
  float was = luminance(v), is = luminance(lifted);
  v = max(lifted * (is > was ? was / max(is, 1e-9) : 1.0), 0.0);
  v = mix(12.92 * v, 1.055 * pow(max(v, 1e-9), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, v));
  return clamp(v + ${(fit.bias).toFixed(9)}, 0.0, 1.0); // half a level, as Blender's dither adds
}`;
