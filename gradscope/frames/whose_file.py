"""Whose a file of Python code is, by its name: gradscope's own, an installed package's, the standard library's.

A name is as code objects have it: as the import system or the user wrote it, on Windows with either separator. Imports
no torch.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""gradscope's own folder."""


def within(*folders: str | Path) -> tuple[str, ...]:
    """What the names of files in any of these folders begin with."""
    stems = {str(folder).rstrip("/\\") for folder in folders}
    return tuple(stem + separator for stem in sorted(stems) for separator in "/\\")


_OWN = within(PACKAGE, Path(__file__).parents[1])
_SCENARIOS = within(*(f"{folder}_scenarios" for folder in _OWN))
"""Where the wheel puts the built-in scenarios: user code like any other."""
_STANDARD = within(*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")))
_INSTALLED = within(*(sysconfig.get_path(name) for name in ("purelib", "platlib")))
_INSTALLED_PARTS = tuple(f"{a}{name}{b}" for name in ("site-packages", "dist-packages") for a in "/\\" for b in "/\\")


def is_gradscope(filename: str) -> bool:
    """Whether it is gradscope's own code; the built-in scenarios are not."""
    return filename.startswith(_OWN) and not filename.startswith(_SCENARIOS)


def is_installed(filename: str) -> bool:
    """Whether it belongs to an installed package."""
    return filename.startswith(_INSTALLED) or any(part in filename for part in _INSTALLED_PARTS)


def package_of(filename: str) -> str:
    """What people call the package that a file belongs to: the folder it is installed in, or the module's name."""
    parts = re.split(r"[/\\\\]", filename)
    for position, part in enumerate(parts[:-1]):
        if part in ("site-packages", "dist-packages"):
            return parts[position + 1].removesuffix(".py")
    return parts[-1].removesuffix(".py")


def is_standard_library(filename: str) -> bool:
    """Whether it belongs to the standard library, whose folder installed packages may lie in."""
    return filename.startswith(_STANDARD) and not is_installed(filename)


def is_beside(filename: str, folder: str) -> bool:
    """Whether it lies in a folder of the user's, at any depth, and is nobody else's."""
    if not filename.startswith(within(folder)) or filename.startswith("<"):
        return False
    return not (is_installed(filename) or is_standard_library(filename) or is_gradscope(filename))
