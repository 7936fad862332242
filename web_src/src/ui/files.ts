// Scenes and pictures in and out: files dropped, pasted, chosen, saved.
import { ControlPicture } from "../render/control-picture.ts";
import { copy, read, SceneTextError, toText } from "../scene/document.ts";
import type { Box, Scene } from "../scene/types.ts";
import type { Actions } from "./actions.ts";
import { element } from "./dom.ts";
import type { Store } from "./store.ts";
import type { Viewport } from "./viewport.ts";

const READABLE = [".json", ".pkl", ".glb", ".gltf", ".csv"];
const COLMAP = /\.(zip|bin|db|ply)$|^(cameras|images|points3D|rigs|frames)\.txt$/i;
const LIBRARY = "sightline/scenes/";
const LARGEST = 64 * 1024 * 1024;

export class Files {
  constructor(private readonly store: Store, private readonly actions: Actions, private readonly t: (key: string, values?: Record<string, unknown>) => string, private readonly root: HTMLElement) {}

  say(text: string): void {
    this.store.host.toast(text);
    const live = this.root.querySelector(".se-speech");
    if (live) live.textContent = text;
  }
  private refuse(problems: { code: string; values?: Record<string, unknown>; text?: string }[]): void {
    const first = problems[0];
    this.say(first?.text ?? this.t(`code.${first?.code ?? "E100"}`, first?.values ?? {}));
  }

  /** Pasted text: the boxes of a scene are added. */
  text(text: string): void {
    try {
      this.actions.paste(text);
    } catch (error) {
      if (error instanceof SceneTextError) this.refuse(error.problems);
      else throw error;
    }
  }

  /** A file as a new scene: ours at once, others through the server, which reads them safely. */
  async open(file: File): Promise<void> {
    const ending = /\.[^.]+$/.exec(file.name.toLowerCase())?.[0] ?? "";
    if (COLMAP.test(file.name)) return this.say(this.t("file.colmap", { name: file.name }));
    if (!READABLE.includes(ending)) return this.say(this.t("file.unsupported", { name: file.name }));
    if (file.size > LARGEST) return this.say(this.t("file.large", { name: file.name }));
    if (ending === ".json") {
      const text = await file.text();
      try {
        return this.actions.open(read(text).scene);
      } catch (error) {
        if (!(error instanceof SceneTextError)) throw error;
        if (text.includes("sightline.scene")) return this.refuse(error.problems); // else another program's JSON
      }
    }
    const body = new FormData();
    body.append("file", file, file.name);
    const answer = await this.store.host.post("/sightline/scene/import", body);
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) return this.refuse(said.problems ?? [{ code: "", text: said.error ?? this.t("file.unsupported", { name: file.name }) }]);
    this.actions.open(read(JSON.stringify(said.scene)).scene);
    for (const note of said.notes ?? []) this.say(note);
  }

  choose(): void {
    this.pick(READABLE.join(","), (file) => void this.open(file));
  }
  private pick(accept: string, take: (file: File) => void): void {
    const input = element("input", { type: "file", accept });
    input.addEventListener("change", () => input.files?.[0] && take(input.files[0]));
    input.click();
  }

  /** The scene as a file; `bare` leaves out links to files. */
  save(bare: boolean): void {
    this.store.settle();
    const scene = copy(this.store.scene);
    if (bare) withoutFiles(scene);
    this.download(new Blob([toText(scene)], { type: "application/json" }), `${scene.title || "scene"}.json`);
  }
  private download(blob: Blob, name: string): void {
    const url = URL.createObjectURL(blob);
    element("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** The control image with the scene in a text chunk: the server's, or the live one. */
  async png(view: Viewport): Promise<void> {
    this.store.settle();
    const text = this.store.text();
    const answer = await this.store.host.post("/sightline/scene/preview", text, { "Content-Type": "application/json" }).catch(() => null);
    if (answer?.ok) return this.download(await answer.blob(), `${this.store.scene.title || "scene"}.png`);
    if (!view.gl) return this.say(this.t("exact.missing"));
    const picture = new ControlPicture(() => {}, () => false);
    picture.render(view.gl, this.store.scene, this.store.scene.output.control_size, 16);
    picture.canvas.toBlob((blob) => blob && this.download(blob, "scene.png"));
    picture.dispose();
  }

  async libraryList(): Promise<string[]> {
    const answer = await this.store.host.get(`/userdata?dir=${encodeURIComponent(LIBRARY)}&recurse=false&split=false`);
    if (!answer.ok) return [];
    return ((await answer.json()) as string[]).filter((name) => name.endsWith(".json"));
  }
  async librarySave(name: string): Promise<void> {
    const safe = name.trim().replace(/[^\p{L}\p{N} _.-]/gu, "_").replace(/^\.+/, "").slice(0, 80) || "scene";
    const path = encodeURIComponent(`${LIBRARY}${safe}.json`);
    const answer = await this.store.host.post(`/userdata/${path}?overwrite=true`, this.store.text());
    this.say(answer.ok ? this.t("library.saved", { name: safe }) : this.t("library.failed"));
  }
  async libraryOpen(name: string): Promise<void> {
    const answer = await this.store.host.get(`/userdata/${encodeURIComponent(LIBRARY + name)}`);
    if (answer.ok) this.openText(await answer.text());
  }
  private openText(text: string): void {
    try {
      this.actions.open(read(text).scene);
    } catch (error) {
      if (error instanceof SceneTextError) this.refuse(error.problems);
      else throw error;
    }
  }

  /** A picture of one object: kept in ComfyUI's input folder, named in the document. */
  async reference(box: Box, file: File): Promise<void> {
    if (!file.type.startsWith("image/")) return this.say(this.t("file.noImage", { name: file.name }));
    try {
      const ref = await this.store.host.upload(file);
      this.store.edit(this.t("step.image"), (scene) => (scene.objects.find((b) => b.id === box.id).image = ref));
    } catch {
      this.say(this.t("file.upload", { name: file.name }));
    }
  }
  chooseReference(box: Box | null): void {
    if (box) this.pick("image/*", (file) => void this.reference(box, file));
  }

  /** A picture behind the boxes, to trace; of this session, not of the document. */
  backdrop(file: File): void {
    this.store.set({ backdrop: URL.createObjectURL(file), through: true, mode: "solid" });
  }
  chooseBackdrop(): void {
    this.pick("image/*", (file) => this.backdrop(file));
  }
}

function withoutFiles(scene: Scene): void {
  for (const camera of scene.cameras) Object.assign(camera, { image: null, mask: null, depth: null });
  for (const box of scene.objects) Object.assign(box, { image: null, mask: null, amodal_mask: null, asset: null });
}
