"""What a run writes about itself: one JSON line per interval, the curves as a picture, TensorBoard, offline wandb."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2")
OWN = ("gradient", "lr", "seconds", "step", "time")  # of a line, no loss terms


class RunLog:
    """Averages what every step reports over `every` steps and writes it; the optional loggers join where installed."""

    def __init__(self, folder: Path, name: str, options: dict[str, Any], every: int):
        self.folder, self.every = Path(folder), every
        self.stream = open(self.folder / "log.jsonl", "a", encoding="utf-8", buffering=1)
        self.sums: dict[str, float] = {}
        self.counted, self.since = 0, time.monotonic()
        self.writer = self.wandb = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder / "tensorboard"))
        except ImportError:
            pass
        try:
            import wandb

            self.wandb = wandb.init(project=name, mode="offline", dir=str(self.folder), config=options)
        except ImportError:
            pass

    def count(self, step: int, values: dict[str, float]) -> None:
        """The values of one step; values that are not finite are left out."""
        self.counted += 1
        for name, value in values.items():
            if math.isfinite(value):
                self.sums[name] = self.sums.get(name, 0.0) + value
        if step % self.every == 0:
            self.write(step)

    def write(self, step: int) -> None:
        """A line of the means since the last one."""
        if not self.counted:
            return
        means = {name: value / self.counted for name, value in self.sums.items()}
        means["seconds"] = (time.monotonic() - self.since) / self.counted
        self.sums, self.counted, self.since = {}, 0, time.monotonic()
        line = {"step": step, "time": round(time.time(), 1)} | {k: float(f"{v:.6g}") for k, v in means.items()}
        self.stream.write(json.dumps(line) + "\n")
        if self.writer:
            for name, value in means.items():
                self.writer.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(means, step=step)

    def close(self) -> None:
        """The curves, and an end for the loggers."""
        self.stream.close()
        if self.writer:
            self.writer.close()
        if self.wandb:
            self.wandb.finish()
        write_curves(self.folder / "log.jsonl", self.folder / "curve.png")


def read_lines(path: Path) -> list[dict[str, float]]:
    """The lines of a log; where a run was continued, later lines replace earlier ones of the same step."""
    lines = {}
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        lines[line["step"]] = line
    return [lines[step] for step in sorted(lines)]


def write_curves(log: Path, path: Path, width: int = 720, height: int = 300) -> None:
    """The loss terms of a log over the steps, logarithmic, as a PNG; nothing where there are fewer than two lines."""
    from PIL import Image, ImageDraw

    lines = read_lines(log)
    names = [name for name in (lines[-1] if lines else {}) if name not in OWN]
    curves = {n: [(x["step"], math.log10(max(x[n], 1e-9))) for x in lines if n in x] for n in names}
    points = [point for curve in curves.values() for point in curve]
    if len(lines) < 2 or not points:
        return
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    left, right, top, bottom = 60, width - 130, 14, height - 26
    low, high, last = min(p[1] for p in points), max(p[1] for p in points), max(p[0] for p in points)
    high = max(high, low + 1e-6)
    draw.rectangle([left, top, right, bottom], outline="#bbbbbb")
    for k in range(5):
        y = bottom + (top - bottom) * k / 4
        draw.line([left, y, right, y], fill="#eeeeee")
        draw.text((4, y - 6), f"{10 ** (low + (high - low) * k / 4):.3g}", fill="#555555")
    draw.text((right - 60, bottom + 6), f"step {last}", fill="#555555")
    for k, (name, curve) in enumerate(curves.items()):
        color = COLORS[k % len(COLORS)]
        draw.text((right + 8, top + 14 * k), name, fill=color)
        places = [
            (left + (right - left) * s / last, bottom + (top - bottom) * (v - low) / (high - low)) for s, v in curve
        ]
        if len(places) > 1:
            draw.line(places, fill=color, width=2)
    image.save(path)
