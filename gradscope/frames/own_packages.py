"""Whose a file is beyond the user's folder: packages that the user names, the project's own, and what is being edited.

A library that was installed so that its source can be edited is its developers' own code, and so is what lies in the
project of the target: ``src/`` beside ``scripts/``. What is found of the disk is kept. Imports no torch.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

from gradscope.errors import UsageError
from gradscope.frames.whose_file import is_beside, is_installed, is_standard_library, within

_MARKS = ("pyproject.toml", "setup.py", "setup.cfg")
"""Files of which a project's folder has one."""
_NEVER = ("torch", "gradscope")
"""Packages whose code is what it is: torch's is one call with its effects."""


class NamedPackages(NamedTuple):
    """Packages of which the user says whose they are."""

    include: tuple[str, ...] = ()
    """The user's own."""
    exclude: tuple[str, ...] = ()
    """Libraries."""


NO_PACKAGES = NamedPackages()
"""None are named."""


def named_packages(include: Iterable[str], exclude: Iterable[str]) -> NamedPackages:
    """What ``--include`` and ``--exclude`` name, several with commas between.

    Raises:
        UsageError: Something is no package's name, or is asked for both ways.
    """
    found = [tuple(dict.fromkeys(_names(option, given))) for option, given in (("in", include), ("ex", exclude))]
    if both := set(found[0]) & set(found[1]):
        raise UsageError(f"{', '.join(sorted(both))} cannot be one's own and a library", "include it or exclude it")
    return NamedPackages(*found)


def _names(option: str, given: Iterable[str]) -> Iterator[str]:
    for name in (name.strip() for text in given for name in text.split(",")):
        if not name or not all(part.isidentifier() for part in name.split(".")):
            raise UsageError(f"--{option}clude {name!r} is no package's name", "as it is imported: package.part")
        if option == "in" and name.partition(".")[0] in _NEVER:
            raise UsageError(f"--include {name}: its code is never shown as one's own")
        yield name


def is_own(filename: str, folder: str, packages: NamedPackages) -> bool:
    """Whether a file's code is the user's, beyond the target itself.

    Args:
        filename: As code objects have it.
        folder: The user's: what lies in it is one's own, and the project that it belongs to.
        packages: Those that the user has named; they decide first, the longer name where several would.
    """
    said = [(len(name), True) for name in packages.include if filename.startswith(_places(name))]
    said += [(len(name), False) for name in packages.exclude if filename.startswith(_places(name))]
    if said:
        return max(said)[1]
    if is_beside(filename, folder):
        return True
    project = project_of(folder)
    if project and is_beside(filename, project):
        return True
    if filename.startswith("<") or is_installed(filename) or is_standard_library(filename):
        return False  # which is known without a look at the disk
    return any(is_beside(filename, edited) for edited in edited_folders())


@cache
def project_of(folder: str) -> str:
    """The nearest folder upwards that is a project's; empty where there is none."""
    here = Path(folder)
    for found in (here, *here.parents):
        if found in (Path.home(), Path(found.anchor)):
            return ""
        if any((found / mark).is_file() for mark in _MARKS):
            return str(found)
    return ""


@cache
def edited_folders() -> tuple[str, ...]:
    """Where the source of packages lies that were installed to be edited: ``pip install -e``."""
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return tuple(sorted(found for folder in installed for found in _edited_in(folder)))


def _edited_in(folder: str) -> Iterator[str]:
    import json  # here, as few programs come to this
    from urllib.parse import unquote, urlsplit

    try:
        entries = [entry.path for entry in os.scandir(folder)]
    except OSError:
        return
    for path in entries:
        try:
            if path.endswith(".dist-info"):
                told = json.loads(Path(path, "direct_url.json").read_bytes())
                url = urlsplit(told["url"])
                if url.scheme == "file" and told["dir_info"]["editable"] is True:
                    yield unquote(url.path)
            elif path.endswith(".egg-link"):
                yield Path(path).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it was installed as others are


_found: dict[str, tuple[str, ...]] = {}
"""Where packages lie that were found."""


def _places(package: str) -> tuple[str, ...]:
    """What the names of a package's files begin with; nothing where it is not found (yet)."""
    places = _found.get(package, ())
    if not places:
        places = tuple(_look_for(package))
        if places:
            _found[package] = places
    return places


def _look_for(package: str) -> Iterator[str]:
    """A package that is imported is where it says; another is where Python would find it. None is imported here."""
    module = sys.modules.get(package)
    if module is not None:
        folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        folders, file = _would_be(package)
    if folders is not None:
        yield from within(*map(str, folders))
    elif isinstance(file, str):
        yield file


def _would_be(package: str) -> tuple[list[str] | None, str | None]:
    top, *inner = package.split(".")
    path: list[str] | None = None
    spec = None
    for name in (top, *inner):
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None, None
        path = list(spec.submodule_search_locations or ())
    is_package = spec is not None and spec.submodule_search_locations is not None
    return (path, None) if is_package else (None, spec.origin if spec else None)
