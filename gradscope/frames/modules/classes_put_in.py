"""Classes of layers that a program puts into finished models: made in functions, and not where a model is built."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from gradscope.frames.modules.layers_put_in import layer_put_in
from gradscope.frames.syntax_trees import last_name, parsed

_BUILDS = ("__init__", "setup", "build")
_PUTS = ("setattr", "add_module", "register_module", "register_parametrization")


def is_put_in(text: str, line: int, function: str, texts: Iterable[str]) -> bool:
    """Whether what is made at a line is put into a model that was there before.

    Args:
        text: The source of the line's file.
        line: Where a layer is made.
        function: The function around it, as Python calls it: ``LoRALinear.__init__``.
        texts: The sources of all files of the program.
    """
    if layer_put_in(text, line):
        return True
    owner, _, method = function.rpartition(".")
    name = owner.rpartition(".")[2]
    if method != "__init__" or not name.isidentifier():
        return False
    found = [one for other in texts if (tree := parsed(other)) is not None for one in _made(tree, name)]
    return bool(found) and all(found)


def _made(tree: ast.Module, name: str) -> list[bool]:
    """For each call of a class whether it stands in a function that puts layers into what it is given."""
    found: list[bool] = []
    todo: list[tuple[ast.AST, ast.FunctionDef | None]] = [(tree, None)]
    while todo:
        node, around = todo.pop()
        if isinstance(node, ast.Call) and last_name(node.func) == name:
            found.append(around is not None and around.name not in _BUILDS and _puts(around))
        inside = node if isinstance(node, ast.FunctionDef) else around
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]
    return found


def _puts(function: ast.FunctionDef) -> bool:
    """Whether a function gives an object other than its own ``self`` a new attribute or item."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and last_name(node.func) in _PUTS:
            return True
        if isinstance(node, ast.Assign):
            owners = (one.value for one in node.targets if isinstance(one, ast.Attribute | ast.Subscript))
            if any(not (isinstance(owner, ast.Name) and owner.id == "self") for owner in owners):
                return True
    return False
