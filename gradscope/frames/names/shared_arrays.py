"""Calls that put a tensor on the memory of an array: what the text of a file tells."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_SHARES = ("from_numpy", "as_tensor", "asarray", "frombuffer", "from_dlpack")
_COPIES = ("array", "astype", "concatenate", "copy", "deepcopy", "stack")
"""Functions and methods whose array nothing else holds."""


class SharingCall(NamedTuple):
    """``torch.from_numpy(buffer)``."""

    line: int
    end_line: int
    call: str
    """The function's name."""
    of: str
    """Text of what it is given."""


def sharing_calls(text: str) -> list[SharingCall]:
    """The calls of torch's functions that copy nothing, without those whose result or array is a copy at once."""
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
        and not _is_copy(node.args[0])
    ]


def _is_copy(given: ast.expr) -> bool:
    """Whether a call is given an array that is made in it: ``obs.copy()``, ``2 * obs``."""
    if isinstance(given, ast.Call):
        return isinstance(given.func, ast.Attribute) and given.func.attr in _COPIES
    return isinstance(given, ast.BinOp | ast.UnaryOp)


def gives_written_memory(text: str, call: SharingCall) -> bool:
    """Whether a file writes items of what a call is given, or gives away by ``return`` memory whose items it writes.

    ``self.obs[0] = x``, ``row += 1``, ``np.copyto(row, x)``, ``np.add(a, b, out=row)``.
    """
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    written = {name for node in nodes for name in written_arrays(node)}
    given = {
        ast.unparse(value)
        for node in nodes
        if isinstance(node, ast.Return | ast.Yield) and node.value is not None
        for value in (node.value.elts if isinstance(node.value, ast.Tuple) else [node.value])
    }
    return call.of in written or not written.isdisjoint(given)


def written_arrays(node: ast.AST) -> list[str]:
    """What a statement or a call writes items of, as the text calls it."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        spread = (one for target in node.targets for one in getattr(target, "elts", [target]))
        targets = [one.value for one in spread if isinstance(one, ast.Subscript)]
    elif isinstance(node, ast.AugAssign):
        targets = [node.target.value if isinstance(node.target, ast.Subscript) else node.target]
    elif isinstance(node, ast.Call):
        targets = [one.value for one in node.keywords if one.arg == "out"]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "copyto":
            targets += node.args[:1]
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "fill":
            targets.append(node.func.value)
    return [ast.unparse(one) for one in targets]
