"""What the text of a program makes and never reads: layers on ``self``, local names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import NamedTuple

from gradscope.frames.syntax_trees import bases_of, innermost, parsed

_BY_NAME = re.compile(r"getattr|_modules|children\(|modules\(|__dict__|vars\(|state_dict|register_module|locals\(")
"""What reaches attributes or names otherwise than by writing them."""
_BASES = ("nn.Module", "Module", "torch.nn.Module")


def unread_attribute(text: str, line: int, texts: Iterable[str]) -> str:
    """The attribute that a statement of ``__init__`` stores on ``self`` and that no file reads; empty for none.

    Only of classes that come from ``nn.Module`` alone and reach no attribute by its name.
    """
    tree = parsed(text)
    owner = innermost(tree, line, ast.ClassDef) if tree is not None else None
    if tree is None or not isinstance(owner, ast.ClassDef) or bases_of(tree, owner) not in [[base] for base in _BASES]:
        return ""
    stored = [
        node.targets[0].attr
        for node in ast.walk(owner)
        if isinstance(node, ast.Assign)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Attribute)
        and ast.unparse(node.targets[0].value) == "self"
    ]
    is_reached = _BY_NAME.search(ast.get_source_segment(text, owner) or "") is not None
    if len(stored) != 1 or is_reached or any(_reads(other, stored[0]) for other in texts):
        return ""
    return stored[0]


def unread_name(text: str, line: int) -> str:
    """The local name to which a statement of a function gives its value and that the function never reads."""
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    if not isinstance(function, ast.FunctionDef) or _BY_NAME.search(ast.get_source_segment(text, function) or ""):
        return ""
    names = [
        node.targets[0].id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and node.lineno <= line <= (node.end_lineno or node.lineno)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
    ]
    nodes = list(ast.walk(function))
    read = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store)}
    outside = {name for node in nodes if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    return names[0] if len(names) == 1 and names[0] not in read | outside and not names[0].startswith("_") else ""


class GivenTwice(NamedTuple):
    """A call that is given one name for two of its arguments."""

    line: int
    end_line: int
    name: str
    source: str


def given_twice(text: str, line: int) -> GivenTwice | None:
    """The one call, later in the function around a line, that is given a name twice: ``loss(target, target.detach())``.

    None where there is none or several: it is asked for where another name, which nothing reads, was stored.
    """
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    found: list[GivenTwice] = []
    for node in ast.walk(function) if function is not None else ():
        if isinstance(node, ast.Call) and node.lineno > line and len(node.args) == 2 and not _is_of_itself(node):
            first, second = (_name_of_values(argument) for argument in node.args)
            if first and first == second:
                found.append(GivenTwice(node.lineno, node.end_lineno or node.lineno, first, ast.unparse(node)))
    return found[0] if len(found) == 1 else None


def _is_of_itself(call: ast.Call) -> bool:
    """Whether a call may well take one thing twice: ``matmul(x, x)``, ``mul(x, x)``, ``maximum(x, x)``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    return name in ("matmul", "mm", "bmm", "mul", "dot", "outer", "einsum", "zip", "max", "min", "maximum", "minimum")


def _name_of_values(node: ast.expr) -> str:
    """The name whose values an argument has: ``x`` of ``x``, ``x.detach()`` and ``x.clone()``."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("detach", "clone"):
        node = node.func.value
    return node.id if isinstance(node, ast.Name) else ""


def _reads(text: str, attribute: str) -> bool:
    """Whether a file reads an attribute, or has its name in a text that is not there for people only."""
    tree = parsed(text)
    if tree is None:
        return True
    nodes = list(ast.walk(tree))
    for_people = {node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    name = re.compile(rf"\b{re.escape(attribute)}\b")
    return any(
        (isinstance(node, ast.Attribute) and node.attr == attribute and isinstance(node.ctx, ast.Load))
        or (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in for_people
            and name.search(node.value) is not None
        )
        for node in nodes
    )
