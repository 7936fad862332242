// The control image, live: boxes ray-traced in one fragment shader after the closed form of the reference's render
// (emission and diffuse of nearly transparent faces, opaque wires, a dark floor, five lights, AgX). Samples add up in a
// float target in linear light; the last pass averages them and applies the display curve.
import {
  BufferAttribute, BufferGeometry, Camera as ThreeCamera, CustomBlending, DataTexture, FloatType, GLSL3, HalfFloatType, Mesh,
  NearestFilter, NoBlending, OneFactor, RawShaderMaterial, RGBAFormat, Scene as ThreeScene, Vector2, Vector3, WebGLRenderTarget,
} from "three";
import { centre } from "../math/box.ts";
import { canonical, pinhole, type Pinhole } from "../math/camera.ts";
import { clamp, rotation, wrapDegrees } from "../math/vec.ts";
import { activeCamera, drawn, MAX_OBJECTS } from "../scene/document.ts";
import { outputSize } from "../scene/comfort.ts";
import type { Box, Scene, Vec3 } from "../scene/types.ts";
import { AGX_GLSL } from "./agx.ts";
import { lightPositions } from "./lights.ts";
import { counters, type SharedGL } from "./shared.ts";

const TEXELS = 5;
const TRACE = `
precision highp float;
precision highp sampler2D;
uniform sampler2D boxes;
uniform int count, lightCount, crossings;
uniform bool hasFloor;
uniform vec3 eye, right, up, forward;
uniform vec3 lights[16];
uniform vec2 jitter, middle;
uniform float focal, near;
out vec4 result;
const float PI = 3.14159265;
const float POWER = 55.70423; // 700 W over the sphere
const float PASS = 0.975;
const float INSET = 0.98; // where a wire begins on a face
const float OUTSET = 1.0115470; // where its outer rail lies
const float TOUCHING = 2e-5; // relative depth within which two surfaces are the same
const float ON_FLOOR = 0.27; // share of the rays that meet a face lying on the floor before the floor
const float NEVER = 1e9;

vec4 part(int i, int k) { return texelFetch(boxes, ivec2(k, i), 0); }
void local(int i, vec3 o, vec3 d, out vec3 lo, out vec3 ld) {
  vec4 a = part(i, 0), b = part(i, 1), c = part(i, 2);
  vec3 q = o - part(i, 3).xyz;
  vec3 s = 1.0 / vec3(a.w, b.w, c.w);
  lo = vec3(dot(q, a.xyz), dot(q, b.xyz), dot(q, c.xyz)) * s;
  ld = vec3(dot(d, a.xyz), dot(d, b.xyz), dot(d, c.xyz)) * s;
}
int largest(vec3 v) { return v.x >= v.y ? (v.x >= v.z ? 0 : 2) : (v.y >= v.z ? 1 : 2); }
bool offFace(vec3 start, vec3 step, float t, int axis) {
  vec3 p = abs(start + t * step);
  p[axis] = 0.0;
  return max(p.x, max(p.y, p.z)) >= INSET;
}
// Ray against a box of half extent 1: depths of the two faces and of the wire, NEVER where there is none.
void cross3(vec3 o, vec3 d, float near, out float faceIn, out float faceOut, out float wire, out int enter, out int leave, out vec3 sgn) {
  sgn = vec3(d.x < 0.0 ? -1.0 : 1.0, d.y < 0.0 ? -1.0 : 1.0, d.z < 0.0 ? -1.0 : 1.0);
  vec3 step = max(abs(d), 1e-9);
  vec3 start = o * sgn, inv = 1.0 / step;
  vec3 nearT = (-1.0 - start) * inv, farT = (1.0 - start) * inv, margin = (OUTSET - 1.0) * inv;
  enter = largest(nearT);
  leave = largest(-farT);
  float tIn = nearT[enter], tOut = farT[leave];
  vec3 wideNear = nearT - margin, wideFar = farT + margin;
  int wideEnter = largest(wideNear), wideLeave = largest(-wideFar);
  float wideIn = wideNear[wideEnter], wideOut = wideFar[wideLeave];
  bool through = tIn < tOut;
  bool before = (through ? tIn : wideIn) > near;
  bool wireIn = wideIn < wideOut && before && (!through || enter != wideEnter || offFace(start, step, tIn, enter));
  bool wireOut = through && !wireIn && tOut > near && (leave != wideLeave || offFace(start, step, tOut, leave));
  bool clear = through && !wireIn;
  faceIn = clear && before ? tIn : NEVER;
  faceOut = clear && !wireOut && tOut > near ? tOut : NEVER;
  wire = wireIn ? max(wideIn, near) : wireOut ? tOut * (1.0 - TOUCHING) : NEVER;
}
vec3 tint(int axis, float side) {
  if (axis == 0 && side < 0.0) return vec3(0.0, 0.0, 0.5);
  if (axis == 1 && side > 0.0) return vec3(0.5, 0.0, 0.0);
  return vec3(0.0, 0.5, 0.0);
}
float onFace(vec3 p, vec3 n) {
  float sum = 0.0;
  for (int k = 0; k < lightCount; k++) {
    vec3 l = lights[k] - p;
    float d2 = dot(l, l);
    sum += max(dot(n, l), 0.0) * inversesqrt(d2) / d2;
  }
  return POWER * sum;
}
float onFloor(vec3 p) {
  float sum = 0.0;
  for (int k = 0; k < lightCount; k++) {
    vec3 l = p - lights[k];
    float d2 = dot(l, l);
    float v = max(lights[k].z, 0.0) * inversesqrt(d2) / d2;
    for (int i = 0; i < count && v > 0.0; i++) {
      vec3 o, d, sgn;
      float a, b, w;
      int enter, leave;
      local(i, lights[k], l, o, d);
      // most rays miss: the sphere around the box first
      float along = clamp(-dot(o, d) / dot(d, d), 0.0, 1.0);
      vec3 nearest = o + d * along;
      if (dot(nearest, nearest) > 3.2) continue;
      cross3(o, d, 0.0, a, b, w, enter, leave, sgn);
      if (w < 1.0) v = 0.0;
      if (a < 1.0 - 1e-5) v *= PASS;
      if (b < 1.0 - 1e-5) v *= PASS;
    }
    sum += v;
  }
  return POWER * sum;
}
void main() {
  vec2 at = gl_FragCoord.xy - 0.5 + jitter;
  vec3 ray = forward + right * ((at.x - middle.x) / focal) + up * ((at.y - middle.y) / focal);
  float end = NEVER; // the nearest opaque point: a wire, or the floor
  vec3 last = vec3(0.0);
  bool floorHit = false;
  if (hasFloor && ray.z < 0.0) {
    float t = -eye.z / ray.z;
    vec3 p = eye + ray * t;
    if (t > near && p.x >= -19.0 && p.x <= 31.0 && abs(p.y) <= 25.0) { end = t; floorHit = true; } // 25 around the reference's origin
  }
  float times[16];
  vec3 tints[16];
  int found = 0;
  for (int i = 0; i < count; i++) {
    vec3 o, d, sgn;
    float a, b, w;
    int enter, leave;
    local(i, eye, ray, o, d);
    cross3(o, d, near, a, b, w, enter, leave, sgn);
    if (w < end) { end = w; last = part(i, 4).rgb; floorHit = false; }
    for (int k = 0; k < 2; k++) {
      float t = k == 0 ? a : b;
      if (t >= 0.5 * NEVER || t >= end * (1.0 + TOUCHING)) continue;
      int slot = found;
      if (found == 16) { if (t >= times[15]) continue; slot = 15; } else found++;
      while (slot > 0 && times[slot - 1] > t) { times[slot] = times[slot - 1]; tints[slot] = tints[slot - 1]; slot--; }
      times[slot] = t;
      int axis = k == 0 ? enter : leave;
      float side = k == 0 ? -sgn[axis] : sgn[axis];
      vec3 n = part(i, axis).xyz;
      if (dot(n, ray) > 0.0) n = -n;
      tints[slot] = tint(axis, side) * (1.0 + 0.955 / PI * onFace(eye + ray * t, n));
    }
  }
  vec3 sum = vec3(0.0);
  float through = 1.0;
  int total = 0;
  for (int k = 0; k < found; k++) {
    if (times[k] >= end * (1.0 + TOUCHING)) break;
    float weight = times[k] > end * (1.0 - TOUCHING) ? ON_FLOOR : 1.0;
    if (k <= crossings) sum += through * weight * 0.025 * tints[k];
    through *= PASS;
    total++;
  }
  if (total > crossings) through = 0.0;
  else if (floorHit) last = vec3(0.05 / PI * onFloor(eye + ray * end));
  result = vec4(sum + through * last, 1.0);
}`;
const SHOW = `
precision highp float;
precision highp sampler2D;
uniform sampler2D sum;
out vec4 result;
${AGX_GLSL}
void main() {
  vec4 v = texelFetch(sum, ivec2(gl_FragCoord.xy), 0);
  result = vec4(agx(v.rgb / max(v.a, 1.0)), 1.0);
}`;
const FLAT = `
in vec3 position;
void main() { gl_Position = vec4(position, 1.0); }`;

