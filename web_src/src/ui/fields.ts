// Input fields: numbers that can be typed, calculated and scrubbed; sliders with reset; texts. Each ends in one commit.
import { clamp, round } from "../math/vec.ts";
import { evaluate } from "../scene/expression.ts";
import { button, element } from "./dom.ts";
import type { Store } from "./store.ts";

export interface NumberOptions {
  label: string;
  hint?: string;
  get: () => number | null; // null: the selection differs
  set: (value: number) => void; // within a gesture
  step: string; // name of the step in the history
  low: number;
  high: number;
  by: number; // per pixel of scrubbing
  unit?: string;
  range: (low: number, high: number) => string; // what is said when a number is out of range
  locale: string;
}

/** A number as the user's language writes it, without needless digits. */
export const shown = (value: number, locale: string): string =>
  value.toLocaleString(locale, { maximumFractionDigits: 4, useGrouping: false });

export function numberField(store: Store, o: NumberOptions): HTMLElement {
  const input = element("input", { type: "text", inputmode: "decimal", class: "se-number", "aria-label": o.label, spellcheck: "false", autocomplete: "off" });
  const name = element("span", { class: "se-scrub", title: o.hint ?? o.label }, [o.label]);
  const note = element("span", { class: "se-note", role: "alert" });
  const root = element("label", { class: "se-field" }, [name, input, o.unit && element("span", { class: "se-unit" }, [o.unit]), note]);
  let typing = false;
  const refresh = () => {
    if (typing) return;
    const value = o.get();
    input.value = value === null ? "" : shown(value, o.locale);
    input.placeholder = value === null ? "—" : "";
  };
  const complain = (text: string) => {
    note.textContent = text;
    input.toggleAttribute("aria-invalid", Boolean(text));
  };
  const accept = (): boolean => {
    if (!typing) return true;
    const value = evaluate(input.value);
    if (value === null || value < o.low || value > o.high) {
      complain(o.range(o.low, o.high));
      return false;
    }
    complain("");
    typing = false;
    if (value !== o.get()) {
      store.begin();
      o.set(value);
      store.commit(o.step);
    }
    refresh();
    return true;
  };
  input.addEventListener("input", () => (typing = true));
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", () => {
    if (!accept()) {
      typing = false;
      complain("");
      refresh();
    }
  });
  input.addEventListener("keydown", (e) => {
    if (e.key === "Enter") {
      if (accept()) input.select();
      if (e.ctrlKey || e.metaKey) return; // the host's key for a run
    } else if (e.key === "Escape") {
      typing = false;
      complain("");
      refresh();
      input.blur();
    } else if (e.key === "ArrowUp" || e.key === "ArrowDown") {
      e.preventDefault();
      const now = o.get() ?? 0;
      const by = o.by * (e.shiftKey ? 1 : 10) * (e.key === "ArrowUp" ? 1 : -1);
      typing = false;
      store.begin();
      o.set(clamp(round(now + by, 1e-4), o.low, o.high));
      store.commit(o.step);
      refresh();
    } else return;
    e.stopPropagation();
  });
  (root as any).settle = () => typing && accept();
  scrub(name, store, o, refresh);
  (root as any).refresh = refresh;
  refresh();
  return root;
}

function scrub(handle: HTMLElement, store: Store, o: NumberOptions, refresh: () => void): void {
  let from: { x: number; value: number } | null = null;
  handle.addEventListener("pointerdown", (e) => {
    if (e.button !== 0 || store.readOnly) return;
    e.preventDefault();
    handle.setPointerCapture(e.pointerId);
    from = { x: e.clientX, value: o.get() ?? 0 };
    store.begin();
  });
  handle.addEventListener("pointermove", (e) => {
    if (!from) return;
    const by = (e.clientX - from.x) * o.by * (e.shiftKey ? 0.1 : 1);
    o.set(clamp(round(from.value + by, o.by >= 0.1 ? 0.1 : 0.001), o.low, o.high));
    refresh();
  });
  const end = () => {
    if (!from) return;
    from = null;
    store.commit(o.step);
  };
  handle.addEventListener("pointerup", end);
  handle.addEventListener("pointercancel", () => {
    from = null;
    store.cancel();
  });
}

export function slider(store: Store, o: NumberOptions & { reset: number; from: number; to: number; resetLabel: string }): HTMLElement {
  const range = element("input", { type: "range", min: o.from, max: o.to, step: o.by, "aria-label": o.label });
  const field = numberField(store, o);
  const refresh = () => {
    range.value = String(o.get() ?? o.reset);
    (field as any).refresh();
  };
  range.addEventListener("input", () => {
    store.begin();
    o.set(Number(range.value));
    (field as any).refresh();
  });
  range.addEventListener("change", () => store.commit(o.step));
  const reset = () => {
    store.settle();
    store.begin();
    o.set(o.reset);
    store.commit(o.step);
    refresh();
  };
  range.addEventListener("dblclick", reset);
  const root = element("div", { class: "se-slider" }, [field, range, button(o.resetLabel, "undo", reset, { class: "se-mini" })]);
  (root as any).refresh = refresh;
  refresh();
  return root;
}

export interface TextOptions {
  label: string;
  get: () => string;
  set: (value: string) => void;
  step: string;
  limit: number;
  rows?: number;
  placeholder?: string;
}

export function textField(store: Store, o: TextOptions): HTMLElement {
  const input = element(o.rows ? "textarea" : "input", { class: "se-text", "aria-label": o.label, maxlength: o.limit, placeholder: o.placeholder, rows: o.rows } as any) as HTMLInputElement;
  let typing = false;
  const refresh = () => {
    if (!typing && input.value !== o.get()) input.value = o.get();
  };
  const accept = () => {
    if (!typing) return;
    typing = false;
    if (input.value.trim() === o.get()) return;
    store.begin();
    o.set(input.value.trim());
    store.commit(o.step);
  };
  input.addEventListener("input", () => (typing = true));
  input.addEventListener("blur", accept);
  input.addEventListener("keydown", (e) => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) return accept();
    if (e.key === "Enter" && !o.rows) accept();
    else if (e.key === "Escape") {
      typing = false;
      refresh();
      input.blur();
    } else return;
    e.stopPropagation();
  });
  const root = element("label", { class: "se-field se-wide" }, [element("span", {}, [o.label]), input]);
  Object.assign(root, { refresh, settle: accept });
  refresh();
  return root;
}

/** Accept what is being typed: a run, an undo or another gesture is about to begin. */
export const settleAll = (root: ParentNode): void => {
  for (const one of root.querySelectorAll(".se-field")) (one as any).settle?.();
};
export const refreshAll = (root: ParentNode): void => {
  for (const one of root.querySelectorAll(".se-field, .se-slider")) (one as any).refresh?.();
};
