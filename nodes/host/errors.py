"""Errors that reach an artist as one sentence."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ...scene.errors import InputError, MissingDependency


def one_sentence(execute: Callable) -> Callable:
    """Let `execute` end with the bare sentence of what a user gave wrong; our own mistakes keep their traceback.

    The host shows the text of the exception and writes its traceback to the log; the frames below this one are
    dropped, since a reader of "`mask` is empty" needs none of them.
    """

    @functools.wraps(execute)
    def wrapped(*args, **kwargs):
        try:
            return execute(*args, **kwargs)
        except InputError as error:
            plain = ValueError(" ".join(str(error).split()))  # the host also shows the type: a plain one reads best
        except MissingDependency as error:
            plain = ImportError(" ".join(str(error).split()))
        except torch.cuda.OutOfMemoryError:
            raise  # the host recognizes it, frees memory and says what to do
        except OSError as error:
            if error.filename is None:
                raise
            plain = OSError(f"{error.filename}: {error.strerror}.")
        raise plain from None

    return wrapped


def answer(check: Callable[[], Any]) -> bool | str:
    """What `validate_inputs` returns: True, or the sentence of the InputError that `check` raises."""
    try:
        check()
    except InputError as error:
        return " ".join(str(error).split())
    return True


def about() -> dict:
    """This host for the self check: found, path, version, origin."""
    from comfyui_version import __version__

    path = str(Path(folder_paths.__file__).parent)
    return {"found": True, "path": path, "version": __version__, "origin": "the one that runs this"}


def new_every_time() -> str:
    """A fingerprint that never repeats: for nodes that look at the machine."""
    return uuid.uuid4().hex
