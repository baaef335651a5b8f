"""Classes of modules that have a ``backward`` of their own, which nobody calls: what the text says."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import bases_of, last_name, parsed

_MODULES = frozenset(("Module", "nn.Module", "torch.nn.Module"))


class ModuleBackward(NamedTuple):
    """One of them."""

    name: str
    """Of the class."""
    line: int
    """Of its ``def backward``."""
    end_line: int
    forward: tuple[int, int]
    """The lines of its forward."""


def module_backwards(text: str) -> list[ModuleBackward]:
    """Those that take a gradient as a Function's backward does, in a file that gives no ``backward`` anything."""
    tree = parsed(text) if "def backward(" in text else None
    if tree is None or _is_given(tree):
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _is_module(tree, node):
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
            backward, forward = methods.get("backward"), methods.get("forward")
            if backward is not None and forward is not None and _takes_gradient(backward):
                lines = forward.lineno, forward.end_lineno or forward.lineno
                end = backward.end_lineno or backward.lineno
                found.append(ModuleBackward(node.name, backward.lineno, end, lines))
    return found


def _is_module(tree: ast.Module, node: ast.ClassDef) -> bool:
    bases = bases_of(tree, node)
    return bool(bases) and all(base in _MODULES for base in bases)


def _takes_gradient(backward: ast.FunctionDef) -> bool:
    arguments = [one.arg for one in backward.args.args if one.arg not in ("self", "ctx")]
    return bool(arguments) and arguments[0].startswith(("grad", "dout", "dy", "g_", "d_out", "upstream"))


def _is_given(tree: ast.Module) -> bool:
    """Whether a call hands something to a ``backward``, which may be that of a module."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    return any(
        isinstance(one, ast.Attribute) and one.attr == "backward" and last_name(one.value) != "autograd"
        for one in called
    )
