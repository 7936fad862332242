"""Which input views a training step keeps, and which it renders (SparseGen, view dropout)."""

from __future__ import annotations

import math

from ...scene.errors import InputError

PENALIZE = ("seen", "seen_and_one_more", "all")


def drop_views(
    clean: int,
    noisy: int,
    uniform: float,
    start: int,
    *,
    drop_all_clean: float = 0.2,
    noisy_dropout: float = 0.5,
    penalize: str = "seen_and_one_more",
) -> tuple[list[int], list[int]]:
    """Indices of the views to keep and of the views to render; views are numbered clean first, then noisy.

    ``uniform`` in [0, 1) decides the clean views: below ``drop_all_clean`` none stays, above it the first
    ceil(rest * clean). ``start`` in 0..noisy-1 is the first noisy view that stays when ``noisy_dropout`` is 0.5;
    1.0 drops all noisy views, 0.0 keeps them. ``penalize``: "seen" renders the kept views, "all" every view,
    "seen_and_one_more" the kept ones and the first clean view (if all clean were dropped) or every noisy view but
    the first. A view listed twice counts twice in the loss, as in the published training.
    Raises InputError for other options or when nothing would stay.
    """
    if penalize not in PENALIZE:
        raise InputError(f"`penalize` is {penalize!r}; use one of {', '.join(PENALIZE)}.")
    if noisy_dropout not in (0.0, 0.5, 1.0):
        raise InputError(f"`noisy_dropout` is {noisy_dropout}; use 0.0, 0.5 or 1.0.")
    noisy_views = list(range(clean, clean + noisy))
    rest = uniform - drop_all_clean + 1e-6
    kept = math.ceil(rest / (1 - drop_all_clean) * clean) if rest > 0 else 0
    keep = list(range(min(kept, clean)))
    if noisy_dropout < 1.0:
        keep += noisy_views[start if noisy_dropout == 0.5 else 0 :]
    if not keep:
        raise InputError(
            "Every view was dropped; keep noisy views (`noisy_dropout` below 1) or lower `drop_all_clean`."
        )
    if penalize == "seen":
        render = list(keep)
    elif penalize == "all":
        render = list(range(clean + noisy))
    elif rest > 0:
        render = keep + noisy_views[1:]
    else:
        render = keep + list(range(min(clean, 1)))
    return keep, render
