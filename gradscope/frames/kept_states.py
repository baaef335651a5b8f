"""Where a loop keeps ``x.state_dict()`` as it is, and a line after the loop loads it back into ``x``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_COPIES = ("deepcopy", "clone", "save", "dumps")


class KeptState(NamedTuple):
    """One such pair of lines."""

    line: int
    end_line: int
    owner: str
    """``optimizer``."""
    loaded: int
    """The line that loads it."""


def kept_states(text: str) -> list[KeptState]:
    """Those of a file in which nothing copies what is kept, as far as the statement shows."""
    tree = parsed(text)
    if tree is None or "state_dict" not in text:
        return []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loads = [(call, owner) for call in calls if (owner := _owner(call, "load_state_dict"))]
    found: dict[int, KeptState] = {}
    for loop in (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)):
        for node in ast.walk(loop):
            if not isinstance(node, ast.Assign) or len(node.targets) != 1:
                continue
            target = ast.unparse(node.targets[0])
            owners = [owner for one in _not_copied(node.value) if (owner := _owner(one, "state_dict"))]
            for load, owner in loads:
                is_after = load.lineno > (loop.end_lineno or 0)
                given = [ast.unparse(part) for argument in load.args for part in ast.walk(argument)]
                if is_after and owner in owners and target in given:
                    end = node.end_lineno or node.lineno
                    found[node.lineno] = KeptState(node.lineno, end, owner, load.lineno)
    return list(found.values())


def _not_copied(value: ast.AST) -> Iterator[ast.AST]:
    """The parts of what is kept, without those that a call or a comprehension copies."""
    is_call = isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in _COPIES
    is_each = isinstance(value, ast.DictComp | ast.ListComp) and any(f"{one}(" in ast.unparse(value) for one in _COPIES)
    if not is_call and not is_each:
        yield value
        for child in ast.iter_child_nodes(value):
            yield from _not_copied(child)


def _owner(node: ast.AST, method: str) -> str:
    """What a method is called on; empty where a node is no call of it."""
    function = node.func if isinstance(node, ast.Call) else None
    is_it = isinstance(function, ast.Attribute) and function.attr == method
    return ast.unparse(function.value) if isinstance(function, ast.Attribute) and is_it else ""
