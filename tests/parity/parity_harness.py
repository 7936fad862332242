"""Fixture discovery and the ledger of worst errors (used by ``conftest.py`` in this folder)."""

import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Fixture:
    """One recorded file (or folder) of the official code's inputs and outputs.

    ``path`` is the file, ``root`` its folder, where neighbours such as ``config.json`` lie.
    """

    system: str
    path: Path
    id: str

    @property
    def root(self) -> Path:
        return self.path.parent

    @property
    def name(self) -> str:
        """File name without suffix, ``raster_64_mixed``."""
        return self.path.stem if self.path.is_file() else self.path.name

    def tensors(self, name: str | None = None) -> dict:
        """All tensors of this file, or of the neighbour ``name``."""
        from safetensors.torch import load_file

        return load_file(str(self.root / name if name else self.path))

    def json(self, name: str | None = None):
        """The JSON neighbour ``name``; without a name this file itself, or the JSON beside it."""
        path = self.root / name if name else self.path.with_suffix(".json")
        return json.loads(path.read_text(encoding="utf-8"))

    def has(self, name: str) -> bool:
        """Whether the neighbour ``name`` exists."""
        return (self.root / name).exists()

    @property
    def meta(self) -> dict:
        """Scalars and options: the JSON beside the file, overlaid by the file's own metadata.

        Of the metadata, the entry ``meta`` is spread out; every other entry is kept under its key, parsed where it
        is JSON (``config``, ``scheduler``).
        """
        meta = {}
        beside = self.path.with_suffix(".json")
        if beside.is_file() and (loaded := json.loads(beside.read_text(encoding="utf-8"))):
            meta.update(loaded if isinstance(loaded, dict) else {"items": loaded})
        if self.path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(str(self.path), framework="pt") as file:
                entries = file.metadata() or {}
            for key, text in entries.items():
                value = parse(text)
                if key == "meta" and isinstance(value, dict):
                    meta.update(value)
                else:
                    meta[key] = value
        return meta


