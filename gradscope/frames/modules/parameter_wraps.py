"""Where a file's text makes a parameter of something: ``self.weight = nn.Parameter(flat[:12])``.

An ``nn.ParameterDict`` or ``nn.ParameterList`` makes one of each tensor that is put into it: ``fast[name] = w - g``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed


class ParameterWrap(NamedTuple):
    """A statement that calls ``nn.Parameter``."""

    line: int
    end_line: int
    function: str
    """The function that it is in; empty at the top level."""
    attributes: frozenset[str]
    """What it names: the last parts of its targets, or the text given to ``register_parameter`` and ``setattr``."""
    is_of_new: bool
    """Whether it wraps what a function of torch's gives right there: ``nn.Parameter(torch.zeros(3))``."""
    by: str = "Parameter"
    """What makes the parameter: ``ParameterDict`` where it is put into one."""
    begun: int = 0
    """The line of the same function that makes that, empty; 0 where it is another."""


_LISTS = ("ParameterDict", "ParameterList")
_PUTS = ("append", "extend", "update", "setdefault")


def parameter_wraps(text: str) -> list[ParameterWrap]:
    """All of a file, in no order; of a compound statement those within it."""
    tree = parsed(text) if "Parameter(" in text or any(one in text for one in _LISTS) else None
    return [] if tree is None else [*_within(tree, ""), *_put_in_lists(tree)]


def _put_in_lists(tree: ast.Module) -> Iterator[ParameterWrap]:
    """The statements that put something into a list or dict of parameters, or make one of something."""
    made: dict[str, list[tuple[ast.Assign, str]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and last_name(node.value.func) in _LISTS:
            for target in node.targets:
                made.setdefault(ast.unparse(target), []).append((node, last_name(node.value.func)))
    for function in (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)):
        for node in ast.walk(function):
            holder, values = _put(node)
            by = {kind for _, kind in made.get(holder, ())}
            calls = [] if not isinstance(node, ast.Assign | ast.Return) else [node.value]
            for call in (one for one in calls if isinstance(one, ast.Call) and last_name(one.func) in _LISTS):
                by, values = {last_name(call.func)}, call.args
            if len(by) == 1 and values and isinstance(node, ast.stmt):
                inside = [one.lineno for one, _ in made.get(holder, ()) if one in ast.walk(function)]
                begun = inside[0] if len(inside) == 1 and inside[0] < node.lineno else 0
                line, end = node.lineno, node.end_lineno or node.lineno
                is_of_new = all(_is_new(value) for value in values)
                yield ParameterWrap(line, end, function.name, frozenset(), is_of_new, by.pop(), begun)


def _put(node: ast.AST) -> tuple[str, list[ast.expr]]:
    """What a statement puts something into, and what it puts there."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        return ast.unparse(node.targets[0].value), [node.value]
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _PUTS:
        return ast.unparse(call.func.value), call.args
    return "", []


def _is_new(value: ast.expr) -> bool:
    """Whether no part of a value is a name that may be a tensor: ``torch.randn(3, 1) * 0.5``."""
    if isinstance(value, ast.Dict | ast.List | ast.Tuple):
        return all(_is_new(one) for one in (value.values if isinstance(value, ast.Dict) else value.elts))
    calls = [one for one in ast.walk(value) if isinstance(one, ast.Call)]
    return any(
        isinstance(one.func, ast.Attribute) and last_name(one.func.value) == "torch" for one in calls
    ) and not any(isinstance(one, ast.Subscript) for one in ast.walk(value))


def _within(node: ast.AST, function: str) -> Iterator[ParameterWrap]:
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(child, ast.Assign | ast.Expr | ast.Return):
            wraps = [one for one in ast.walk(child) if isinstance(one, ast.Call) and last_name(one.func) == "Parameter"]
            if wraps:
                is_of_new = all(_is_of_torch(one) for one in wraps)
                line, end = child.lineno, child.end_lineno or child.lineno
                yield ParameterWrap(line, end, function, frozenset(_attributes(child)), is_of_new)
        else:
            yield from _within(child, inside)


def _attributes(statement: ast.Assign | ast.Expr | ast.Return) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    for target in targets:
        several = target.elts if isinstance(target, ast.Tuple) else [target]
        yield from filter(None, map(last_name, several))
    call = statement.value
    if isinstance(call, ast.Call) and last_name(call.func) in ("register_parameter", "setattr"):
        yield from (one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _is_of_torch(wrap: ast.Call) -> bool:
    value = wrap.args[0] if wrap.args else None
    func = value.func if isinstance(value, ast.Call) else None
    return isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id == "torch"
