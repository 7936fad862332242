"""Getting published weights, only when asked: resumable, checked, whole or not at all.

This is the one module that fetches anything from a network. Nothing calls it but the download command and node.

A file arrives in `NAME.part` (and `NAME.part.etag`, which says of which version), is checked for size and checksum, and
is then renamed. A transfer that broke is continued by the next call. `$HF_ENDPOINT` names another hub.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..scene.errors import InputError
from ..scene.files import inside
from .weights import Weights, WeightsFile

HUB = "https://huggingface.co"
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 3  # in a row that bring nothing
PAUSE = 1.0  # seconds between them
BLOCK = 1 << 20
SPARE = 64 << 20  # bytes left free on the disk
FULL = {errno.ENOSPC, errno.EFBIG} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set())
MAX_SEARCHED = 20_000  # files looked at when searching folders for weights

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """One file to get: from where, to where, and where it lies already (None: nowhere)."""

    file: WeightsFile
    url: str
    target: Path
    found: Path | None


def default_folder() -> Path:
    """Where downloads go: `$SIGHTLINE_WEIGHTS`, else `sightline/weights` in the user's cache folder."""
    given = os.environ.get("SIGHTLINE_WEIGHTS")
    if given:
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or "~/.cache"
    return Path(cache).expanduser() / "sightline" / "weights"


def file_url(file: WeightsFile) -> str:
    """The address of a file; raises InputError where it has none or `$HF_ENDPOINT` is no web address."""
    if file.url:
        return _web_address(file.url)
    if not file.repo:
        raise InputError(f"{file.name} has no address; see its source and put it in place by hand.")
    hub = os.environ.get("HF_ENDPOINT") or HUB
    return _web_address(f"{hub.rstrip('/')}/{file.repo}/resolve/main/{file.name}")


def _web_address(url: str) -> str:
    if not url.lower().startswith(("https://", "http://")):
        raise InputError(f"{url.split('/')[0]!r} is no web address; $HF_ENDPOINT must begin with https:// or http://.")
    return url


def plan(weights: Iterable[Weights], folder: str | os.PathLike, search: Sequence[str | os.PathLike] = ()) -> list[Item]:
    """What getting these sets means: every file once, as folder/owner/repository/name.

    search: folders whose files are used instead where name and size agree (a file of unknown size is not looked for).
    """
    folder = Path(folder).expanduser()
    known = _listing(search)
    items: dict[Path, Item] = {}
    for one in weights:
        for file in one.files:
            target = inside(folder / (file.repo or one.name) / file.name, [folder])
            found = target if _is_there(target, file) else _elsewhere(known, file, target)
            items.setdefault(target, Item(file, file_url(file), target, found))
    return list(items.values())


def _is_there(path: Path, file: WeightsFile) -> bool:
    return path.is_file() and path.stat().st_size > 0 and file.bytes in (None, path.stat().st_size)


def _listing(folders: Sequence[str | os.PathLike]) -> dict[tuple[str, int], Path]:
    """(name, size) -> path of the weights below the folders."""
    known: dict[tuple[str, int], Path] = {}
    seen = 0
    for folder in folders:
        for root, names, files in os.walk(Path(folder).expanduser()):
            names[:] = sorted(n for n in names if not n.startswith("."))
            for name in sorted(files):
                seen += 1
                if seen > MAX_SEARCHED:
                    return known
                if name.endswith((".safetensors", ".pth", ".pt")):
                    path = Path(root) / name
                    try:
                        known.setdefault((name, path.stat().st_size), path)
                    except OSError:  # a dangling link
                        continue
    return known


def _elsewhere(known: dict[tuple[str, int], Path], file: WeightsFile, target: Path) -> Path | None:
    """A file of the same name and size, and of the same checksum where that is known."""
    found = known.get((Path(file.name).name, file.bytes)) if file.bytes else None
    if found is None or found == target or (file.sha256 and not checksum(found).startswith(file.sha256)):
        return None
    return found


