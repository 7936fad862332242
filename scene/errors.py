"""The errors a user may read."""


class InputError(ValueError):
    """Something given cannot be used; the message is one sentence: what was given, what was found, what would work."""


class MissingDependency(ImportError):
    """An optional library is needed for what was asked; the message names it and how to install it."""


class Interrupted(RuntimeError):
    """The caller stopped a long operation; nothing was written."""
