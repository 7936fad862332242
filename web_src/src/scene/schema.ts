// Reading and writing by the schema file that Python writes: one description of the document for both sides. The
// problems found have the codes and pointers of scene/document/fields.py; tests hold the two to the same fixtures.
import schema from "../../../scene/document/schema/scene-v1.schema.json";
import type { Json, Problem } from "./types.ts";

export const SCHEMA = schema as Json;

/** Written even at their default. Paths without indices. */
const ALWAYS: Record<string, string[]> = {
  "": ["format", "version", "id", "cameras", "active_camera", "objects"],
  "/cameras": ["id"],
  "/cameras/orbit": ["target", "azimuth_deg", "elevation_deg", "distance"],
  "/cameras/free": ["position", "rotation"],
  "/cameras/distortion": ["model"],
  "/objects": ["id", "prompt", "position", "size"],
  "/objects/asset": ["file"],
  "/groups": ["id"],
  "/output": ["size"],
  "/environment/chunk": ["size", "overlap"],
};
const FILE_KEYS = ["kind", "name"];
const TRIMMED = ["/objects/name", "/objects/prompt", "/objects/gen/prior_prompt", "/prompt/background"];
const COUNTED = ["/cameras", "/objects", "/groups"]; // too many of these is E112
const WRAPPED = /(yaw|azimuth)_deg$/;
const isIdent = (path: string) => /(^|\/)(id|active_camera|group)$/.test(path);

const clone = <T>(value: T): T => (value === undefined ? value : JSON.parse(JSON.stringify(value)));
export const isObject = (v: Json): boolean => v !== null && typeof v === "object" && !Array.isArray(v);
const bare = (s: Json): Json => (s?.anyOf ? bare(s.anyOf[0]) : s);

/** The complete default of a part of the schema. */
export function defaultOf(s: Json): Json {
  if (s.default !== undefined) return clone(s.default);
  if (s.anyOf) return null;
  if (!s.properties) return s.type === "array" ? [] : s.type === "object" ? {} : null;
  return Object.fromEntries(Object.entries<Json>(s.properties).map(([key, part]) => [key, defaultOf(part)]));
}

class Reader {
  problems: Problem[] = [];
  subject = "";
  object: string | undefined;

  add(code: string, pointer: string, values: Problem["values"] = {}, fix?: Json): void {
    const key = pointer.split("/").filter((p) => p && !/^\d+$/.test(p)).pop() ?? "";
    this.problems.push({ code, pointer, values: { name: this.subject, key, ...values }, object: this.object, fix });
  }
}

/** The value with every default filled in; what is wrong takes its default and is named in `problems`. */
export function readValue(s: Json, value: Json): { value: Json; problems: Problem[] } {
  const reader = new Reader();
  return { value: read(s, value, "", "", undefined, reader), problems: reader.problems };
}

function read(s: Json, value: Json, path: string, pointer: string, fallback: Json, reader: Reader): Json {
  if (s.anyOf) return value === null ? null : read(s.anyOf[0], value, path, pointer, fallback, reader);
  if (s.enum) {
    if (s.enum.includes(value)) return value;
    return reader.add("E115", pointer, {}, fallback), clone(fallback);
  }
  if (s.type === "number" || s.type === "integer") return readNumber(s, value, path, pointer, fallback, reader);
  if (s.type === "string") return readText(s, value, path, pointer, fallback, reader);
  if (s.type === "boolean") {
    if (typeof value === "boolean") return value;
    return reader.add("E115", pointer, {}, fallback), clone(fallback);
  }
  if (s.type === "array") return readList(s, value, path, pointer, fallback, reader);
  if (!isObject(value)) {
    reader.add("E115", pointer, {}, s.properties ? undefined : {});
    return s.properties ? defaultOf(s) : {};
  }
  return s.properties ? readPart(s, value, path, pointer, reader) : clone(value);
}

function readPart(s: Json, value: Json, path: string, pointer: string, reader: Reader): Json {
  const outer = [reader.subject, reader.object] as const;
  if (path === "/objects") {
    const named = ["name", "prompt", "preset"].map((k) => value[k]).find((v) => typeof v === "string" && v.trim());
    reader.subject = named ? named.trim().slice(0, 40) : `${Number(pointer.split("/").pop()) + 1}`;
    reader.object = value.id;
  } else if (path === "/cameras") reader.subject = String(value.name || value.id || "");
  const out: Json = {};
  for (const [key, part] of Object.entries<Json>(s.properties))
    out[key] = !Object.hasOwn(value, key)
      ? defaultOf(part)
      : read(part, value[key], `${path}/${key}`, `${pointer}/${key}`, defaultOf(part), reader);
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(s.properties, key)) continue;
    Object.defineProperty(out, key, { value: clone(value[key]), enumerable: true, writable: true, configurable: true });
    reader.add("W190", `${pointer}/${key.replace(/~/g, "~0").replace(/\//g, "~1")}`, { key });
  }
  [reader.subject, reader.object] = outer;
  return out;
}

