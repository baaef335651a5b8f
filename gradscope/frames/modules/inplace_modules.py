"""Where the file makes a module that works in place: ``nn.ReLU(inplace=True)``, ``nn.ReLU(True)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_POSITIONS = {"ReLU": 0, "ReLU6": 0, "SELU": 0, "Hardsigmoid": 0, "Hardswish": 0, "SiLU": 0, "Mish": 0}
_POSITIONS |= {"ELU": 1, "CELU": 1, "LeakyReLU": 1, "Dropout": 1, "Dropout2d": 1, "AlphaDropout": 1, "Hardtanh": 2}
"""Which of a class's arguments is ``inplace``, where it is given by its position."""


def inplace_modules(text: str, line: int, item: int) -> list[tuple[int, int]]:
    """Where the module that a line calls is made to work in place: first and last lines of the calls that make it.

    It is that which the class around the line gives the attribute that is called there (``self.act``). Where the text
    does not say so, it is the only one of the file; nothing where there are several.

    Args:
        text: The file's.
        line: Where the module is called.
        item: Its position in the chain that is called there, or less than 0 for none that is known.
    """
    tree = parsed(text)
    if tree is None:
        return []
    owner = innermost(tree, line, ast.ClassDef)
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.lineno <= line <= (node.end_lineno or 0)
    }
    found = [
        lines
        for node in (ast.walk(owner) if owner is not None else ())
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Attribute) and target.attr in called for target in node.targets)
        for lines in (_item(node.value, item) or _made_in(node.value))
    ]
    every = list(_made_in(tree))
    return found or (every if len(every) == 1 else [])


def made_in_place(text: str, kind: str) -> list[tuple[int, int]]:
    """First and last lines of the calls that make a module of a class to work in place."""
    tree = parsed(text)
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call)) if tree is not None else ()
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in calls
        if last_name(node.func) == kind and _is_inplace(node)
    ]


def _item(chain: ast.expr, item: int) -> list[tuple[int, int]]:
    """An item of a chain of modules, where it is written out."""
    items = chain.args if isinstance(chain, ast.Call) else []
    if item < 0 or len(items) <= item or any(isinstance(one, ast.Starred) for one in items):
        return []
    return list(_made_in(items[item]))


def _made_in(part: ast.AST) -> Iterator[tuple[int, int]]:
    for node in ast.walk(part):
        if isinstance(node, ast.Call) and _is_inplace(node):
            yield node.lineno, node.end_lineno or node.lineno


def _is_inplace(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    at = _POSITIONS.get(name, len(call.args))
    given = call.args[at : at + 1] + [one.value for one in call.keywords if one.arg == "inplace"]
    return any(isinstance(value, ast.Constant) and value.value is True for value in given)
