// Colours of the viewport, chosen by how bright the host's panels are.

export interface Palette {
  dark: boolean;
  ground: string;
  grid: string;
  axisX: string;
  axisY: string;
  axisZ: string;
  ink: string; // labels
  halo: string; // behind labels
  accent: string;
}

export interface Look {
  colour: string;
  edge: string;
  opacity: number; // below 1
  flat: boolean; // one colour for all faces instead of the model's
}

const DARK: Palette = {
  dark: true, ground: "#1b1d22", grid: "#7b8494", axisX: "#e0605a", axisY: "#6cc04a", axisZ: "#4c8dff", ink: "#f2f4f8",
  halo: "#101216", accent: "#ffb454",
};
const LIGHT: Palette = {
  dark: false, ground: "#e9ecf1", grid: "#6d7686", axisX: "#c43a34", axisY: "#3d8a22", axisZ: "#2461c9", ink: "#14171c",
  halo: "#ffffff", accent: "#b45f00",
};

/** The set that goes with the host's present theme. */
export function palette(element: HTMLElement): Palette {
  const text = getComputedStyle(element).getPropertyValue("--comfy-menu-bg").trim() || "#353535";
  const probe = document.createElement("canvas").getContext("2d");
  probe.fillStyle = "#353535";
  probe.fillStyle = text;
  const found = /^#(..)(..)(..)/.exec(String(probe.fillStyle));
  const [r, g, b] = found ? found.slice(1).map((v) => parseInt(v, 16)) : [53, 53, 53];
  return 0.299 * r + 0.587 * g + 0.114 * b < 140 ? DARK : LIGHT;
}