def parse(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def golden_dirs(given: list[str] | None) -> list[Path]:
    """The folders to search: those given, else ``tests/golden`` and ``../shared/golden`` where they exist."""
    if given:
        dirs = [Path(d).resolve() for d in given]
        for folder in dirs:
            if not folder.is_dir():
                raise FileNotFoundError(f"--golden {folder}: there is no such folder")
        return dirs
    default = [REPOSITORY / "tests" / "golden", REPOSITORY.parent / "shared" / "golden"]
    return [folder for folder in default if folder.is_dir()]


def discover(dirs, system: str, kind: str, exclude=(), suffix: str = ".safetensors") -> list[Fixture]:
    """Every ``DIR/<system>/<kind>*<suffix>``; a byte-identical copy in a later folder is taken once."""
    found: list[tuple[Path, Path]] = []
    seen = set()
    for folder in dirs:
        room = folder if folder.name == system and not (folder / system).is_dir() else folder / system
        for path in sorted(room.glob(kind + "*")) if room.is_dir() else ():
            wanted = path.is_dir() if suffix == "/" else path.is_file() and path.name.endswith(suffix)
            if not wanted or any(path.name.startswith(prefix) for prefix in exclude):
                continue
            key = (path.name, digest(path))
            if key not in seen:
                seen.add(key)
                found.append((folder, path))
    names = [path.name for _, path in found]
    fixtures = []
    for folder, path in found:
        where = f"@{folder.parent.name}-{folder.name}" if names.count(path.name) > 1 else ""
        fixtures.append(Fixture(system, path, f"{system}/{path.name}{where}"))
    return fixtures


def digest(path: Path) -> str:
    sha = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        sha.update(file.name.encode())
        sha.update(file.read_bytes())
    return sha.hexdigest()


@dataclass
class Entry:
    """What one component reached over all its fixtures."""

    system: str
    component: str
    tolerance: str
    worst: float = 0.0
    used: float = 0.0  # share of the tolerance, 1.0 = at the limit
    fixtures: set = field(default_factory=set)


class Ledger:
    """Worst error and tolerance per component, over the whole run."""

    def __init__(self):
        self.entries: dict[tuple[str, str, str], Entry] = {}

    def page(self, fixture_id: str, system: str) -> "Page":
        return Page(self, fixture_id, system)

    def record(self, system, component, tolerance, fixture_id, worst, used):
        entry = self.entries.setdefault((system, component, tolerance), Entry(system, component, tolerance))
        entry.worst, entry.used = max(entry.worst, worst), max(entry.used, used)
        entry.fixtures.add(fixture_id)

    def rows(self):
        for key in sorted(self.entries):
            e = self.entries[key]
            worst, used = ("0", "exact") if e.tolerance == "exact" else (f"{e.worst:.1e}", f"{e.used:.0%}")
            yield e.system, e.component, str(len(e.fixtures)), worst, e.tolerance, used

    def text(self) -> list[str]:
        head = ("system", "component", "fixtures", "worst error", "tolerance", "used")
        table = [head, *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]

    def markdown(self) -> str:
        lines = [
            "# Parity with the official code",
            "",
            "Written by the parity tests; do not edit. Every line compares our component with recorded outputs of the",
            "official code. *Worst error* is the largest absolute difference over all fixtures (where a tolerance",
            "holds for a share of the elements, the largest within that share); *used* is its share of the tolerance.",
            "",
            "```bash",
            "python -m pytest tests/parity --ledger docs/parity.md",
            "```",
        ]
        system = None
        for row in self.rows():
            if row[0] != system:
                system = row[0]
                lines += ["", f"## {system or 'general'}", ""]
                lines += ["| component | fixtures | worst error | tolerance | used |", "|---|---|---|---|---|"]
            lines.append("| " + " | ".join(row[1:]) + " |")
        return "\n".join(lines) + "\n"


class Page:
    """The ledger as one test sees it."""

    def __init__(self, book: Ledger, fixture_id: str, system: str):
        self.book, self.fixture_id, self.system = book, fixture_id, system

    def close(self, component, actual, expected, atol=0.0, rtol=0.0, fraction=1.0, of_max=0.0):
        """Assert that ``actual`` equals ``expected`` and record the error.

        An element is close if ``|a - e| <= atol + rtol*|e| + of_max*max|e|``; at least ``fraction`` of them must be.
        Tensors, arrays, lists or numbers; shapes must agree; NaN is never close.
        """
        a, e = flat(actual), flat(expected)
        assert a.shape == e.shape, f"{component}: shape {list(a.shape)}, expected {list(e.shape)}"
        tolerance = describe(atol, rtol, fraction, of_max)
        if not e.size:
            return self.book.record(self.system, component, tolerance, self.fixture_id, 0.0, 0.0)
        import numpy as np

        error = np.where(a == e, 0.0, np.abs(a - e))
        error = np.where(np.isnan(error), np.inf, error).ravel()
        magnitude = np.abs(e).ravel()
        limit = atol + rtol * magnitude + of_max * magnitude.max()
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(error == 0, 0.0, error / limit)
        counted = max(1, math.ceil(fraction * error.size))
        used = float(np.partition(share, counted - 1)[counted - 1])
        worst = float(np.partition(error, counted - 1)[counted - 1])
        self.book.record(self.system, component, tolerance, self.fixture_id, worst, used)
        assert used <= 1.0, (
            f"{component} on {self.fixture_id}: error {worst:.3e} is {used:.2f} times the tolerance {tolerance} "
            f"({int((share > 1).sum())} of {error.size} elements off, largest {error.max():.3e})"
        )

    def exact(self, component, actual, expected):
        """Assert equality (of tensors: of every bit of the values and the shape; else ``==``) and record it."""
        if hasattr(expected, "shape") or hasattr(actual, "shape"):
            a, e = flat(actual), flat(expected)
            assert a.shape == e.shape, f"{component}: shape {list(a.shape)}, expected {list(e.shape)}"
            wrong = int((a != e).sum())
            assert not wrong, f"{component} on {self.fixture_id}: {wrong} of {e.size} elements differ"
        else:
            assert actual == expected, f"{component} on {self.fixture_id}"
        self.book.record(self.system, component, "exact", self.fixture_id, 0.0, 0.0)


def flat(value):
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=np.float64)


def describe(atol, rtol, fraction, of_max) -> str:
    parts = [f"{atol:g}"] if atol else []
    parts += [f"{rtol:g} rel"] if rtol else []
    parts += [f"{of_max:g} of max"] if of_max else []
    return (" + ".join(parts) or "0") + (f" on {100 * fraction:g} %" if fraction < 1 else "")
