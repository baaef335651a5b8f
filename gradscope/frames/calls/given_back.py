"""What a function of the text writes and then gives back as it is: ``self.obs += move; return self.obs``."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class GivenBack(NamedTuple):
    """A return."""

    line: int
    end_line: int
    function: str
    value: str
    """What it gives back, alone or with others."""


def given_back(text: str, names: Collection[str], written: int) -> GivenBack | None:
    """The return, of the function around a line or else of its class, of an attribute that is one of some names.

    Args:
        text: Source of the file.
        names: All names under which the one tensor was seen.
        written: The line, which writes it.

    Returns:
        None where there is none, or one of several.
    """
    tree = parsed(text)
    if tree is None:
        return None
    for kinds in (_FUNCTIONS, (ast.ClassDef,)):
        found = list(_returns(tree, innermost(tree, written, *kinds), names))
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _returns(tree: ast.Module, around: ast.stmt | None, names: Collection[str]) -> Iterator[GivenBack]:
    """The returns in a function or class that give back an attribute of some names."""
    for node in ast.walk(around) if around is not None else ():
        if isinstance(node, ast.Return) and node.value is not None:
            given = [ast.unparse(part) for part in _parts(node.value) if isinstance(part, ast.Attribute)]
            value = next((one for one in given if one in names), "")
            if value:
                function = getattr(innermost(tree, node.lineno, *_FUNCTIONS), "name", "")
                yield GivenBack(node.lineno, node.end_lineno or node.lineno, function, value)


def _parts(value: ast.expr) -> list[ast.expr]:
    if isinstance(value, ast.Dict):
        return value.values
    return value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
