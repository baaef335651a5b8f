"""Starting to observe at the moment when the program has imported torch.

Importing torch for the program would cost two seconds where it needs none, and would come before what the program sets
up for it (environment variables that torch reads when it is loaded).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from gradscope import collector
from gradscope.frames.replacements import Replacement

NAME = "torch"


class TorchImport:
    """Calls back once when torch has been imported; at once where it is there already."""

    def __init__(self, imported: Callable[[], None]) -> None:
        self._imported = imported

    def install(self) -> None:
        """Begin to wait for the import."""
        if NAME in sys.modules:
            self._imported()
        else:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find torch as the other finders do, with a loader that calls back afterwards, once."""
        if name != NAME:
            return None
        spec = next((spec for spec in (_ask(finder, name, path, target) for finder in self._others()) if spec), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _others(self) -> list[Any]:
        return [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]

    def _follow(self, loader: Any) -> None:
        def calling_back(load: Callable[[ModuleType], object]) -> Callable[[ModuleType], None]:
            def exec_module(module: ModuleType) -> None:
                replaced.put_back()
                with collector.resting(grown_old=True):  # a tenth of the time that it takes to import torch
                    load(module)
                self.remove()
                self._imported()

            return exec_module

        replaced = Replacement(loader, "exec_module", calling_back)


def _ask(finder: Any, name: str, path: Any, target: Any) -> ModuleSpec | None:
    spec: ModuleSpec | None = finder.find_spec(name, path, target)
    return spec
