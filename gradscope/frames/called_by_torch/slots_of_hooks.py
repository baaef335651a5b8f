"""Places in which a forward hook keeps what its module was given or gave, and a backward hook of the module reads it.

``module.inp = args[0]`` and ``module.inp``, ``kept[name] = out`` and ``kept[name]``: one place for all calls of a
module. A list to which is appended is none, nor is a place whose index changes from call to call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_OF_SHAPE = ("shape", "size", "dtype", "device", "dim", "ndim", "numel", "requires_grad", "training")
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)


class SlotOfHooks(NamedTuple):
    """One such place."""

    place: str
    """What the forward hook calls it."""
    kept: tuple[int, int]
    """First and last line of what puts something there."""
    read: tuple[int, int]


def slot_of_hooks(forward: tuple[str, int], backward: tuple[str, int]) -> SlotOfHooks | None:
    """The first place of two hooks, each by the text of its file and the first line of its code; None for none."""
    kept_by, read_by = _function(*forward), _function(*backward)
    if kept_by is None or read_by is None:
        return None
    modules = (_first(kept_by), _first(read_by))
    changed = {_text(one, modules[1]) for one in _stores(read_by)}
    reads = {
        _text(node, modules[1]): (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(read_by)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Load)
    }
    if any(isinstance(node, ast.If) and _asks_whether_kept(node.test) for node in ast.walk(kept_by)):
        return None
    changed |= {_text(node.target, modules[0]) for node in ast.walk(kept_by) if isinstance(node, ast.AugAssign)}
    given = {one.arg for one in kept_by.args.args} - {modules[0], "self"}
    for node in ast.walk(kept_by):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(node, ast.Assign) or not isinstance(target, ast.Attribute | ast.Subscript):
            continue
        place = _text(target, modules[0])
        parts = {_text(part, modules[0]) for part in ast.walk(target) if isinstance(part, ast.expr)}
        names = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
        is_list = any(_text(part, modules[0]) == place for part in ast.walk(node.value) if isinstance(part, ast.expr))
        if (
            place in reads
            and names & given
            and not is_list
            and not _is_of_shape(node.value)
            and parts.isdisjoint(changed)
        ):
            return SlotOfHooks(ast.unparse(target), (node.lineno, node.end_lineno or node.lineno), reads[place])
    return None


def _is_of_shape(value: ast.expr) -> bool:
    """Whether a value is a number or a shape, which calls have in common."""
    return any(
        (isinstance(part, ast.Attribute) and part.attr in _OF_SHAPE)
        or (isinstance(part, ast.Name) and part.id == "len")
        for part in ast.walk(value)
    )


def _function(text: str, line: int) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    tree = parsed(text)
    found = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, _CODE) and min([node.lineno, *(one.lineno for one in node.decorator_list)]) == line
    ]
    return found[0] if len(found) == 1 else None


def _first(function: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The name by which a hook has its module."""
    names = [one.arg for one in function.args.args if one.arg not in ("self", "cls")]
    return names[0] if names else ""


def _text(node: ast.expr, module: str) -> str:
    """An expression with one name for the module, whatever the hook calls it."""
    return " ".join(
        "<module>" if isinstance(part, ast.Name) and part.id == module else _of(part) for part in ast.walk(node)
    )


def _of(part: ast.AST) -> str:
    if isinstance(part, ast.Name):
        return part.id
    if isinstance(part, ast.Attribute):
        return f".{part.attr}"
    return "" if isinstance(part, ast.expr_context) else ast.unparse(part) if isinstance(part, ast.Constant) else "_"


def _stores(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    """What a function gives a value: a name, an attribute, an item."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield node


def _asks_whether_kept(test: ast.expr) -> bool:
    """``if name not in kept``, ``if not hasattr(module, "inp")``: only the first is kept."""
    return any(
        (isinstance(part, ast.Compare) and any(isinstance(one, ast.In | ast.NotIn | ast.Is) for one in part.ops))
        or (isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "hasattr")
        for part in ast.walk(test)
    )
