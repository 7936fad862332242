// The scene document, version 1. Frame: right-handed, Z up, +X towards the viewer, +Y to the right of the picture.
// Lengths in scene units, angles in degrees. In memory every default is filled in; the text leaves defaults out.

export type Vec3 = [number, number, number];
export type Json = any;

export interface Orbit {
  target: Vec3;
  azimuth_deg: number;
  elevation_deg: number;
  distance: number;
}

export interface Camera {
  id: string;
  name: string;
  mode: "orbit" | "free";
  orbit: Orbit;
  free: { position: Vec3; rotation: [number, number, number, number] } | null;
  lens_mm: number;
  sensor_mm: number;
  shift: [number, number];
  near: number;
  far: number;
  size: [number, number] | null;
  roles: string[];
  locked: boolean;
  [key: string]: Json;
}

export interface FileRef {
  kind: "input" | "output" | "temp";
  name: string;
  subfolder?: string;
  [key: string]: Json;
}

export interface Box {
  id: string;
  name: string;
  prompt: string;
  preset: string | null;
  position: Vec3; // centre of the bottom face
  size: Vec3; // full extents along the box's own X, Y, Z
  yaw_deg: number;
  tilt: [number, number];
  color: string | null;
  visible: boolean;
  locked: boolean;
  group: string | null;
  use: { control: boolean; prompt: boolean; generate3d: boolean };
  image: FileRef | null;
  [key: string]: Json;
}

export interface Group {
  id: string;
  name: string;
  collapsed: boolean;
  [key: string]: Json;
}

export interface Scene {
  format: "sightline.scene";
  version: number;
  id: string;
  rev: number;
  title: string;
  cameras: Camera[];
  active_camera: string;
  objects: Box[];
  groups: Group[];
  prompt: { background: string; prefix: string; joiner: string; suffix: string; negative: string; [key: string]: Json };
  output: Json;
  environment: Json;
  [key: string]: Json;
}

export interface Problem {
  code: string;
  pointer: string;
  values: Record<string, string | number>;
  object?: string; // id of the box it is about
  fix?: Json; // the value that mends it, at `pointer`
}
