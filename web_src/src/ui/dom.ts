// Elements in one call, and the icons.

type Child = Node | string | null | undefined | false;

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string | number | boolean | null | undefined | ((event: any) => void)> = {}, children: Child[] = [],
): HTMLElementTagNameMap[K] {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") out.addEventListener(name.slice(2), value as EventListener);
    else out.setAttribute(name, value === true ? "" : String(value));
  }
  out.append(...children.filter((c): c is Node | string => c !== null && c !== undefined && c !== false));
  return out;
}

const PATHS: Record<string, string> = {
  add: "M12 5v14M5 12h14",
  move: "M12 3v18M3 12h18M12 3l-3 3M12 3l3 3M12 21l-3-3M12 21l3-3M3 12l3-3M3 12l3 3M21 12l-3-3M21 12l-3 3",
  turn: "M20 12a8 8 0 1 1-2.5-5.8M20 3v5h-5",
  scale: "M4 20h7v-7H4zM14 4h6v6M20 4l-8 8",
  snap: "M6 3v8a6 6 0 0 0 12 0V3M6 7h4M14 7h4M10 3v8a2 2 0 0 0 4 0V3",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  eye: "M2 12s4-7 10-7 10 7 10 7-4 7-10 7S2 12 2 12zM12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6z",
  eyeoff: "M3 3l18 18M10 5.2A9 9 0 0 1 12 5c6 0 10 7 10 7a17 17 0 0 1-3 3.6M6.5 6.8A17 17 0 0 0 2 12s4 7 10 7a9.6 9.6 0 0 0 4.6-1.2",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.6-1.6",
  camera: "M3 7h12v10H3zM15 11l6-4v10l-6-4z",
  undo: "M9 14L4 9l5-5M4 9h9a7 7 0 0 1 0 14h-2",
  redo: "M15 14l5-5-5-5M20 9h-9a7 7 0 0 0 0 14h2",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13M10 11v6M14 11v6",
  help: "M9.2 9a3 3 0 1 1 4.2 2.7c-1 .5-1.4 1.1-1.4 2.3M12 17.5h.01M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  close: "M5 5l14 14M19 5L5 19",
  home: "M4 11l8-7 8 7M6 10v10h12V10",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  warn: "M12 4l9 16H3zM12 10v4M12 17h.01",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  folder: "M3 6h6l2 2h10v11H3z",
};

export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24", width: "16", height: "16", fill: "none", stroke: "currentColor",
    "stroke-width": name === "more" || name === "grip" ? "3" : "1.8", "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true",
  })) svg.setAttribute(key, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}

export function button(label: string, sign: string | null, press: (event: MouseEvent) => void, options: { pressed?: boolean; text?: string; sign?: string; class?: string; key?: string } = {}): HTMLButtonElement {
  // what is read aloud has to contain what is written; the rest is its description
  const name = options.text && !label.includes(options.text) ? options.text : label;
  const title = options.key ? `${label} (${options.key})` : label;
  const out = element("button", { type: "button", class: `se-button ${options.class ?? ""}`, title, "aria-label": name, onclick: press }, [
    sign && icon(sign), options.text && element("span", {}, [options.text]), options.sign && element("span", { "aria-hidden": "true" }, [options.sign]),
  ]);
  if (options.pressed !== undefined) out.setAttribute("aria-pressed", String(options.pressed));
  return out;
}

export function clear(parent: Element): void {
  parent.replaceChildren();
}
