"""Statements that give two layers one weight, and those that put another there: what the text of a file tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed


class Tie(NamedTuple):
    """``self.head.weight = self.embed.weight``."""

    line: int
    end_line: int
    to: str
    """``head``: the path of what is given the other's weight."""
    of: str
    """``embed``."""
    part: str
    """``weight``."""
    own: tuple[int, ...]
    """Lines that assign ``self.head`` itself: its weight before."""


class TieReplaced(NamedTuple):
    """``model.embed = nn.Embedding(…)``, ``self.embed.weight = nn.Parameter(…)``."""

    line: int
    end_line: int
    target: str


def ties(text: str) -> list[Tie]:
    """Every tie of a file, between two parts of one object."""
    found = []
    assigned = list(_assigned(text))
    for node, target in assigned:
        to, of = _path(target), _path(node.value)
        if len(to) < 3 or len(of) < 3 or to[0] != of[0] or to[-1] != of[-1] or to == of:
            continue
        layer, where = ".".join(to[:-1]), _function_around(text, node.lineno)
        own = tuple(
            line
            for other, left in assigned
            if ast.unparse(left) == layer and _function_around(text, other.lineno) == where
            for line in range(other.lineno, (other.end_lineno or other.lineno) + 1)
        )
        found.append(
            Tie(node.lineno, node.end_lineno or node.lineno, ".".join(to[1:-1]), ".".join(of[1:-1]), to[-1], own)
        )
    return found


def replaced(text: str, tie: Tie) -> list[TieReplaced]:
    """The other statements that give either side of a tie another layer or another weight; none where they are not of
    one function.

    The first assignment of each layer, in a class's ``__init__``, is where it is made, and no such statement.
    """
    wanted = {(*side.split("."), *rest) for side in (tie.to, tie.of) for rest in ((), (tie.part,))}
    found = []
    tree = parsed(text)
    inits = [
        (node.lineno, node.end_lineno or 0)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    for node, target in _assigned(text):
        path = _path(target)
        is_layer = bool(path) and path[-1] != tie.part
        is_made = is_layer and any(first <= node.lineno <= last for first, last in inits)
        is_side = any(path[1:][-len(side) :] == side for side in wanted)
        if is_side and node.lineno != tie.line and not is_made and len(_path(node.value)) < 2:
            found.append(TieReplaced(node.lineno, node.end_lineno or node.lineno, ast.unparse(target)))
    functions = {_function_around(text, one.line) for one in found}
    is_one = len(found) == 1 or (len(functions) == 1 and None not in functions)
    return sorted(found) if is_one else []


def _function_around(text: str, line: int) -> int | None:
    """The line of the innermost function around a line; None outside of functions."""
    tree = parsed(text)
    node = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    return node.lineno if node is not None else None


def _assigned(text: str) -> Iterator[tuple[ast.Assign, ast.expr]]:
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from ((node, part) for part in (target.elts if isinstance(target, ast.Tuple) else [target]))


def _path(value: ast.expr) -> tuple[str, ...]:
    """``("self", "head", "weight")``; empty for what is no chain of attributes of a name."""
    parts: list[str] = []
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return (value.id, *reversed(parts)) if isinstance(value, ast.Name) else ()
