"""Writing results so that a failed run leaves nothing behind, and reading files we did not write.

    with Outputs(overwrite=False) as out:
        target = out.file("result.ply")      # refused here if it exists: before the long computation, not after
        ...
        target.write(data)                   # goes to a hidden temporary file in the same folder
    # all temporary files are renamed together here; on any error they are all removed

Files keep their old content until the new one is complete.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

_FULL = {errno.ENOSPC, errno.EFBIG} | ({errno.EDQUOT} if hasattr(errno, "EDQUOT") else set())
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


class Output:
    """One file or folder to come; made by `Outputs.file` and `Outputs.folder`."""

    def __init__(self, path: Path, is_folder: bool) -> None:
        self.path = path
        self.is_folder = is_folder
        token = secrets.token_hex(4)
        # the suffix stays last, since some encoders choose the format by it
        self.temporary = path.with_name(f".{path.stem}.{token}.part{path.suffix}")

    def write(self, data: bytes, name: str | None = None) -> None:
        """Write the whole content of the file, or of the file `name` in the folder."""
        target = self.temporary
        if self.is_folder:
            target.mkdir(exist_ok=True)
            target = target / name
        with open(target, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())  # a disk that is full may say so only now

    def discard(self) -> None:
        """Remove what has been written so far."""
        if self.temporary.is_dir():
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            self.temporary.unlink(missing_ok=True)


class Outputs:
    """All results of one run: written under temporary names, renamed together at the end, or not at all.

    overwrite: replace existing files; otherwise an existing file is refused when it is asked for.
    roots: folders that every output must lie in after symbolic links are followed; None = anywhere.
    Raises InputError for an existing file, a missing folder, a path outside the roots, and a full or write-protected
    disk.
    """

    def __init__(self, overwrite: bool = False, roots: Iterable[str | os.PathLike] | None = None) -> None:
        self.overwrite = overwrite
        self.roots = None if roots is None else [Path(r) for r in roots]
        self._outputs: list[Output] = []

    def file(self, path: str | os.PathLike) -> Output:
        """A file to be written; checked now."""
        return self._add(path, is_folder=False)

    def folder(self, path: str | os.PathLike) -> Output:
        """A folder of files to be written; checked now."""
        return self._add(path, is_folder=True)

    def _add(self, path: str | os.PathLike, is_folder: bool) -> Output:
        resolved = inside(path, self.roots)
        if not resolved.parent.is_dir():
            raise InputError(f"The folder of {path} does not exist; make it first or choose another.")
        if resolved.is_dir() and not is_folder:
            raise InputError(f"{path} is a folder; give the name of a file in it.")
        if resolved.exists() and is_folder and not resolved.is_dir():
            raise InputError(f"{path} is a file; give the name of a folder.")
        if resolved.exists() and not self.overwrite:
            raise InputError(f"{path} exists; choose another name or ask for it to be overwritten (--overwrite).")
        if any(resolved == other.path for other in self._outputs):
            raise InputError(f"{path} is named twice as an output; give each result its own name.")
        output = Output(resolved, is_folder)
        self._outputs.append(output)
        return output

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            try:
                self._commit()
            except OSError as failure:
                self._discard()
                raise _explained(failure) from failure
            except BaseException:
                self._discard()
                raise
            return
        self._discard()
        folders = ", ".join(sorted({str(output.path.parent) for output in self._outputs}))
        if isinstance(error, OSError) and (error.errno in _FULL or (error.errno in _REFUSED and self._is_ours(error))):
            raise _explained(error, folders) from error
        if isinstance(error, Exception) and _says_full(error):
            raise _explained(OSError(errno.ENOSPC, ""), folders) from error

    def _is_ours(self, error: OSError) -> bool:
        """Whether the error is about one of our temporary files and not about something that was read."""
        name = str(error.filename or "")
        return any(name.startswith(str(output.temporary)) for output in self._outputs)

    def _discard(self) -> None:
        for output in self._outputs:
            output.discard()

    def _commit(self) -> None:
        """Rename all; if one rename fails, put back what the earlier ones replaced."""
        created: list[Path] = []
        replaced: list[tuple[Path, Path]] = []
        try:
            for output in self._outputs:
                if not output.temporary.exists():
                    continue
                if not (self.overwrite and output.path.exists()):
                    _rename_new(output.temporary, output.path)
                    created.append(output.path)
                    continue
                backup = output.temporary.with_name(output.temporary.name + ".old")
                replaced.append((output.path, backup))
                _keep(output.path, backup)
                os.replace(output.temporary, output.path)
        except BaseException:
            for path in created:
                _remove(path)
            for path, backup in replaced:
                if backup.exists():
                    if path.is_dir():
                        _remove(path)
                    os.replace(backup, path)
            raise
        for _, backup in replaced:
            _remove(backup)


@contextmanager
def writing(path: str | os.PathLike, overwrite: bool = False, roots=None) -> Iterator[Path]:
    """One file for a writer that wants a path: yields the temporary path to write to, renames it at the end.

    The same rules and errors as `Outputs`.
    """
    with Outputs(overwrite, roots) as outputs:
        yield outputs.file(path).temporary


def _rename_new(source: Path, target: Path) -> None:
    """Rename without ever replacing: a file that appeared meanwhile is somebody else's."""
    if source.is_dir():
        os.rename(source, target)  # fails where a non-empty folder exists
        return
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        os.rename(source, target)
    else:
        os.unlink(source)


def _keep(path: Path, backup: Path) -> None:
    """Put the old content aside; where links exist, `path` itself is there at every moment."""
    if not path.is_dir():
        try:
            os.link(path, backup)
            return
        except OSError:  # no hard links on this file system
            pass
    os.rename(path, backup)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _says_full(error: Exception) -> bool:
    """Whether a library that hides the error number (safetensors, torch.save) met a full disk."""
    text = str(error).lower()
    return any(
        sign in text
        for sign in (
            "no space left",
            "os error 28",
            "os error 27",
            "file too large",
            "iostream error",
            "unexpected pos",
        )
    )


def _explained(error: OSError, folders: str = "") -> InputError:
    where = error.filename or folders
    where = f" ({where})" if where else ""
    if error.errno in _FULL:
        return InputError(f"The disk is full{where}; free some space or choose another folder, nothing was written.")
    if error.errno == errno.EEXIST:
        return InputError(f"{error.filename2 or error.filename} appeared while we worked; nothing was overwritten.")
    return InputError(f"The result cannot be written{where}: {error.strerror or error}; choose another folder.")


def inside(path: str | os.PathLike, roots: Iterable[str | os.PathLike] | None) -> Path:
    """The absolute path with all symbolic links followed; raises InputError unless it lies inside one of `roots`."""
    if not os.fspath(path) or "\0" in os.fspath(path):
        raise InputError("A path is empty or holds a zero byte; give a file name.")
    resolved = Path(path).resolve()
    if roots is None:
        return resolved
    allowed = [Path(root).resolve() for root in roots]
    if not any(resolved != root and resolved.is_relative_to(root) for root in allowed):
        names = ", ".join(str(root) for root in allowed)
        raise InputError(f"{path} lies outside the allowed folders; choose a name inside {names}.")
    return resolved


def read_bytes(path: str | os.PathLike, limit: int, what: str) -> bytes:
    """The content of a file; raises InputError if it is missing, no file, empty, or larger than `limit` bytes."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give {what}.")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{path} is empty (0 bytes); give {what}.")
        if size > limit:
            raise InputError(f"{path} has {size} bytes, more than the {limit} that are accepted; give a smaller file.")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give {what}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give {what}.") from error