/** Offsets of sample k inside the pixel: a low-discrepancy sequence, the first at the middle. */
export function offset(k: number): [number, number] {
  if (k === 0) return [0.5, 0.5];
  const halton = (base: number) => {
    let [value, f] = [0, 1];
    for (let n = k; n > 0; n = Math.floor(n / base)) value += (n % base) * (f /= base);
    return value;
  };
  return [halton(2), halton(3)];
}

/** Boxes and camera as the image model sees them: canonical where the camera allows it. */
export function modelView(scene: Scene): { boxes: Box[]; camera: (w: number, h: number) => Pinhole } {
  const camera = activeCamera(scene);
  const home = canonical(camera);
  const boxes = drawn(scene).slice(0, MAX_OBJECTS);
  if (!home) return { boxes, camera: (w, h) => pinhole(camera, w, h) };
  const seen = { ...camera, mode: "orbit" as const, orbit: { target: [0, 0, 0] as Vec3, azimuth_deg: 0, elevation_deg: home.elevation, distance: 6 } };
  return {
    boxes: boxes.map((b) => ({
      ...b,
      position: home.move(b.position),
      size: b.size.map((v) => v * home.scale) as Vec3,
      yaw_deg: wrapDegrees(b.yaw_deg - home.azimuth),
    })),
    camera: (w, h) => pinhole(seen, w, h),
  };
}

