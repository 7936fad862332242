// The scene being edited, the selection, and when a change is written back: once per gesture, never during a drag.
import type { Host } from "../host/types.ts";
import { counters } from "../render/shared.ts";
import { activeCamera, copy, drawn, newId, newScene, parse, read, runText, SceneTextError, toText } from "../scene/document.ts";
import type { Box, Camera, Orbit, Problem, Scene } from "../scene/types.ts";
import { writeJournal } from "./journal.ts";

export type Mode = "solid" | "control" | "exact" | "masks" | "compare";
export type Tool = "move" | "turn" | "scale";

/** What is not part of the document and yet survives the host's undo, which rebuilds every node. */
export interface Session {
  view: Orbit;
  through: boolean; // looking through the active camera
  mode: Mode;
  tool: Tool;
  tab: string;
  selection: string[];
  solo: string | null;
  grid: number;
  angle: number;
  snap: boolean;
  faceColours: boolean;
  names: boolean;
  backdrop: string | null;
  backdropOpacity: number;
  linked: string | null; // picture of the input `backdrop`
  ghosts: Box[] | null; // boxes of the connected scene, shown but not edited
  generated: string | null; // picture of the last run
  collapsed: boolean;
}

const sessions = new Map<string, Session>();
const live = new Set<Store>();
const fresh = new Map<string, string>(); // node → id of the scene it began with, while its text is still empty
const seen = new Set<string>(); // keys loaded in this page: their journal is no longer offered

const START: Session = {
  view: { target: [0, 0, 0.4], azimuth_deg: 28, elevation_deg: 24, distance: 8 },
  through: false, mode: "solid", tool: "move", tab: "object", selection: [], solo: null, grid: 0.1, angle: 15, snap: false,
  faceColours: true, names: true, backdrop: null, backdropOpacity: 0.6, linked: null, ghosts: null, generated: null, collapsed: false,
};

export interface Step {
  label: string;
  text: string;
}

export class Store {
  scene: Scene = newScene();
  session: Session = copy(START);
  problem: { problems: Problem[]; text: string } | null = null; // the text is no scene that can be edited
  guest: Scene | null = null; // a newer version, shown but not edited
  history: Step[] = [];
  at = 0;
  firstLoad = false;
  private lastText = "";
  private gesture: string | null = null;
  private readonly listeners = new Map<string, Set<() => void>>();
  private dialogOpen = false;

  constructor(readonly host: Host) {
    live.add(this);
  }

  get key(): string {
    return `${this.scene.id}/${this.host.nodeId()}`;
  }
  get readOnly(): boolean {
    return this.problem !== null;
  }
  get camera(): Camera {
    return activeCamera(this.scene);
  }
  get selection(): Box[] {
    return this.scene.objects.filter((b) => this.session.selection.includes(b.id));
  }
  get primary(): Box | null {
    const last = this.session.selection[this.session.selection.length - 1];
    return this.scene.objects.find((b) => b.id === last) ?? null;
  }
  /** Boxes that are shown: visible, and where one is shown alone, that one. */
  get shown(): Box[] {
    const { solo } = this.session;
    return this.scene.objects.filter((b) => (solo ? b.id === solo : b.visible));
  }
  get picture(): Box[] {
    return drawn(this.scene);
  }
  get inDialog(): boolean {
    return this.dialogOpen;
  }
  set inDialog(open: boolean) {
    this.dialogOpen = open;
    if (open) this.restartHistory("Open");
    this.tell("history");
  }
  /** The picture behind the boxes: one chosen here, or the linked one. */
  get backdrop(): string | null {
    return this.session.backdrop ?? this.session.linked;
  }
  /** What the control image is compared with. */
  get compared(): string | null {
    return this.session.generated ?? this.session.linked;
  }
  /** Pictures of the model's view need the camera. */
  get looksThrough(): boolean {
    return this.session.through || this.session.mode !== "solid";
  }

  on(what: string, call: () => void): () => void {
    if (!this.listeners.has(what)) this.listeners.set(what, new Set());
    this.listeners.get(what).add(call);
    return () => this.listeners.get(what)?.delete(call);
  }
  tell(...what: string[]): void {
    for (const one of what) for (const call of [...(this.listeners.get(one) ?? [])]) call();
  }

