"""A list or dict that is the default of an argument: made once, when the ``def`` is run, and the same for all calls."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DISPLAYS = (ast.List, ast.Dict, ast.Set)
_MAKERS = ("list", "dict", "set", "deque", "defaultdict", "OrderedDict", "Counter")


class ListDefault(NamedTuple):
    """One such default."""

    name: str
    """The argument."""
    line: int
    end_line: int
    function: str


def list_default(text: str, line: int, name: str) -> ListDefault | None:
    """The default that a name has at a line: of the function around it, which no call of the text gives another.

    None too where the function gives the name another value, as in ``rows = list(rows)``.
    """
    tree = parsed(text)
    around = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, _FUNCTIONS) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if tree is None or not around:
        return None
    function = max(around, key=lambda node: node.lineno)
    given = _defaults(function).get(name)
    stored = {one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    if given is None or name in stored or not _is_list(given[1]):
        return None
    position, value = given
    if any(_gives(call, name, position) for call in ast.walk(tree) if _calls(call, function.name)):
        return None
    return ListDefault(name, value.lineno, value.end_lineno or value.lineno, function.name)


def _defaults(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, tuple[int, ast.expr]]:
    """Of each argument with a default: its position in a call (of a method: without the object), and the default."""
    positional = [*function.args.posonlyargs, *function.args.args]
    is_method = bool(positional) and positional[0].arg in ("self", "cls")
    pairs = [*zip(positional[::-1], function.args.defaults[::-1], strict=False)]
    found = {one.arg: (positional.index(one) - is_method, value) for one, value in pairs}
    keywords = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return found | {one.arg: (len(positional), value) for one, value in keywords if value is not None}


def _is_list(value: ast.expr) -> bool:
    return isinstance(value, _DISPLAYS) or (isinstance(value, ast.Call) and last_name(value.func) in _MAKERS)


def _calls(node: ast.AST, name: str) -> bool:
    """Whether a node calls what is called so; ``module(x)`` may be a call of ``forward``, as any other may be."""
    if not isinstance(node, ast.Call):
        return False
    return last_name(node.func) == name or (name in ("forward", "__call__", "__init__"))


def _gives(node: ast.AST, name: str, position: int) -> bool:
    if not isinstance(node, ast.Call):
        return False
    is_starred = any(isinstance(one, ast.Starred) for one in node.args)
    return is_starred or len(node.args) > position or any(one.arg in (None, name) for one in node.keywords)
