"""Where the program makes modules of a class."""

from __future__ import annotations

import ast

from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed


def only_module(index: Index, name: str) -> tuple[int, int] | None:
    """File and line at which the user's files make a module of a class, where there is one such place alone."""
    found = places_of_modules(index, name)
    return found[0] if len(found) == 1 else None


def places_of_modules(index: Index, name: str) -> list[tuple[int, int]]:
    """Files and lines at which the user's files call a class by its name."""
    found = []
    for number, file in enumerate(index.recording.files):
        tree = parsed(file.text) if name and file.is_user and name in file.text else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called == name:
                    found.append((number, node.lineno))
    return found
