// The working view: grid, translucent boxes, their edges. Three draw calls, however many boxes there are.
import {
  BufferAttribute, BufferGeometry, Camera as ThreeCamera, DoubleSide, InstancedBufferAttribute, InstancedBufferGeometry,
  LineSegments, Matrix4, Mesh, RawShaderMaterial, Scene as ThreeScene, GLSL3,
} from "three";
import { centre, EDGES } from "../math/box.ts";
import type { Pinhole } from "../math/camera.ts";
import { dot, rotation, sub } from "../math/vec.ts";
import { MAX_OBJECTS } from "../scene/document.ts";
import type { Box } from "../scene/types.ts";
import { counters, type SharedGL } from "./shared.ts";
import type { Look, Palette } from "./look.ts";

const VERTEX = `
in vec3 position;
in vec3 tint;
in vec4 row0, row1, row2;
in vec4 colour;
uniform mat4 camera;
out vec4 shade;
void main() {
  vec4 p = vec4(position, 1.0);
  vec3 world = vec3(dot(row0, p), dot(row1, p), dot(row2, p));
  gl_Position = camera * vec4(world, 1.0);
  shade = BODY;
}`;
const FRAGMENT = `
precision highp float;
in vec4 shade;
out vec4 result;
void main() { result = vec4(shade.rgb * shade.a, shade.a); }`;
const GRID_VERTEX = `
in vec3 position;
in vec4 colour;
uniform mat4 camera;
uniform vec3 eye;
out vec4 shade;
void main() {
  gl_Position = camera * vec4(position, 1.0);
  shade = vec4(colour.rgb, colour.a);
}`;

/** World → clip of a pinhole on a picture of w×h pixels. */
export function clipMatrix(camera: Pinhole, w: number, h: number, near = 0.05, far = 2000): Matrix4 {
  const { right: r, up: u, forward: f, position: c } = camera;
  const view = new Matrix4().set(
    r[0], r[1], r[2], -dot(r, c),
    u[0], u[1], u[2], -dot(u, c),
    f[0], f[1], f[2], -dot(f, c),
    0, 0, 0, 1,
  ); // third row is the depth, positive in front
  const lens = new Matrix4().set(
    (2 * camera.focal) / w, 0, (2 * camera.cx) / w - 1, 0,
    0, (2 * camera.focal) / h, 1 - (2 * camera.cy) / h, 0,
    0, 0, (far + near) / (far - near), (-2 * far * near) / (far - near),
    0, 0, 1, 0,
  );
  return lens.multiply(view);
}

const hex = (text: string): [number, number, number] => {
  const n = parseInt(text.slice(1, 7), 16);
  return [(n >> 16) / 255, ((n >> 8) & 255) / 255, (n & 255) / 255];
};

export class SolidView {
  private readonly scene = new ThreeScene();
  private readonly dummy = new ThreeCamera();
  private readonly camera = { value: new Matrix4() };
  private readonly faces: InstancedBufferGeometry;
  private readonly edges: InstancedBufferGeometry;
  private readonly grid = new BufferGeometry();
  private gridKey = "";

  constructor() {
    this.faces = instanced(faceVertices());
    this.edges = instanced(edgeVertices());
    const material = (vertex: string) =>
      new RawShaderMaterial({
        glslVersion: GLSL3, vertexShader: vertex, fragmentShader: FRAGMENT, uniforms: { camera: this.camera },
        transparent: true, premultipliedAlpha: true, depthWrite: false, depthTest: false, side: DoubleSide,
      });
    const grid = new LineSegments(this.grid, material(GRID_VERTEX));
    const faces = new Mesh(this.faces, material(VERTEX.replace("BODY", "vec4(mix(tint, colour.rgb, step(1.0, colour.a)), fract(colour.a))")));
    const edges = new LineSegments(this.edges, material(VERTEX.replace("BODY", "vec4(colour.rgb, 0.95)")));
    [grid, faces, edges].forEach((one, i) => {
      one.frustumCulled = false;
      one.renderOrder = i;
      this.scene.add(one);
    });
  }

  draw(gl: SharedGL, boxes: Box[], looks: Look[], camera: Pinhole, w: number, h: number, palette: Palette, extent: number): void {
    this.setGrid(palette, extent);
    const order = boxes
      .map((box, i) => ({ box, look: looks[i], depth: dot(sub(centre(box), camera.position), camera.forward) }))
      .sort((a, b) => b.depth - a.depth)
      .slice(-MAX_OBJECTS);
    fill(this.faces, order, (look) => [...hex(look.colour), (look.flat ? 1 : 0) + look.opacity]);
    fill(this.edges, order, (look) => [...hex(look.edge), 1]);
    this.camera.value.copy(clipMatrix(camera, w, h));
    const { renderer } = gl;
    gl.fit(w, h);
    renderer.setRenderTarget(null);
    renderer.setViewport(0, 0, w, h);
    renderer.setScissor(0, 0, w, h);
    renderer.setScissorTest(true);
    renderer.setClearColor(0, 0); // what lies behind is the caller's: ground, or a picture to trace
    renderer.clear();
    renderer.info.reset();
    renderer.render(this.scene, this.dummy);
    counters.draws = renderer.info.render.calls;
    renderer.setScissorTest(false);
  }

