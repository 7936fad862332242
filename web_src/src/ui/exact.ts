// The picture that the server's renderer makes: the same bytes as the node's output. One request at a time, newest wins;
// a failure keeps the last picture and says so.
import type { Store } from "./store.ts";

const REST = 250;

export class Exact {
  note = "";
  reason = ""; // why the server cannot draw at all
  private wanted = false;
  private done = "";
  private timer: ReturnType<typeof setTimeout> | undefined;
  private running = 0;
  private last = "";

  constructor(private readonly store: Store, private readonly t: (key: string, values?: Record<string, unknown>) => string, private readonly show: (image: ImageBitmap | HTMLImageElement) => void) {}

  want(on: boolean): void {
    this.wanted = on;
    if (!on || this.store.busy || this.store.problem) return;
    const text = this.store.text();
    if (text === this.done) return;
    this.done = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.fetch(text), this.last ? REST : 0);
  }

  private async fetch(text: string): Promise<void> {
    if (!this.wanted) return;
    const run = ++this.running;
    this.note = this.t("exact.busy");
    this.store.tell("hover");
    let note = "";
    try {
      const answer = await this.store.host.post("/sightline/scene/preview", text, { "Content-Type": "application/json" });
      if (run !== this.running) return;
      if (answer.status === 404 || answer.status === 405) {
        this.reason = this.t("exact.missing");
        note = this.reason;
      } else if (answer.status === 409) return; // overtaken by a newer request
      else if (!answer.ok) {
        const said = await answer.json().catch(() => null);
        note = this.t("exact.failed", { text: said?.problems?.[0]?.text ?? said?.error ?? answer.statusText });
      } else {
        const image = await createImageBitmap(await answer.blob());
        if (run !== this.running) return;
        this.last = text;
        this.show(image);
      }
    } catch (error) {
      if (run !== this.running) return;
      note = this.t("exact.failed", { text: String((error as Error)?.message ?? error) });
    }
    this.note = note;
    this.store.tell("hover");
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.running++;
  }
}
