"""The published weights that the download command and node know, of all systems."""

from __future__ import annotations

from ..models.genrecon.weights import ALL as GENRECON
from ..models.sam3d.weights import SAM3D
from ..models.seethrough3d.weights import FLUX_DEV, RELEASE
from ..models.trellis1.weights import ALL as TRELLIS1
from ..models.trellis2.weights import ALL as TRELLIS2
from ..models.weights import Weights
from ..scene.errors import InputError

SETS = (*TRELLIS2, *TRELLIS1, RELEASE, *GENRECON)
BROUGHT = (FLUX_DEV, SAM3D)  # behind a login: the user brings them


def find(name: str) -> Weights:
    """The set called `name`; raises InputError for an unknown one, which names all, and for one behind a login."""
    known = {one.name: one for one in SETS}
    for one in BROUGHT:
        if one.name == name:
            raise InputError(f"{one.title} lies behind a login; get its files yourself from {one.source}.")
    if name not in known:
        raise InputError(f"There are no weights called {name!r}; there are {', '.join(known)}.")
    return known[name]


def needs(weights: Weights) -> tuple[list[Weights], list[Weights]]:
    """What a set needs besides: sets to fetch with it, and sets the user has to bring."""
    fetched = {one.name: one for one in SETS}
    brought = {one.name: one for one in BROUGHT}
    return (
        [fetched[name] for name in weights.needs if name in fetched],
        [brought[name] for name in weights.needs if name in brought],
    )