/** The colour of a box's wires, which codes where it stands (document frame: the reference's x plus 6). */
export function wireColour([x, y, z]: Vec3): Vec3 {
  const r = clamp((x + 6) / 11, 0, 1);
  const w = 4.5 - 4 * r;
  const rgb = [r, clamp((y + w) / (2 * w), 0, 1), z / 2.5];
  const v = Math.max(...rgb);
  const k = v > 0 ? clamp(v * 0.1, 0, 1) / v : 0;
  return rgb.map((c) => Math.max(c, 0) * k) as Vec3;
}

export class ControlView {
  private readonly scene = new ThreeScene();
  private readonly dummy = new ThreeCamera();
  private readonly mesh: Mesh;
  private readonly data = new DataTexture(new Float32Array(TEXELS * MAX_OBJECTS * 4), TEXELS, MAX_OBJECTS, RGBAFormat, FloatType);
  private readonly trace: RawShaderMaterial;
  private readonly show: RawShaderMaterial;
  private target: WebGLRenderTarget | null = null;
  private taken = 0;

  constructor(private readonly gl: SharedGL) {
    const triangle = new BufferGeometry();
    triangle.setAttribute("position", new BufferAttribute(new Float32Array([-1, -1, 0, 3, -1, 0, -1, 3, 0]), 3));
    this.data.magFilter = this.data.minFilter = NearestFilter;
    const u = { eye: new Vector3(), right: new Vector3(), up: new Vector3(), forward: new Vector3() };
    this.trace = new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: FLAT, fragmentShader: TRACE, depthTest: false, depthWrite: false,
      blending: CustomBlending, blendSrc: OneFactor, blendDst: OneFactor,
      uniforms: {
        boxes: { value: this.data }, count: { value: 0 }, lightCount: { value: 5 }, crossings: { value: 8 }, hasFloor: { value: true },
        eye: { value: u.eye }, right: { value: u.right }, up: { value: u.up }, forward: { value: u.forward },
        lights: { value: Array.from({ length: 16 }, () => new Vector3()) }, focal: { value: 1 }, near: { value: 0.1 },
        jitter: { value: new Vector2() }, middle: { value: new Vector2() },
      },
    });
    this.show = new RawShaderMaterial({
      glslVersion: GLSL3, vertexShader: FLAT, fragmentShader: SHOW, depthTest: false, depthWrite: false, blending: NoBlending,
      uniforms: { sum: { value: null } },
    });
    this.mesh = new Mesh(triangle, this.trace);
    this.mesh.frustumCulled = false;
    this.scene.add(this.mesh);
  }

  /** Start anew: take over the scene and a picture size. */
  begin(scene: Scene, w: number, h: number): void {
    const { boxes, camera } = modelView(scene);
    const data = this.data.image.data as Float32Array;
    boxes.forEach((box, i) => {
      const turn = rotation(box.yaw_deg, box.tilt);
      const c = centre(box);
      const rows = [0, 1, 2].map((k) => [turn[0][k], turn[1][k], turn[2][k], box.size[k] / 2]);
      data.set([...rows.flat(), ...c, 0, ...wireColour(box.position), 1], i * TEXELS * 4);
    });
    this.data.needsUpdate = true;
    const view = camera(w, h);
    const u = this.trace.uniforms;
    u.count.value = boxes.length;
    u.crossings.value = scene.output.render.max_crossings || 1024;
    u.hasFloor.value = scene.environment.floor;
    const lights = lightPositions(scene);
    u.lightCount.value = lights.length;
    lights.forEach((p, i) => u.lights.value[i].set(...p));
    u.eye.value.set(...view.position);
    for (const key of ["right", "up", "forward"] as const) u[key].value.set(...view[key]);
    u.focal.value = view.focal;
    u.near.value = activeCamera(scene).near;
    u.middle.value.set(view.cx, h - view.cy);
    if (!this.target || this.target.width !== w || this.target.height !== h) {
      this.target?.dispose();
      const float = this.gl.renderer.extensions.has("EXT_color_buffer_float") && this.gl.renderer.extensions.has("EXT_float_blend");
      this.target = new WebGLRenderTarget(w, h, { type: float ? FloatType : HalfFloatType, depthBuffer: false, minFilter: NearestFilter, magFilter: NearestFilter });
    }
    const { renderer } = this.gl;
    renderer.setRenderTarget(this.target);
    renderer.setClearColor(0, 0);
    renderer.clear();
    renderer.setRenderTarget(null);
    this.taken = 0;
  }

  get samples(): number {
    return this.taken;
  }

  /** Add one sample for every pixel. */
  sample(): void {
    const { renderer } = this.gl;
    this.trace.uniforms.jitter.value.set(...offset(this.taken));
    this.mesh.material = this.trace;
    renderer.setRenderTarget(this.target);
    renderer.render(this.scene, this.dummy);
    renderer.setRenderTarget(null);
    this.taken++;
  }

  /** Draw the average at the lower left of the shared canvas; the caller copies it from there. */
  present(): void {
    const { renderer } = this.gl;
    const { width, height } = this.target;
    this.gl.fit(width, height);
    this.show.uniforms.sum.value = this.target.texture;
    this.mesh.material = this.show;
    renderer.setRenderTarget(null);
    renderer.setViewport(0, 0, width, height);
    renderer.setScissorTest(false);
    renderer.info.reset();
    renderer.render(this.scene, this.dummy);
    counters.draws = renderer.info.render.calls;
  }

  dispose(): void {
    this.target?.dispose();
    this.data.dispose();
    this.trace.dispose();
    this.show.dispose();
    this.mesh.geometry.dispose();
  }
}

