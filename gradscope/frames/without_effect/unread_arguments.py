"""Arguments that a function is given and never reads, as the text has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed

_BY_NAME = re.compile(r"locals\(|exec\(|eval\(|NotImplementedError|abstractmethod|overload")
"""What reaches arguments otherwise than by writing them, or has none to reach."""


class Unread(NamedTuple):
    """An argument of a function, and what a call gives for it."""

    function: str
    line: int
    """Of its ``def``."""
    argument: str
    given: str
    """The name that the call has for it."""
    first_line: int
    last_line: int
    """Of the call."""


def unread_arguments(text: str, line: int) -> Iterator[Unread]:
    """Those of the function around a line, for each call of it in the same text that gives it a plain name."""
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    if tree is None or not isinstance(function, ast.FunctionDef):
        return
    if _BY_NAME.search(ast.get_source_segment(text, function) or "") or function.args.vararg or function.decorator_list:
        return
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    is_method = bool(names) and names[0] in ("self", "cls")
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    unread = [name for name in names if name not in read and not name.startswith("_") and name not in ("self", "cls")]
    called = function.name if function.name != "forward" else ""
    for call in ast.walk(tree) if unread and called else ():
        func = call.func if isinstance(call, ast.Call) else None
        own = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
        if not isinstance(call, ast.Call) or own != called:
            continue
        given = dict(zip(names[is_method:], call.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
        for name in unread:
            value = given.get(name)
            if isinstance(value, ast.Name | ast.Attribute):
                last = call.end_lineno or call.lineno
                yield Unread(function.name, function.lineno, name, ast.unparse(value), call.lineno, last)
