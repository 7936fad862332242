// What the entry script loads when the first editor appears.
import type { Host } from "./host/types.ts";
import { translator } from "./i18n.ts";
import { element } from "./ui/dom.ts";
import { Editor } from "./ui/editor.ts";
import { addStyles } from "./ui/styles.ts";

export { hooks } from "./hooks.ts";

/** An editor for a host; where it cannot be made, what is said instead. The host's text is never touched by a failure. */
export function createEditor(host: Host): { root: HTMLElement; editor: Editor | null } {
  const t = translator((key) => host.translate(key), host.locale);
  try {
    const editor = new Editor(host, t);
    editor.load();
    return { root: editor.root, editor };
  } catch (error) {
    console.error("[Sightline] the layout editor could not start", error);
    addStyles();
    const report = String((error as Error)?.stack ?? error);
    const root = element("div", { class: "sightline-editor" }, [
      element("div", { class: "se-trouble", role: "alert" }, [
        element("p", {}, [t("trouble.start")]),
        element("pre", {}, [report]),
        element("button", { type: "button", class: "se-button", onclick: () => void navigator.clipboard?.writeText(report) }, [t("trouble.report")]),
      ]),
    ]);
    return { root, editor: null };
  }
}
