"""How published and embedded weights are described beside the network they fit."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """One file of a release.

    ``bytes`` is its size where known, ``sha256`` its checksum (whole, or its first digits) where the authors' file was
    seen; ``repo`` is the hub repository it lies in, ``url`` its address where it lies elsewhere.
    """

    name: str
    bytes: int | None = None
    sha256: str | None = None
    repo: str | None = None
    url: str | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """A set of weights: what it is called here, where it comes from, under which licence, and what it was trained for.

    ``parameters`` is their number where it is fixed; ``path`` is where embedded weights lie, None for weights the user
    has to bring; ``needs`` names further sets without which it does nothing.
    """

    name: str
    title: str
    source: str
    licence: str
    files: tuple[WeightsFile, ...]
    domain: str
    parameters: int | None = None
    path: Path | None = None
    needs: tuple[str, ...] = ()
