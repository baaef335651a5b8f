"""The function around a line as the rest of its file sees it: a point that others call, and where they call it."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed


class HookPoint(NamedTuple):
    """A function, and the one place where it is called."""

    name: str
    line: int
    """Of its ``def``."""
    is_interface: bool
    """Whether others have it too, or it is called by its name as text: the name decides when it runs."""
    call: tuple[int, int] | None
    """First and last line of the only call; None where there are several, or none."""


def hook_point(text: str, line: int) -> HookPoint | None:
    """The function around a line of a file; None where there is none."""
    tree = parsed(text)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    if tree is None or not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    inside = {id(node) for node in ast.walk(function)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in inside]
    direct = [node for node in calls if ast.unparse(node.func).rpartition(".")[2] == function.name]
    by_text = [
        node for node in calls if any(isinstance(one, ast.Constant) and one.value == function.name for one in node.args)
    ]
    alike = sum(getattr(node, "name", "") == function.name for node in ast.walk(tree))
    found = direct or by_text
    call = (found[0].lineno, found[0].end_lineno or found[0].lineno) if len(found) == 1 else None
    return HookPoint(function.name, function.lineno, alike > 1 or (bool(by_text) and not direct), call)
