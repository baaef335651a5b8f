"""Attributes of modules that ``__init__`` gives a tensor of zeros, and that no text gives anything else."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from gradscope.frames.syntax_trees import bases_of, innermost, parsed

_BASES = ("nn.Module", "Module", "torch.nn.Module")


class ZeroAttribute(NamedTuple):
    """The statement that stores it."""

    name: str
    """``alpha`` of ``self.alpha``."""
    line: int
    end_line: int


def zero_attribute(text: str, line: int, texts: Iterable[str]) -> ZeroAttribute | None:
    """The attribute that a line of a module's ``__init__`` stores a tensor in, where no other statement stores it.

    None also where a text has its name in quotes: ``setattr``, ``register_buffer``.

    Args:
        text: The source of the line's file.
        line: Where the tensor is made.
        texts: The sources of all files of the program.
    """
    tree = parsed(text)
    owner = None if tree is None else innermost(tree, line, ast.ClassDef)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef)
    if tree is None or not isinstance(owner, ast.ClassDef) or not isinstance(function, ast.FunctionDef):
        return None
    if function.name != "__init__" or not set(_BASES) & set(bases_of(tree, owner)):
        return None
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or 0) and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                is_one = sum(_given(other, target.attr) for other in texts) == 1
                return ZeroAttribute(target.attr, node.lineno, node.end_lineno or node.lineno) if is_one else None
    return None


def multiplies(source: str, attribute: str) -> bool:
    """Whether an expression is a product whose one factor is an attribute of ``self``."""
    tree = parsed(source)
    statement = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    product = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(product, ast.BinOp) or not isinstance(product.op, ast.Mult):
        return False
    return f"self.{attribute}" in [ast.unparse(side) for side in (product.left, product.right)]


def _given(text: str, attribute: str) -> int:
    """How often a text stores an attribute, or has its name in quotes."""
    tree = parsed(text)
    return sum(
        (isinstance(node, ast.Attribute) and node.attr == attribute and not isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Constant) and node.value == attribute)
        for node in (ast.walk(tree) if tree is not None else ())
    )
