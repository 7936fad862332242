"""Progress, previews and interruption of a running node."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor

from ...scene.images import to_pillow
from .base import PREVIEW_SIZE


class Progress:
    """A library callback(done, total) that moves the node's progress bar and stops when the user interrupts.

    The host's interruption is an exception which passes through the library; nothing is written then.
    """

    def __init__(self, total: int = 1) -> None:
        self.bar = comfy.utils.ProgressBar(total)
        self.shown = None

    def __call__(self, done: int, total: int) -> None:
        stop_if_interrupted()
        self.bar.update_absolute(done, total, self.shown)

    def preview(self, pictures: Tensor) -> None:
        """Show pictures [V, 3, H, W] in [0, 1] side by side on the node, with the next progress."""
        self.shown = ("JPEG", to_pillow(torch.cat(list(pictures), dim=2)), PREVIEW_SIZE)


def stop_if_interrupted() -> None:
    """Raise the host's interruption if the user asked for it."""
    comfy.model_management.throw_exception_if_processing_interrupted()
