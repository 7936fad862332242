// What the editor needs of the program it sits in. `entry.ts` is ComfyUI's side of it; tests make a small one.
import type { FileRef } from "../scene/types.ts";

export interface Host {
  nodeId(): string;
  getText(): string;
  setText(text: string): void;
  captureUndo(): void;
  locale: string;
  translate(key: string): string | undefined; // key below sightline.editor
  post(path: string, body: BodyInit, headers?: Record<string, string>): Promise<Response>;
  get(path: string): Promise<Response>;
  upload(file: File): Promise<FileRef>;
  fileUrl(ref: FileRef): string;
  getSetting(id: string): unknown;
  setSetting(id: string, value: unknown): void;
  toast(message: string): void;
  graphScale(): number;
  /** Address of the picture at the input `backdrop`: null while it is not known, undefined where none is connected. */
  linkedPicture(): string | null | undefined;
  /** Whether a scene is connected. */
  sceneLinked(): boolean;
}
