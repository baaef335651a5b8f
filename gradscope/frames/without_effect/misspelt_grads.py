"""Assignments to attributes that are meant for ``.grad`` and that torch does not know: ``p.grads = g``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import innermost, parsed

_MISSPELT = frozenset(("grads", "gradient", "gradients", "gard", "grad_", "Grad"))


def set_in_place_of_grad(text: str) -> Iterator[tuple[int, str, str]]:
    """The line of each, the attribute, and the function that it is in.

    None that the file reads anywhere, or has on ``self``: those have a meaning of the program's own.
    """
    tree = parsed(text) if any(f".{name}" in text for name in _MISSPELT) else None
    if tree is None:
        return
    walked = list(ast.walk(tree))
    attributes = [one for one in walked if isinstance(one, ast.Attribute) and one.attr in _MISSPELT]
    read = {one.attr for one in attributes if isinstance(one.ctx, ast.Load) or ast.unparse(one.value) == "self"}
    for node in walked:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Attribute) and target.attr in _MISSPELT - read:
                around = innermost(tree, target.lineno, ast.FunctionDef, ast.AsyncFunctionDef)
                yield target.lineno, target.attr, getattr(around, "name", "")