def get(item: Item, progress: Progress | None = None) -> Path:
    """Puts the file in its place, by a link to where it was found or by a download; returns the place.

    progress(done, total) in bytes, total 0 where unknown; what it raises ends the transfer, which can be continued.
    Raises InputError for whatever goes wrong.
    """
    if item.found == item.target:
        return item.target
    try:
        item.target.parent.mkdir(parents=True, exist_ok=True)
        if item.found is not None:
            return _link(item.found, item.target)
        return fetch(item.url, item.target, item.file.bytes, item.file.sha256, progress)
    except OSError as error:
        raise _explained(error, item.target) from error


def get_all(
    sets: Sequence[Weights],
    folder: str | os.PathLike,
    accepted: bool,
    search: Sequence[str | os.PathLike] = (),
    progress: Progress | None = None,
) -> tuple[list[Item], int]:
    """Puts the files of these sets in their places; returns them all and how many of them were fetched.

    Raises InputError, which names licences, size and place, before anything is fetched that is not `accepted`.
    progress(done, total) in bytes over all files to fetch, total at least what is known of them.
    """
    items = plan(sets, folder, [folder, *search])
    missing = [item for item in items if item.found is None]
    if missing and not accepted:
        wanted = {item.file for item in missing}
        licences = "; ".join(
            f"{one.name}: {one.licence}, {one.source}" for one in sets if wanted.intersection(one.files)
        )
        raise InputError(
            f"{total_text(missing)} in {len(missing)} files would go to {folder} under these licences ({licences}); "
            "read them and turn on `accept_licence` to fetch."
        )
    before, known = 0, sum(item.file.bytes or 0 for item in missing)
    for item in items:
        fetched = item.found is None

        def told(done: int, total: int, before: int = before) -> None:
            if progress:
                progress(before + done, max(known, before + max(done, total)))

        get(item, told if fetched else None)
        before += _size(item.target) if fetched else 0
    return items, len(missing)


def _link(source: Path, target: Path) -> Path:
    """A hard link, else a symbolic one, else a copy."""
    temporary = target.with_name(f"{target.name}.link")
    temporary.unlink(missing_ok=True)
    source = source.resolve()
    for make in (os.link, os.symlink, shutil.copyfile):
        try:
            make(source, temporary)
            break
        except OSError:
            if make is shutil.copyfile:
                temporary.unlink(missing_ok=True)
                raise
    os.replace(temporary, target)
    return target


def fetch(
    url: str, target: Path, size: int | None = None, sha256: str | None = None, progress: Progress | None = None
) -> Path:
    """Downloads `url` to `target`, continuing what an earlier call left in `target.part`.

    size: in bytes, where known; sha256: the checksum or its first digits, where known. Raises InputError; OSError for
    what the file system refuses.
    """
    part = target.with_name(target.name + ".part")
    idle = 0
    while True:
        before, total, problem = _size(part), size, "the connection ended"
        if size is None or before != size:
            try:
                total = _transfer(_web_address(url), part, size, progress) or size
            except _Broken as error:
                problem, total = str(error), size or -1
        now = _size(part)
        if total in (None, now):
            break
        if 0 <= total < now:
            _forget(part)
            raise InputError(f"{url} has {total} bytes, fewer than arrived; nothing was kept, try again.")
        idle = 0 if now > before else idle + 1
        if idle == ATTEMPTS and not now:
            raise InputError(f"{url} cannot be reached ({problem}); check the connection, or $HF_ENDPOINT.")
        if idle == ATTEMPTS:
            whole = f" of {total}" if total > 0 else ""
            raise InputError(
                f"The transfer of {target.name} broke off after {now}{whole} bytes ({problem}); "
                "the same command continues it."
            )
        if idle:
            time.sleep(PAUSE)
    _check(part, url, size, sha256)
    os.replace(part, target)
    _etag_file(part).unlink(missing_ok=True)
    return target


