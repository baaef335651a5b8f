"""A loop through the tensors of one model that looks up, by their names, what it mixes them with: in the same model.

``for name, b in average.named_buffers(): kept[name].lerp_(b, 0.1)``, where ``kept = dict(average.named_buffers())``.
"""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import assigned_pairs, innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_WALKS = frozenset(("parameters", "named_parameters", "buffers", "named_buffers", "state_dict"))
_PARTS = frozenset(("items", "keys", "values"))
_WRAPS = frozenset(("dict", "OrderedDict", "list", "tuple", "sorted", "enumerate", "iter", "tqdm"))
_LOOKS_UP = frozenset(("get_buffer", "get_parameter", "getattr"))
_STEPS = 4
"""Names that are followed from one to the next."""


def walked_by_name(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of what gives the statement at a line one model for two; None where the text has two.

    It is the head of the loop around it; of a loop through names alone, what makes the dict that it takes values from.
    """
    tree = parsed(text)
    loop = innermost(tree, line, ast.For) if tree is not None else None
    if tree is None or not isinstance(loop, ast.For):
        return None
    scope = innermost(tree, line, *_CODE) or tree
    names = [node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)]
    walked = _owner(scope, loop.iter)
    if not names or walked is None:
        return None
    looked_up = [one for one in ast.walk(loop) if isinstance(one, ast.expr) and _is_look_up(one, names)]
    if {owner for one in looked_up if (owner := _owner_of_item(scope, one)) is not None} != {walked}:
        return None
    if len(names) > 1:
        return loop.lineno, loop.iter.end_lineno or loop.lineno
    dicts = {ast.unparse(one.value) for one in looked_up if isinstance(one, ast.Subscript)}
    made = [value for target, value in _assignments(scope) if target in dicts]
    return (made[-1].lineno, made[-1].end_lineno or made[-1].lineno) if len(dicts) == len(made) > 1 else None


def _owner(scope: ast.AST, value: ast.expr) -> str | None:
    """The model whose tensors an expression gives: ``net`` of ``dict(net.named_buffers())``."""
    for _ in range(_STEPS):
        called = value.func if isinstance(value, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in _WALKS:
            return ast.unparse(called.value)
        if isinstance(called, ast.Attribute) and called.attr in _PARTS:
            value = called.value
        elif isinstance(value, ast.Call) and value.args and last_name(value.func) in _WRAPS:
            value = value.args[0]
        elif isinstance(value, ast.Name):
            name = value.id
            given = [one for target, one in _assignments(scope) if target == name]
            if len(given) != 1:
                return None
            (value,) = given
        else:
            return None
    return None


def _assignments(scope: ast.AST) -> list[tuple[str, ast.expr]]:
    """The plain names that a function gives values, with these."""
    return [
        (target.id, value)
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign)
        for target, value in assigned_pairs(node)
        if isinstance(target, ast.Name)
    ]


def _is_look_up(value: ast.expr, names: list[str]) -> bool:
    """Whether an expression takes an item by a variable of the loop."""
    if isinstance(value, ast.Subscript):
        return isinstance(value.slice, ast.Name) and value.slice.id in names
    is_one = isinstance(value, ast.Call) and last_name(value.func) in _LOOKS_UP and bool(value.args)
    return is_one and isinstance(value, ast.Call) and getattr(value.args[-1], "id", "") in names


def _owner_of_item(scope: ast.AST, value: ast.expr) -> str | None:
    """The model in which an item is looked up."""
    if isinstance(value, ast.Subscript):
        return _owner(scope, value.value)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return ast.unparse(value.func.value)
    return ast.unparse(value.args[0]) if isinstance(value, ast.Call) else None
