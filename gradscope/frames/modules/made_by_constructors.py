"""The call that has a constructor make something, as far as the text of a file shows one alone."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.names.put_on_objects import called_once
from gradscope.frames.syntax_trees import innermost, parsed

_DEEP = 4
"""Constructors that call one another."""


class Construction(NamedTuple):
    """The call of a class from outside of constructors."""

    name: str
    """The class; empty where the line is in no constructor, and is the construction itself."""
    line: int
    end_line: int


def construction(text: str, line: int) -> Construction | None:
    """The call that ran a line, if that is in a constructor; None where there is no call of the class, or several."""
    name, first, last = "", line, line
    tree = parsed(text)
    for _ in range(_DEEP):
        function = None if tree is None else innermost(tree, first, ast.FunctionDef)
        owner = None if tree is None else innermost(tree, first, ast.ClassDef)
        if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
            return Construction(name, first, last)
        called = called_once(text, first)
        if called is None or not isinstance(owner, ast.ClassDef):
            return None
        name, (first, last) = owner.name, called
    return None
