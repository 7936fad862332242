"""From pictures, masks and words to what the condition branch reads: tokens, positions, links to the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...kernels.split_attention import TextLinks
from ...scene.errors import InputError

CONDITION_SIZE = 512  # pixels a side of the control image, whatever the output's size
VAE_SHIFT, VAE_SCALE = 0.1159, 0.3611  # of FLUX.1's latents


@dataclass(frozen=True, eq=False)
class Condition:
    """One control image for one picture.

    tokens: [C, D] packed latents, row-major over `grid` = (rows, columns); spans: text positions of each object;
    cells: bool [K, rows, columns], where each object's whole silhouette is, hidden parts included; adapter: which of
    the LoRA's adapters acts on its tokens. No spans: its tokens read no text.
    """

    tokens: Tensor
    grid: tuple[int, int]
    spans: tuple[tuple[int, ...], ...]
    cells: Tensor
    adapter: int = 0

    def __post_init__(self) -> None:
        if len(self.tokens) != self.grid[0] * self.grid[1]:
            raise InputError(f"A condition of {len(self.tokens)} tokens is not a grid of {self.grid}.")
        if self.spans and tuple(self.cells.shape) != (len(self.spans), *self.grid):
            raise InputError(
                f"There are {len(self.spans)} descriptions and `masks` is of {list(self.cells.shape)}; each object "
                "needs one mask and one description, in the same order."
            )


def condition_pixels(image: Tensor, size: int = CONDITION_SIZE, resample: str = "bilinear") -> Tensor:
    """A control image [B, 3, H, W] in [0, 1] as the VAE reads it: [B, 3, size, size] in [-1, 1].

    resample: "bilinear" (antialiased, as the official inference code) or "lanczos" (by PIL on 8 bits, as diffusers'
    image processor does for other sizes).
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise InputError(f"The control image is of {list(image.shape)}; a colour picture [B, 3, H, W] is needed.")
    if resample == "lanczos":
        image = torch.stack([_lanczos(one, size) for one in image])
    elif resample != "bilinear":
        raise InputError(f"`resample` is {resample!r}; it can be 'bilinear' or 'lanczos'.")
    elif image.shape[2:] != (size, size):
        image = F.interpolate(image.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return image.float().clamp(0, 1) * 2 - 1


def _lanczos(image: Tensor, size: int) -> Tensor:
    import numpy as np
    from PIL import Image

    pixels = (image.detach().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized, dtype=np.float32) / 255).permute(2, 0, 1).to(image.device)


def pack(latent: Tensor) -> Tensor:
    """Latents [B, c, 2h, 2w] -> tokens [B, h w, 4c], each (channel, row, column) of a 2x2 patch."""
    batch, channels, height, width = latent.shape
    patches = latent.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, (height // 2) * (width // 2), channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Tokens [B, h w, 4c] -> latents [B, c, 2h, 2w] for a grid of height x width tokens."""
    batch, _, depth = tokens.shape
    patches = tokens.reshape(batch, height, width, depth // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, depth // 4, height * 2, width * 2)


def image_ids(height: int, width: int, device=None) -> Tensor:
    """Positions [h w, 3] of the image tokens: (0, row, column), float32."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    return _ids(rows.float(), columns.float())


def condition_ids(grid: tuple[int, int], image: tuple[int, int], device=None) -> Tensor:
    """Positions [C, 3] of condition tokens stretched over the image: (0, row s_h, column s_w), float32.

    grid: rows and columns of condition tokens; image: those of the image tokens.
    """
    rows, columns = (
        torch.arange(size, device=device, dtype=torch.float32) * (whole / size) for size, whole in zip(grid, image)
    )
    return _ids(rows, columns)


def _ids(rows: Tensor, columns: Tensor) -> Tensor:
    ids = torch.zeros(len(rows), len(columns), 3, device=rows.device)
    ids[..., 1], ids[..., 2] = rows[:, None], columns[None]
    return ids.flatten(0, 1)


def mask_cells(masks: Tensor, grid: tuple[int, int] = (32, 32)) -> Tensor:
    """Silhouettes [K, H, W] in [0, 1] -> bool [K, rows, columns]: a cell is on where any pixel of it is."""
    if masks.ndim != 3:
        raise InputError(f"`masks` is of {list(masks.shape)}; one silhouette [H, W] per object is needed.")
    if not masks.shape[0]:
        return torch.zeros(0, *grid, dtype=torch.bool)
    return F.adaptive_max_pool2d(masks.float()[:, None], grid)[:, 0] > 0.5


def text_links(rows: Sequence[Sequence[Condition]], device=None) -> TextLinks:
    """The links of a batch; rows: for each picture its conditions, as many and as large in all of them."""
    sizes = [tuple(len(condition.tokens) for condition in row) for row in rows]
    if len(set(sizes)) != 1:
        raise InputError(f"Pictures of one batch need equal condition tokens, not {sizes}.")
    columns = sorted({c for row in rows for condition in row for span in condition.spans for c in span})
    place = {column: index for index, column in enumerate(columns)}
    allowed = []
    for index, size in enumerate(sizes[0]):
        links = torch.zeros(len(rows), size, len(columns), dtype=torch.bool)
        for item, row in enumerate(rows):
            condition = row[index]
            cells = condition.cells.reshape(len(condition.spans), size).to("cpu", torch.bool) if condition.spans else ()
            for span, on in zip(condition.spans, cells):
                links[item, :, [place[column] for column in span]] |= on[:, None]
        allowed.append(links.to(device))
    return TextLinks(sizes[0], torch.tensor(columns, dtype=torch.int64, device=device), tuple(allowed))