def size_text(size: int | None) -> str:
    """Bytes in decimal units; a question mark where unknown."""
    if size is None:
        return "?"
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def total_text(items: Iterable[Item]) -> str:
    """The size of all; files of unknown size are configurations, but for one encoder."""
    items = list(items)
    known = sum(item.file.bytes or 0 for item in items)
    weights = [item for item in items if item.file.bytes is None and not item.file.name.endswith(".json")]
    if weights and not known:
        return "? MB"
    return f"{'at least ' if weights else ''}{size_text(known)}"


class _Broken(Exception):
    """The connection failed or ended; what has arrived stays."""


def _transfer(url: str, part: Path, size: int | None, progress: Progress | None) -> int | None:
    """Appends to `part` what one request brings; returns the size of the whole file where the server says it."""
    import http.client
    import urllib.error
    import urllib.request

    have = _size(part)
    headers = {"User-Agent": "sightline", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _etag_file(part).is_file():  # another version since then is sent from its beginning
            headers["If-Range"] = _etag_file(part).read_text("utf-8")
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing follows what we have: it is whole, or of another version
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return have
            _forget(part)
            raise _Broken("it changed meanwhile") from None
        if error.code >= 500:
            raise _Broken(f"the server answered {error.code}") from None
        raise InputError(_refusal(url, error.code)) from None
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise _Broken(str(getattr(error, "reason", error))) from None
    with answer:
        have, total = _extent(answer, have)
        _check_room(part, total or size, have)
        etag = answer.headers.get("ETag")
        if etag and not etag.startswith("W/"):
            _etag_file(part).write_text(etag, "utf-8")
        else:
            _etag_file(part).unlink(missing_ok=True)
        with open(part, "r+b" if part.is_file() else "xb") as stream:
            stream.truncate(have)
            stream.seek(have)
            while True:
                try:
                    block = answer.read(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise _Broken(str(error)) from None
                if not block:
                    break
                stream.write(block)
                have += len(block)
                if progress:
                    progress(have, total or size or 0)
            stream.flush()
            os.fsync(stream.fileno())  # a disk that is full may say so only now
    return total


def _extent(answer, have: int) -> tuple[int, int | None]:
    """From which byte on the answer is, and the size of the whole file where it says so."""
    if answer.status == 206:
        unit, _, extent = answer.headers.get("Content-Range", "").partition(" ")
        begin, _, total = extent.partition("/")
        if unit != "bytes" or begin.split("-")[0] != str(have):
            raise _Broken("the server sent another part than was asked for")
        return have, int(total) if total.isdecimal() else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _check_room(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free + (_size(part) - have)
    if total is not None and total - have + SPARE > free:
        raise InputError(
            f"{part.parent} has {free / 1e9:.2f} GB free, but {(total - have) / 1e9:.2f} GB are still to come; "
            "free some space or choose another folder with --to."
        )


def _check(part: Path, url: str, size: int | None, sha256: str | None) -> None:
    """Removes a file that is not what was published and raises InputError."""
    found, problem = _size(part), None
    if size is not None and found != size:
        problem = f"{url} has {found} bytes instead of {size}"
    elif sha256 and not checksum(part).startswith(sha256.lower()):
        problem = f"{url} arrived with another checksum than the published one"
    elif url.endswith(".json"):
        try:
            json.loads(part.read_bytes())
        except ValueError:
            problem = f"{url} sent something else than the JSON it should be"
    if problem:
        _forget(part)
        raise InputError(f"{problem}; nothing was kept, try again or put the file in place by hand.")


def _refusal(url: str, code: int) -> str:
    if code in (401, 403):
        return f"{url} asks for a login ({code}); get it with your browser and put it in place by hand."
    if code == 404:
        return f"{url} does not exist (404); it was moved or $HF_ENDPOINT names another hub."
    return f"{url} was refused ({code}); try again later."


def checksum(path: str | os.PathLike) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _explained(error: OSError, target: Path) -> InputError:
    if error.errno in FULL:
        return InputError(
            f"The disk is full ({target.parent}); free some space and run the same command again to continue."
        )
    return InputError(
        f"{error.filename or target} cannot be written ({error.strerror or error}); choose another folder."
    )
