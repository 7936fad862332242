"""How published and embedded weights are described beside the network they fit."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """One file of a release. ``bytes`` is its size where known, ``sha256`` its checksum where the authors' file was seen."""

    name: str
    bytes: int | None = None
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """A set of weights: what it is called here, where it comes from, under which licence, and what it was trained for.

    ``parameters`` is their number where it is fixed; ``path`` is where embedded weights lie, None for weights the user has
    to bring.
    """

    name: str
    title: str
    source: str
    licence: str
    files: tuple[WeightsFile, ...]
    domain: str
    parameters: int | None = None
    path: Path | None = None
