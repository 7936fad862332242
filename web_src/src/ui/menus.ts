// Menus and windows inside the editor: a popover near its button, and panels over the viewport.
import { button, clear, element, icon } from "./dom.ts";

export interface Item {
  label: string;
  key?: string;
  sign?: string;
  run?: () => void;
  checked?: boolean;
  off?: boolean;
  line?: boolean;
}

/** A menu at a point of the root (CSS px of the root). Arrow keys, Enter, Esc. */
export function popMenu(root: HTMLElement, x: number, y: number, items: Item[], label: string): HTMLElement {
  closeMenus(root);
  const back = document.activeElement as HTMLElement | null;
  const menu = element("div", { class: "se-menu", role: "menu", "aria-label": label });
  const close = () => {
    menu.remove();
    back?.focus?.({ preventScroll: true });
  };
  for (const item of items) {
    if (item.line) {
      menu.append(element("hr"));
      continue;
    }
    const one = element("button", { type: "button", role: item.checked === undefined ? "menuitem" : "menuitemcheckbox", class: "se-item", disabled: item.off, onclick: () => (close(), item.run?.()) }, [
      element("span", { class: "se-tick" }, [item.checked ? "✓" : item.sign ? icon(item.sign) : ""]),
      element("span", {}, [item.label]), element("kbd", {}, [item.key ?? ""]),
    ]);
    if (item.checked !== undefined) one.setAttribute("aria-checked", String(item.checked));
    menu.append(one);
  }
  menu.addEventListener("keydown", (e) => {
    const list = [...menu.querySelectorAll<HTMLButtonElement>(".se-item:not([disabled])")];
    const at = list.indexOf(document.activeElement as HTMLButtonElement);
    if (e.key === "ArrowDown") list[(at + 1) % list.length]?.focus();
    else if (e.key === "ArrowUp") list[(at - 1 + list.length) % list.length]?.focus();
    else if (e.key === "Escape") close();
    else if (e.key !== "Enter" && e.key !== " " && e.key !== "Tab") return;
    else {
      if (e.key === "Tab") close();
      e.stopPropagation();
      return;
    }
    e.preventDefault();
    e.stopPropagation();
  });
  menu.addEventListener("focusout", (e) => {
    if (!menu.contains(e.relatedTarget as Node)) menu.remove();
  });
  root.append(menu);
  menu.style.left = `${Math.max(4, Math.min(x, root.clientWidth - menu.offsetWidth - 4))}px`;
  menu.style.top = `${Math.max(4, Math.min(y, root.clientHeight - menu.offsetHeight - 4))}px`;
  menu.querySelector<HTMLElement>(".se-item:not([disabled])")?.focus({ preventScroll: true });
  return menu;
}

export const closeMenus = (root: HTMLElement): void => root.querySelectorAll(".se-menu").forEach((m) => m.remove());

/** A panel over the editor with a title and a close button; Esc closes it. Returns its body. */
export function openPanel(root: HTMLElement, title: string, closeLabel: string, options: { class?: string; onclose?: () => void } = {}): { body: HTMLElement; close: () => void } {
  root.querySelectorAll(".se-window").forEach((w) => (w as any).close?.());
  const back = document.activeElement as HTMLElement | null;
  const body = element("div", { class: "se-window-body", tabindex: "0" });
  const close = () => {
    if (!frame.isConnected) return;
    frame.remove();
    options.onclose?.();
    back?.isConnected && back.focus?.({ preventScroll: true });
  };
  const frame = element("section", { class: `se-window ${options.class ?? ""}`, role: "group", "aria-label": title }, [
    element("header", {}, [element("h3", {}, [title]), button(closeLabel, "close", close, { class: "se-mini" })]), body,
  ]);
  (frame as any).close = close;
  frame.addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    e.preventDefault();
    e.stopPropagation();
    close();
  });
  root.append(frame);
  return { body, close };
}

/** A list of choices with a search box; Enter takes the first, or the words as they are. */
export function searchList(
  body: HTMLElement, placeholder: string, groups: { name: string; items: { key: string; label: string; words: string; detail: string }[] }[],
  take: (key: string | null, text: string) => void, free: ((text: string) => string) | null,
): void {
  const input = element("input", { class: "se-text", type: "search", placeholder, "aria-label": placeholder });
  const list = element("div", { class: "se-choices", role: "listbox", "aria-label": placeholder });
  const show = () => {
    const q = input.value.trim().toLowerCase();
    clear(list);
    if (q && free) list.append(choice(free(input.value.trim()), "", () => take(null, input.value.trim())));
    for (const group of groups) {
      const hits = group.items.filter((item) => !q || item.words.includes(q));
      if (!hits.length) continue;
      list.append(element("div", { role: "group", "aria-label": group.name }, [
        element("h4", { "aria-hidden": "true" }, [group.name]), ...hits.map((item) => choice(item.label, item.detail, () => take(item.key, item.label))),
      ]));
    }
  };
  const choice = (label: string, detail: string, run: () => void) =>
    element("button", { type: "button", class: "se-choice", role: "option", onclick: run }, [element("span", {}, [label]), element("small", {}, [detail])]);
  input.addEventListener("input", show);
  input.addEventListener("keydown", (e) => {
    if (e.key === "Escape") return;
    e.stopPropagation();
    const q = input.value.trim();
    if (e.key === "Enter") {
      const exact = groups.flatMap((g) => g.items).find((item) => item.label.toLowerCase() === q.toLowerCase());
      if (exact) take(exact.key, exact.label);
      else if (q && free) take(null, q);
      else (list.querySelector(".se-choice") as HTMLElement | null)?.click();
    } else if (e.key === "ArrowDown") (list.querySelector(".se-choice") as HTMLElement | null)?.focus();
  });
  list.addEventListener("keydown", (e) => {
    const all = [...list.querySelectorAll<HTMLElement>(".se-choice")];
    const at = all.indexOf(document.activeElement as HTMLElement);
    if (e.key === "ArrowDown") all[Math.min(at + 1, all.length - 1)].focus();
    else if (e.key === "ArrowUp") (at > 0 ? all[at - 1] : input).focus();
    else return;
    e.preventDefault();
    e.stopPropagation();
  });
  body.append(input, list);
  show();
  input.focus({ preventScroll: true });
}
