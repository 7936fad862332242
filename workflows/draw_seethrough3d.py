"""Draws seethrough3d.jpg: what the workflow makes before FLUX begins. Run: python workflows/draw_seethrough3d.py."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from sightline.pipelines.layout_render import render_layout
from sightline.scene.document.examples import load_example

HERE, SIDE, BAR = Path(__file__).resolve().parent, 512, 34
COLORS = ((230, 80, 70), (80, 200, 110), (80, 130, 240), (240, 200, 60), (70, 210, 220), (220, 90, 210),
          (240, 150, 50), (150, 110, 240))  # fmt: skip


def main() -> None:
    """Control picture, silhouettes with hidden parts, and the prompt."""
    layout = render_layout(load_example("desk"), SIDE)
    control = (layout.image[0] * 255).round().to(torch.uint8).numpy()
    tint = torch.zeros(SIDE, SIDE, 3)
    for mask, color in zip(layout.masks, COLORS):
        tint += mask[..., None] * torch.tensor(color) * 0.45
    masks = tint.clamp(0, 255).to(torch.uint8).numpy()
    words = [f"{name}" for name in layout.prompt.subjects]
    picture = Image.new("RGB", (2 * SIDE, SIDE + 3 * BAR), (24, 24, 27))
    picture.paste(Image.fromarray(control), (0, BAR))
    picture.paste(Image.fromarray(masks), (SIDE, BAR))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=17)
    draw.text((10, 7), "Occlusion Control Render of the example scene `desk`", (220, 220, 220), font)
    draw.text((SIDE + 10, 7), "masks: whole outlines, hidden parts included", (220, 220, 220), font)
    x = 10
    for word, color in zip(words, COLORS):
        draw.text((x, SIDE + BAR + 7), word, color, font)
        x += int(draw.textlength(word + "   ", font))
    caption = f"{layout.prompt.background}   (the picture itself needs FLUX.1-dev and the SeeThrough3D LoRA)"
    draw.text((10, SIDE + 2 * BAR + 5), caption, (170, 170, 170), font)
    picture.save(HERE / "seethrough3d.jpg", quality=88)


if __name__ == "__main__":
    main()
