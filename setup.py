"""The list of packages, which pyproject.toml cannot compute: each folder with an ``__init__.py``."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LEFT_OUT = ("tests", "build", "docs")


def packages() -> list[str]:
    """``sightline`` and each sub-package; hidden folders, tests and build outputs are no part of it."""
    names = ["sightline"]
    for marker in sorted(ROOT.glob("*/**/__init__.py")):
        parts = marker.parent.relative_to(ROOT).parts
        if parts[0] not in LEFT_OUT and all(part.isidentifier() for part in parts):
            names.append(".".join(("sightline", *parts)))
    return names


class BuildModules(build_py):
    """The root folder is the package, but its scripts are no modules of it."""

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [m for m in modules if package != "sightline" or m[1] not in ("install", "setup")]


setup(packages=packages(), cmdclass={"build_py": BuildModules})
