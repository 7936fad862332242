// What is wrong with names, sizes and contrast of the editor `e`: a list of findings.
const rgb = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgb(getComputedStyle(at).backgroundColor);
    if (colour.length === 3 || colour[3] > 0.5) return colour;
  }
  return [0, 0, 0];
};
const bad = [];
for (const one of e.root.querySelectorAll("button, input, select, textarea, [role=option], [role=tab]")) {
  if (!one.offsetParent) continue;
  const label = one.closest("label")?.textContent.trim();
  const name = one.getAttribute("aria-label") || one.textContent.trim() || label;
  if (!name) bad.push(["no name", one.outerHTML.slice(0, 120)]);
  const { width, height } = one.getBoundingClientRect();
  if (one.tagName === "BUTTON" && width > 0 && Math.min(width, height) < 23.5) bad.push(["small", name, width, height]);
}
for (const one of e.root.querySelectorAll("*")) {
  if (!one.offsetParent || one.matches(":disabled, :disabled *, .se-chip, canvas, option")) continue;
  if (![...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const [a, b] = [luminance(rgb(getComputedStyle(one).color)), luminance(behind(one))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push(["contrast", Math.round(ratio * 100) / 100, one.className, one.textContent.slice(0, 30)]);
}
return bad;
