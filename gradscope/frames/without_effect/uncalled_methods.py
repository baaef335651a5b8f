"""Statements that name a method and do not call it: ``optimizer.zero_grad``."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_METHODS = frozenset(("zero_grad", "step", "backward", "eval", "train", "detach_", "requires_grad_"))


class Uncalled(NamedTuple):
    """One such statement."""

    line: int
    end_line: int
    source: str
    """``optimizer.zero_grad``."""
    method: str
    first: int
    """The first line of the block that it is in, and the last one."""
    last: int


def uncalled_methods(text: str) -> list[Uncalled]:
    """Those of a file, of methods that do something to what they belong to and are of no use unless called."""
    tree = parsed(text)
    found: list[Uncalled] = []
    for around in ast.walk(tree) if tree is not None else ():
        for field in ("body", "orelse", "finalbody"):
            block = getattr(around, field, None)
            if not isinstance(block, list):
                continue
            for node in block:
                value = node.value if isinstance(node, ast.Expr) else None
                if isinstance(value, ast.Attribute) and value.attr in _METHODS:
                    last = block[-1].end_lineno or block[-1].lineno
                    end = node.end_lineno or node.lineno
                    found.append(Uncalled(node.lineno, end, ast.unparse(value), value.attr, block[0].lineno, last))
    return found
