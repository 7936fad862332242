"""What a run writes about itself: a JSONL of scalars, the curve as a picture, held-out sheets, TensorBoard or wandb."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from ...models.sparsegen import SparseGen
from .recipe import Recipe


class RunLog:
    """Writes into the run's folder; TensorBoard and (offline) wandb join in where they are installed."""

    def __init__(self, folder: Path, recipe: Recipe):
        self.folder, self.recipe = Path(folder), recipe
        self.stream = open(self.folder / "log.jsonl", "a", encoding="utf-8", buffering=1)
        self.writer = self.run = self.means = self.shard = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder / "tensorboard"))
        except ImportError:
            pass
        try:
            import wandb

            self.run = wandb.init(project=recipe.name, mode="offline", dir=str(self.folder), config=recipe.to_dict())
        except ImportError:
            pass

    def scalars(self, step: int, values: dict[str, float], prefix: str = "") -> None:
        line = {"step": step, "time": round(time.time(), 1)} | {prefix + k: round(v, 6) for k, v in values.items()}
        self.stream.write(json.dumps(line) + "\n")
        if self.writer:
            for name, value in values.items():
                self.writer.add_scalar(prefix + name, value, step)
        if self.run:
            self.run.log({prefix + k: v for k, v in values.items()}, step=step)

    def held_out(self, step: int, model: SparseGen, train_shard) -> None:
        """One-step quality on the held-out shard beside the training data, and a sheet of pictures."""
        from .evaluate import evaluate, mean_images, sheet
        from .procedural_data import read_shards

        if train_shard is None:
            return
        if self.means is None:
            self.shard = read_shards(self.recipe.data.folder, f"heldout-{self.recipe.data.size}")
            self.means = mean_images(train_shard)
        report, pictures = evaluate(model, self.shard, self.means, objects=self.recipe.evaluate_objects)
        values = {k: v for k, v in asdict(report).items() if isinstance(v, float)} | {"gain": report.gain}
        self.scalars(step, values, "held_out/")
        write_picture(sheet(pictures[:26], 2), self.folder / "held_out.png")
        self.curve()

    def curve(self) -> None:
        write_curve(self.folder / "log.jsonl", self.folder / "curve.png")

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        if self.run:
            self.run.finish()
        self.curve()
        self.stream.close()


def write_picture(pixels: torch.Tensor, path: Path) -> None:
    """Write uint8 [H, W, 3] as PNG."""
    from PIL import Image

    Image.fromarray(pixels.numpy()).save(path)


def read_log(path: Path) -> list[dict]:
    """The lines of a JSONL log; where a run was continued, later lines replace earlier ones of the same step."""
    lines: dict[tuple, dict] = {}
    for text in Path(path).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        lines[(line["step"], "held_out/gain" in line)] = line
    return [lines[key] for key in sorted(lines)]


def write_curve(log: Path, path: Path, width: int = 720, height: int = 300) -> None:
    """Draw color loss (left, logarithmic) and held-out PSNR with the mean image's (right) of a log as a small PNG."""
    import math

    from PIL import Image, ImageDraw

    lines = read_log(log)
    train = [(x["step"], math.log10(max(x["color"], 1e-6))) for x in lines if "color" in x]
    novel = [(x["step"], x["held_out/psnr_novel"]) for x in lines if "held_out/psnr_novel" in x]
    mean = [(x["step"], x["held_out/psnr_mean_image"]) for x in lines if "held_out/psnr_mean_image" in x]
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)

    def panel(left: int, curves: list, title: str, text) -> None:
        points = [p for curve, _ in curves for p in curve]
        if len(points) < 2:
            return
        x0, x1, y0, y1 = left + 46, left + width // 2 - 12, height - 26, 26
        low, high = min(p[1] for p in points), max(p[1] for p in points)
        high, last = max(high, low + 1e-6), max(p[0] for p in points)
        draw.text((x0, 6), title, fill="black")
        draw.rectangle([x0, y1, x1, y0], outline="#bbbbbb")
        for k in range(5):
            value = low + (high - low) * k / 4
            y = y0 + (y1 - y0) * k / 4
            draw.line([x0, y, x1, y], fill="#eeeeee")
            draw.text((left + 4, y - 6), text(value), fill="#555555")
        draw.text((x1 - 60, y0 + 6), f"step {last}", fill="#555555")
        for curve, color in curves:
            places = [(x0 + (x1 - x0) * s / last, y0 + (y1 - y0) * (v - low) / (high - low)) for s, v in curve]
            if len(places) > 1:
                draw.line(places, fill=color, width=2)

    panel(0, [(train, "#1f77b4")], "training color loss (MSE on [-1,1])", lambda v: f"{10**v:.3g}")
    panel(
        width // 2,
        [(novel, "#d62728"), (mean, "#888888")],
        "held-out novel-view PSNR (dB), mean image grey",
        lambda v: f"{v:.1f}",
    )
    image.save(path)
