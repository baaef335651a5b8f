"""Where ``python -m`` would find a module, without running it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

from gradscope.errors import TargetError


class FoundModule(NamedTuple):
    """The module that ``-m`` runs."""

    name: str
    """``pkg.__main__`` where a package was named."""
    path: str
    user_root: str


def locate_module(name: str) -> FoundModule:
    """Find a module as ``python -m`` does; its parent packages are imported when it is run, not here.

    Raises:
        TargetError: There is none, or it has no Python source.
    """
    folder = str(Path.cwd())
    path: list[str] | None = [folder, *sys.path]
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise TargetError(f"{name!r} is no module's name", "for a file, leave out -m")
    origin, locations = "", None
    for depth, part in enumerate(parts, 1):
        origin, locations = _find(".".join(parts[:depth]), part, path, name)
        path = locations
    if locations is not None:
        name += ".__main__"
        origin, _ = _find(name, "__main__", locations, name)
    if not origin.endswith(".py"):
        raise TargetError(f"the module {name} has no Python source", "only Python modules can be run")
    return FoundModule(name, origin, folder)


def _find(full_name: str, part: str, path: list[str] | None, wanted: str) -> tuple[str, list[str] | None]:
    """Origin of one module, and where its submodules are (None: it is no package)."""
    importlib.invalidate_caches()
    for finder in sys.meta_path:
        spec = finder.find_spec(full_name, path)
        if spec is not None:
            locations = spec.submodule_search_locations
            return spec.origin or "", None if locations is None else list(locations)
    if part == "__main__":
        package = wanted.removesuffix(".__main__")
        raise TargetError(f"the package {package} cannot be run", "it has no __main__.py")
    where = f" in {wanted}" if full_name != wanted else ""
    raise TargetError(f"no module named {full_name}{where}", "the current folder is searched first, as python -m does")
