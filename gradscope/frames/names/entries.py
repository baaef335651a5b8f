"""Where a text puts something under a key, or an attribute, into what is then handed on as a whole: an entry of a log.

``log = {"loss": loss}``, ``dict(loss=loss)``, ``log["loss"] = loss``, ``log.update(loss=loss)``, ``Output(loss=loss)``,
``out.loss = loss``. What the text shows to have no graph is none.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.names.put_statements import last_part, parts_with_graphs
from gradscope.frames.syntax_trees import dotted_name, parsed

_SHOWS = ("print", "float", "int", "str", "round", "format", "log", "info", "add_scalar", "set_postfix")
_GRAPHLESS = ("item", "detach", "data", "tolist", "numpy", "cpu")
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class LogEntry(NamedTuple):
    """One key and its value."""

    line: int
    end_line: int
    """Of the value."""
    names: tuple[str, ...]
    """What is put there as it is, by its names."""
    function: str
    """The function around it; empty for none."""


def entries_of(text: str, key: str, names: Collection[str], lines: Collection[int]) -> list[LogEntry]:
    """The entries of a key that hold what is called so, or what some lines made right there."""
    return [
        one
        for one in _entries(text, key)
        if not set(names).isdisjoint(one.names) or any(one.line <= line <= one.end_line for line in lines)
    ]


@lru_cache(maxsize=64)
def _entries(text: str, key: str) -> tuple[LogEntry, ...]:
    tree = parsed(text) if key in text else None
    todo: list[tuple[ast.AST, str]] = [(tree, "")] if tree is not None else []
    found = []
    while todo:
        node, function = todo.pop()
        for value in _values(node, key):
            parts = list(parts_with_graphs(value))
            if parts:
                names = tuple(filter(None, map(dotted_name, parts)))
                found.append(LogEntry(value.lineno, value.end_lineno or value.lineno, names, function))
        inside = getattr(node, "name", "<lambda>") if isinstance(node, _CODE) else function
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]
    return tuple(sorted(found))


def _values(node: ast.AST, key: str) -> Iterator[ast.expr]:
    """What a node puts under a key."""
    if isinstance(node, ast.Dict):
        yield from (
            value
            for name, value in zip(node.keys, node.values, strict=True)
            if isinstance(name, ast.Constant) and name.value == key
        )
    elif isinstance(node, ast.Call):
        called = last_part(dotted_name(node.func))
        if called in ("dict", "update", "SimpleNamespace") or called[:1].isupper():
            yield from (one.value for one in node.keywords if one.arg == key)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            is_item = isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant)
            if (is_item and target.slice.value == key) or (isinstance(target, ast.Attribute) and target.attr == key):  # type: ignore[attr-defined]
                yield node.value


class Read(NamedTuple):
    """A place that takes something out of what it is an entry of, as it is."""

    line: int
    end_line: int
    goes_on: bool
    """It is given a name, or given to others: what becomes of it there is not looked at."""


def reads_of(text: str, key: str) -> list[Read]:
    """The reads of a key, or of an attribute, that take what is there with its graph."""
    tree = parsed(text) if key in text else None
    if tree is None:
        return []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = (_read(node, parents) for node in ast.walk(tree) if _is_read(node, key, parents))
    return [one for one in found if one is not None]


def _is_read(node: ast.AST, key: str, parents: dict[ast.AST, ast.AST]) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Constant) and node.slice.value == key
    if isinstance(node, ast.Attribute):
        parent = parents.get(node)
        is_called = isinstance(parent, ast.Call) and parent.func is node
        return isinstance(node.ctx, ast.Load) and node.attr == key and not is_called
    is_asked = isinstance(node, ast.Call) and last_part(dotted_name(node.func)) in ("get", "pop")
    return is_asked and any(isinstance(one, ast.Constant) and one.value == key for one in node.args)  # type: ignore[attr-defined]


def _read(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Read | None:
    """One read, by what is done with it; None where that has no graph."""
    goes_on = True
    while (parent := parents.get(node)) is not None and not isinstance(parent, ast.stmt):
        if isinstance(parent, ast.FormattedValue) or (isinstance(parent, ast.Attribute) and parent.attr in _GRAPHLESS):
            return None
        if isinstance(parent, ast.Call):
            called = last_part(dotted_name(parent.func))
            if called in _SHOWS:
                return None
            goes_on = goes_on and not dotted_name(parent.func).startswith(("torch.", "sum", "F.", "max", "min"))
        goes_on = goes_on and not isinstance(parent, ast.BinOp | ast.GeneratorExp | ast.ListComp)
        node = parent
    line = getattr(node, "lineno", 0)
    is_unused = isinstance(parent, ast.Expr | ast.If | ast.While | ast.Assert) and not isinstance(node, ast.Call)
    return Read(line, getattr(node, "end_lineno", None) or line, goes_on and not is_unused)
