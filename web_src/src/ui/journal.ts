// The last committed scene of each node in the browser's storage: a reload right after an edit would lose it, because
// the host writes its own draft late.

const PREFIX = "sightline.journal.";
const KEPT = 20;
const BYTES = 1_000_000;
const DAYS = 7;

export interface Entry {
  rev: number;
  time: number;
  scene: string;
}

export function writeJournal(key: string, rev: number, scene: string): void {
  try {
    localStorage.setItem(PREFIX + key, JSON.stringify({ rev, time: Date.now(), scene } satisfies Entry));
    prune();
  } catch {
    // storage is full or forbidden: the journal is a convenience
  }
}

export function readJournal(key: string): Entry | null {
  try {
    const entry = JSON.parse(localStorage.getItem(PREFIX + key) ?? "null");
    return entry && typeof entry.scene === "string" ? entry : null;
  } catch {
    return null;
  }
}

export function dropJournal(key: string): void {
  try {
    localStorage.removeItem(PREFIX + key);
  } catch {
    // as above
  }
}

function prune(): void {
  const mine = Object.keys(localStorage)
    .filter((key) => key.startsWith(PREFIX))
    .map((key) => ({ key, text: localStorage.getItem(key) ?? "", time: 0 }));
  for (const one of mine) {
    try {
      one.time = JSON.parse(one.text).time ?? 0;
    } catch {
      one.time = 0;
    }
  }
  mine.sort((a, b) => b.time - a.time);
  let size = 0;
  mine.forEach((one, i) => {
    size += one.text.length;
    if (i >= KEPT || size > BYTES || Date.now() - one.time > DAYS * 86_400_000) localStorage.removeItem(one.key);
  });
}
