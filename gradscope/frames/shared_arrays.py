"""Calls that put a tensor on the memory of an array: what the text of a file tells."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_SHARES = ("from_numpy", "as_tensor", "asarray", "frombuffer", "from_dlpack")


class SharingCall(NamedTuple):
    """``torch.from_numpy(buffer)``."""

    line: int
    end_line: int
    call: str
    """The function's name."""
    of: str
    """Text of what it is given."""


def sharing_calls(text: str) -> list[SharingCall]:
    """The calls of torch's functions that copy nothing, without those whose result is copied at once."""
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    copied = {
        id(node.func.value)
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("clone", "copy")
    }
    return [
        SharingCall(node.lineno, node.end_lineno or node.lineno, node.func.attr, ast.unparse(node.args[0]))
        for node in nodes
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _SHARES
        and ast.unparse(node.func.value) in ("torch", "torch.utils.dlpack")
        and node.args
        and id(node) not in copied
    ]
