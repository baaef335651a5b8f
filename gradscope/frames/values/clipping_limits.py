"""The limit that a call of a clipping function is given: the numbers that the text of the file has for it."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator

from gradscope.frames.syntax_trees import last_name, parsed

_LIMITS = ("max_norm", "clip_value", "max_grad_norm", "max", "min")
"""What the argument is called in torch's functions and in those of trainers that stand for them."""
_INFINITE = ("inf", "infty", "Infinity")


def clipping_limits(text: str, call: str) -> list[float]:
    """The numbers that the limit of a call may be; empty where the text tells none.

    Args:
        text: Source of the file.
        call: Source of the call: ``clip_grad_norm_(net.parameters(), self.limit)``.
    """
    tree = parsed(text)
    try:
        node = ast.parse(call.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return []
    given = next((one for one in ast.walk(node) if isinstance(one, ast.Call)), None)
    if tree is None or given is None:
        return []
    limit = next((word.value for word in given.keywords if word.arg in _LIMITS), None)
    if limit is None and given.args:
        limit = given.args[-1 if len(given.args) < 2 else 1]
    if limit is None:
        return []
    if (number := _number(limit)) is not None:
        return [number]
    name = last_name(limit)
    values = _values_of(tree, name) if name else ()
    return [number for value in values if (number := _number(value)) is not None]


def _number(value: ast.expr) -> float | None:
    """A number as the source writes it: ``5.0``, ``float("inf")``, ``math.inf``."""
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        inner = _number(value.operand)
        return None if inner is None else -inner
    if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
        return float(value.value)
    is_float = isinstance(value, ast.Call) and last_name(value.func) == "float" and len(value.args) == 1
    if is_float and isinstance(value, ast.Call) and isinstance(value.args[0], ast.Constant):
        return math.inf if str(value.args[0].value).lower().startswith("inf") else None
    return math.inf if last_name(value) in _INFINITE else None


def _values_of(tree: ast.Module, name: str) -> Iterator[ast.expr]:
    """Whatever the file gives a name: by assignment, as a default, as a keyword, under a key of a dict."""
    for node in ast.walk(tree):
        is_assigned = isinstance(node, ast.Assign) and name in map(last_name, node.targets)
        if isinstance(node, ast.Assign | ast.keyword) and (is_assigned or getattr(node, "arg", None) == name):
            yield node.value
        elif isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            pairs = [
                *zip(positional[len(positional) - len(node.defaults) :], node.defaults, strict=True),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            ]
            yield from (value for argument, value in pairs if argument.arg == name and value is not None)
