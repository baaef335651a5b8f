"""What a client may name: files below the folders that the user allowed, built-in scenarios, and plain expressions."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import NamedTuple

from gradscope.errors import TargetError, UsageError
from gradscope.targets.scenarios import scenario_names

_PLAIN = (
    ast.Expression,
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Slice,
    ast.Tuple,
    ast.Constant,
    ast.UnaryOp,
    ast.USub,
    ast.Load,
)
"""What names a tensor and calls nothing."""
_CONDITION = re.compile(r"\s+is\s+\w+\s*\Z")


class Named(NamedTuple):
    """A file or a scenario, as a command is given it."""

    folder: Path
    """Where the command is run."""
    name: str


class Allowed:
    """The folders that the user allowed.

    Args:
        folders: Existing folders; what lies below one may be named, links followed.
        any_code: Whether code may be given as text, not only files.
    """

    def __init__(self, folders: tuple[Path, ...], *, any_code: bool) -> None:
        self.folders = tuple(folder.resolve() for folder in folders)
        self.any_code = any_code

    def target(self, text: str) -> Named:
        """A program: ``train.py``, ``train.py::cell``, a scenario's name.

        Raises:
            TargetError: There is none of that name, or it lies elsewhere.
        """
        name, separator, part = text.partition("::")
        if not name or name == "-":
            raise TargetError(f"{text!r} names no program", "name a file, or a built-in scenario")
        found = self._found(name)
        if found is None:
            if name in scenario_names():
                return Named(self.folders[0], text)
            raise TargetError(f"no such file or built-in scenario: {name}", f"files are looked for in {self._said()}")
        return Named(found.folder, found.name + separator + part)

    def file(self, name: str) -> Path:
        """A file.

        Raises:
            TargetError: There is none of that name, or it lies elsewhere.
        """
        found = self._found(name)
        if found is None:
            raise TargetError(f"no such file: {name}", f"files are looked for in {self._said()}")
        return found.folder / found.name

    def expression(self, text: str) -> str:
        """An expression of ``why``: it is evaluated in the program, so one that could call something is code.

        Raises:
            UsageError: Only plain ones are allowed.
        """
        if not self.any_code and text.strip() and not _is_plain(_CONDITION.sub("", text)):
            raise UsageError(
                f"{text!r} is more than the name of a tensor",
                "name one: x, x.grad, model.layers[0].weight.grad; gradscope mcp --allow-code allows any expression",
            )
        return text

    def _found(self, name: str) -> Named | None:
        is_elsewhere = False
        for folder in self.folders:
            path = Path(os.path.normpath(folder / name))
            try:
                real = path.resolve(strict=True)
            except (OSError, ValueError, RuntimeError):  # none of that name; a zero byte in it; links in a circle
                continue
            if any(real.is_relative_to(allowed) for allowed in self.folders):
                return Named(folder, os.path.relpath(path, folder))
            is_elsewhere = True
        if is_elsewhere:
            raise TargetError(f"{name} lies outside of what was allowed", f"allowed: {self._said()}")
        return None

    def _said(self) -> str:
        return ", ".join(map(str, self.folders))


def _is_plain(text: str) -> bool:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True  # said by the command itself, which evaluates none
    return all(isinstance(node, _PLAIN) for node in ast.walk(tree))