  /** Take over the host's text: at the start, after undo and redo, after a workflow was loaded. */
  load(text: string): void {
    this.gesture = null;
    this.problem = null;
    if (!text.trim()) {
      this.scene = newScene();
      const node = this.host.nodeId();
      if (fresh.has(node)) this.scene.id = fresh.get(node);
      else fresh.set(node, this.scene.id);
    }
    else if (text === this.lastText && this.lastText) return;
    else
      try {
        this.scene = parse(text);
      } catch (error) {
        const problems = error instanceof SceneTextError ? error.problems : [{ code: "E100", pointer: "", values: {} }];
        this.problem = { problems, text };
        this.scene = this.lenient(text);
      }
    this.lastText = text;
    this.firstLoad = !seen.has(this.key);
    seen.add(this.key);
    const kept = sessions.get(this.key);
    if (kept) this.session = kept;
    else sessions.set(this.key, (this.session = copy(START)));
    this.session.selection = this.session.selection.filter((id) => this.scene.objects.some((b) => b.id === id));
    this.restartHistory("Open");
    this.tell("loaded", "scene", "selection", "session");
  }

  /** A newer document is shown as far as it can be read. */
  private lenient(text: string): Scene {
    try {
      const raw = JSON.parse(text);
      return raw?.version > 1 ? read(JSON.stringify({ ...raw, version: 1 })).scene : newScene();
    } catch {
      return newScene();
    }
  }

  text(): string {
    return toText(this.scene);
  }
  runText(): string {
    this.settle();
    return this.problem ? this.lastText : this.lastText.trim() ? runText(this.scene) : this.lastText;
  }

  /** Open a gesture; what happens until `commit` is one step. */
  begin(): void {
    if (this.gesture === null) this.gesture = this.text();
  }
  get busy(): boolean {
    return this.gesture !== null;
  }
  /** Change the scene and redraw; nothing is written. */
  change(mutate: (scene: Scene) => void): void {
    if (this.readOnly) return;
    this.begin();
    mutate(this.scene);
    this.tell("scene");
  }
  cancel(): void {
    if (this.gesture === null) return;
    this.scene = parse(this.gesture);
    this.gesture = null;
    this.tell("scene", "selection");
  }
  /** Close the gesture: one step in both histories. Nothing where nothing changed. */
  commit(label: string): void {
    const before = this.gesture;
    this.gesture = null;
    if (before === null || this.readOnly || this.text() === before) return;
    if ([...live].some((other) => other !== this && other.scene.id === this.scene.id)) this.takeOwnId();
    this.scene.rev++;
    this.history = [...this.history.slice(0, this.at + 1), { label, text: this.text() }].slice(-100);
    this.at = this.history.length - 1;
    this.write();
  }
  /** A whole step at once. */
  edit(label: string, mutate: (scene: Scene) => void): void {
    this.settle();
    this.change(mutate);
    this.commit(label);
  }
  /** End what is still open (a slider being dragged, a field being typed in). */
  settle(): void {
    this.tell("settle");
    if (this.gesture !== null) this.commit("Change");
  }

  undo(): void {
    this.step(-1);
  }
  redo(): void {
    this.step(1);
  }
  goTo(index: number): void {
    this.step(index - this.at);
  }
  private step(by: number): void {
    const to = this.history[this.at + by];
    if (!to || !by) return;
    this.cancel();
    this.at += by;
    this.scene = parse(to.text);
    this.session.selection = this.session.selection.filter((id) => this.scene.objects.some((b) => b.id === id));
    this.write();
    this.tell("selection");
  }

  replace(label: string, scene: Scene): void {
    this.problem = null;
    this.begin();
    const { id, rev } = this.scene;
    this.scene = { ...scene, id, rev };
    this.commit(label);
    this.session.selection = [];
    this.tell("loaded", "scene", "selection");
  }
  /** Give up an unusable text: an empty scene takes its place. */
  startEmpty(): void {
    this.problem = null;
    this.scene = newScene();
    sessions.set(this.key, this.session);
    this.write();
    this.restartHistory("Open");
    this.tell("loaded", "selection");
  }
  /** Replace an unusable text by one that was mended or kept. */
  repairWith(text: string): void {
    this.load(text);
    if (!this.problem) this.write();
  }

  select(ids: string[], add = false): void {
    const next = add ? [...this.session.selection] : [];
    for (const id of ids) {
      const i = next.indexOf(id);
      if (i < 0) next.push(id);
      else if (add) next.splice(i, 1);
    }
    this.session.selection = next;
    this.tell("selection");
  }
  set(values: Partial<Session>): void {
    Object.assign(this.session, values);
    this.tell("session");
  }

  private takeOwnId(): void {
    this.scene.id = newId();
    sessions.set(this.key, (this.session = copy(this.session)));
    seen.add(this.key);
  }
  private restartHistory(label: string): void {
    this.history = [{ label, text: this.text() }];
    this.at = 0;
  }
  private write(): void {
    this.lastText = this.text();
    this.host.setText(this.lastText);
    this.host.captureUndo();
    writeJournal(this.key, this.scene.rev, this.lastText);
    counters.commits++;
    this.tell("scene", "commit", "history");
  }
  dispose(): void {
    live.delete(this);
    this.listeners.clear();
  }
}