function readNumber(s: Json, value: Json, path: string, pointer: string, fallback: Json, reader: Reader): Json {
  if (typeof value !== "number" || !Number.isFinite(value)) return reader.add("E110", pointer, {}, fallback), fallback;
  const above = s.exclusiveMinimum !== undefined;
  const low = above ? s.exclusiveMinimum : s.minimum;
  const wraps = WRAPPED.test(path);
  if (wraps && value === low) return s.maximum;
  if (value < low || value > s.maximum || (above && value === low)) {
    let fix = Math.min(Math.max(value, low), s.maximum);
    if (above && fix === low) fix = typeof fallback === "number" ? fallback : s.maximum;
    else if (wraps) fix = ((value % 360) + 540) % 360 - 180;
    return reader.add("E111", pointer, { low, high: s.maximum }, fix), fallback;
  }
  if (s.type === "integer" && !Number.isInteger(value))
    return reader.add("E111", pointer, { low, high: s.maximum }, Math.round(value)), fallback;
  return value;
}

function readText(s: Json, value: Json, path: string, pointer: string, fallback: Json, reader: Reader): Json {
  if (isIdent(path)) {
    if (typeof value === "string" && value.length > 0 && value.length <= s.maxLength) return value;
    return reader.add("W191", pointer), fallback;
  }
  if (typeof value !== "string") return reader.add("E115", pointer, {}, fallback), fallback;
  const text = TRIMMED.includes(path) ? value.trim() : value;
  const count = [...text].length;
  if (s.maxLength !== undefined && count > s.maxLength)
    return reader.add("E111", pointer, { n: count, high: s.maxLength }, [...text].slice(0, s.maxLength).join("")), fallback;
  if (count < (s.minLength ?? 0)) return reader.add("E111", pointer, { n: 0 }), fallback;
  return text;
}

function readList(s: Json, value: Json, path: string, pointer: string, fallback: Json, reader: Reader): Json {
  if (!Array.isArray(value))
    return reader.add(s.minItems === s.maxItems ? "E110" : "E115", pointer, {}, fallback), clone(fallback);
  if (value.length < (s.minItems ?? 0) || value.length > (s.maxItems ?? Infinity))
    return reader.add(COUNTED.includes(path) ? "E112" : "E115", pointer, { n: value.length, high: s.maxItems }), clone(fallback);
  const out = value.map((one, i) => {
    const old = Array.isArray(fallback) && fallback.length === value.length ? fallback[i] : undefined;
    return read(s.items, one, path, `${pointer}/${i}`, old, reader);
  });
  return s.uniqueItems ? [...new Set(out)] : out;
}

const byCodePoint = (a: string, b: string): number => {
  const [x, y] = [[...a], [...b]];
  for (let i = 0; i < Math.min(x.length, y.length); i++)
    if (x[i] !== y[i]) return x[i].codePointAt(0) - y[i].codePointAt(0);
  return x.length - y.length;
};

/** Foreign data: keys sorted, numbers in their shortest form. */
function exact(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(exact).join(",")}]`;
  if (!isObject(value)) return JSON.stringify(value);
  const keys = Object.keys(value).sort(byCodePoint);
  return `{${keys.map((k) => `${JSON.stringify(k)}:${exact(value[k])}`).join(",")}}`;
}

export function numberText(value: number): string {
  if (Number.isInteger(value)) return BigInt(value).toString();
  const text = value.toFixed(6).replace(/\.?0+$/, "");
  return text === "-0" || text === "" ? "0" : text;
}

/** Canonical text: keys in the order of the schema, defaults left out, numbers rounded to 1e-6. */
export function writeValue(s: Json, value: Json, path = ""): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "number") return numberText(value);
  if (typeof value !== "object") return JSON.stringify(value);
  const at = bare(s ?? {});
  if (Array.isArray(value)) return `[${value.map((one) => writeValue(at.items, one, path)).join(",")}]`;
  if (!at.properties) return exact(value);
  const always = ALWAYS[path] ?? (at.properties.kind && at.properties.subfolder ? FILE_KEYS : []);
  const parts: string[] = [];
  for (const [key, part] of Object.entries<Json>(at.properties)) {
    if (value[key] === undefined) continue;
    if (always.includes(key) || JSON.stringify(value[key]) !== JSON.stringify(defaultOf(part)))
      parts.push(`${JSON.stringify(key)}:${writeValue(part, value[key], `${path}/${key}`)}`);
  }
  for (const key of Object.keys(value).filter((k) => !Object.hasOwn(at.properties, k)).sort(byCodePoint))
    parts.push(`${JSON.stringify(key)}:${exact(value[key])}`);
  return `{${parts.join(",")}}`;
}