  private setGrid(palette: Palette, extent: number): void {
    const key = JSON.stringify([palette, extent]);
    if (key === this.gridKey) return;
    this.gridKey = key;
    const lines = gridLines(palette, extent);
    this.grid.setAttribute("position", new BufferAttribute(new Float32Array(lines.flatMap((l) => [...l.a, ...l.b])), 3));
    const rgba = lines.flatMap((l) => [...hex(l.colour), l.opacity, ...hex(l.colour), l.opacity]);
    this.grid.setAttribute("colour", new BufferAttribute(new Float32Array(rgba), 4));
  }

  dispose(): void {
    for (const geometry of [this.faces, this.edges, this.grid]) geometry.dispose();
    this.scene.traverse((one) => ((one as Mesh).material as RawShaderMaterial | undefined)?.dispose?.());
  }
}

export interface Line {
  a: [number, number, number];
  b: [number, number, number];
  colour: string;
  opacity: number;
}

/** The floor: a line per unit, the two axes in red and green, in short pieces so that clipping loses little. */
export function gridLines(palette: Palette, extent: number): Line[] {
  const out: Line[] = [];
  const half = extent / 2;
  for (let i = -half; i <= half; i++) {
    const major = i % 5 === 0;
    const opacity = major ? 0.5 : 0.26;
    const pieces = 4;
    for (let k = 0; k < pieces; k++) {
      const [from, to] = [-half + (extent * k) / pieces, -half + (extent * (k + 1)) / pieces];
      out.push({ a: [i, from, 0], b: [i, to, 0], colour: i === 0 ? palette.axisY : palette.grid, opacity: i === 0 ? 0.9 : opacity });
      out.push({ a: [from, i, 0], b: [to, i, 0], colour: i === 0 ? palette.axisX : palette.grid, opacity: i === 0 ? 0.9 : opacity });
    }
  }
  return out;
}

/** Colour of each local face as the image model knows them: −X blue, +Y red, the others green. */
export const FACE_TINTS = [[0.25, 0.42, 1], [0.2, 0.75, 0.36], [0.2, 0.75, 0.36], [1, 0.27, 0.25], [0.14, 0.5, 0.25], [0.3, 0.85, 0.45]];

function faceVertices() {
  const position: number[] = [];
  const tint: number[] = [];
  for (let axis = 0; axis < 3; axis++)
    for (const sign of [-1, 1]) {
      const [u, v] = [(axis + 1) % 3, (axis + 2) % 3];
      for (const [a, b] of [[-1, -1], [1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]]) {
        const p = [0, 0, 0];
        [p[axis], p[u], p[v]] = [sign / 2, a / 2, b / 2];
        position.push(...p);
        tint.push(...FACE_TINTS[axis * 2 + (sign > 0 ? 1 : 0)]);
      }
    }
  return { position, tint };
}

function edgeVertices() {
  const corner = (i: number) => [i & 1 ? 0.5 : -0.5, i & 2 ? 0.5 : -0.5, i & 4 ? 0.5 : -0.5];
  const position = EDGES.flatMap(([a, b]) => [...corner(a), ...corner(b)]);
  return { position, tint: position.map(() => 0) };
}

function instanced({ position, tint }: { position: number[]; tint: number[] }): InstancedBufferGeometry {
  const geometry = new InstancedBufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(position), 3));
  geometry.setAttribute("tint", new BufferAttribute(new Float32Array(tint), 3));
  for (const name of ["row0", "row1", "row2", "colour"])
    geometry.setAttribute(name, new InstancedBufferAttribute(new Float32Array(MAX_OBJECTS * 4), 4));
  return geometry;
}

function fill(geometry: InstancedBufferGeometry, order: { box: Box; look: Look }[], colour: (look: Look) => number[]): void {
  const rows = ["row0", "row1", "row2"].map((n) => geometry.getAttribute(n) as InstancedBufferAttribute);
  const colours = geometry.getAttribute("colour") as InstancedBufferAttribute;
  order.forEach(({ box, look }, i) => {
    const turn = rotation(box.yaw_deg, box.tilt);
    const c = centre(box);
    rows.forEach((row, k) => row.setXYZW(i, turn[k][0] * box.size[0], turn[k][1] * box.size[1], turn[k][2] * box.size[2], c[k]));
    const [r, g, b, a] = colour(look);
    colours.setXYZW(i, r, g, b, a);
  });
  for (const one of [...rows, colours]) one.needsUpdate = true;
  geometry.instanceCount = order.length;
}
