"""Hooks that a loop registers and that read a variable of the loop: when they run, it has its last value.

``for p, mask in pairs: p.register_hook(lambda grad: grad * mask)``. Python looks the name up when the hook runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.called_by_torch.changing_names import names_read
from gradscope.frames.called_by_torch.late_loop_variables import read_late
from gradscope.frames.syntax_trees import parsed

_REGISTERS = re.compile(r"register_\w*hook")
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.AsyncFor)


class LateHook(NamedTuple):
    """One call that registers such a hook."""

    line: int
    end_line: int
    names: tuple[str, ...]
    """The variables of the loop that the hook reads."""


@lru_cache(maxsize=16)
def late_hooks(text: str) -> tuple[LateHook, ...]:
    """Those of a file."""
    tree = parsed(text) if "register_" in text else None
    return () if tree is None else tuple(_within(tree, []))


def _within(node: ast.AST, loops: list[ast.AST]) -> Iterator[LateHook]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and loops and child.args and _registers(child):
            # (of loops within loops the variables of the outer ones change, too)
            names = [name for loop in loops for name in read_late(child.args[0], loop) if _is_set_anew(loop, name)]
            if names:
                yield LateHook(child.lineno, child.end_lineno or child.lineno, tuple(dict.fromkeys(names)))
        inside = [] if isinstance(child, _CODE) else [*loops, child] if isinstance(child, _LOOPS) else loops
        yield from _within(child, inside)


def _is_set_anew(loop: ast.AST, name: str) -> bool:
    """Whether a loop gives a name another value in each round: a sum, which grows, may be meant as it is at the end."""
    growing: list[ast.expr] = [one.target for one in ast.walk(loop) if isinstance(one, ast.AugAssign)]
    for one in ast.walk(loop):
        if isinstance(one, ast.Assign) and name in names_read(one.value):
            growing += one.targets
    return name not in {part.id for one in growing for part in ast.walk(one) if isinstance(part, ast.Name)}


def _registers(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and bool(_REGISTERS.fullmatch(call.func.attr))
