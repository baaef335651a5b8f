"""Private names (``self.__x``) in an expression that stands in a class but is compiled by itself."""

from __future__ import annotations

import ast
from typing import TypeVar

TreeT = TypeVar("TreeT", bound=ast.AST)


def with_private_names(tree: TreeT, class_name: str) -> TreeT:
    """Change the private names of a tree into what they are in a class, as Python's compiler does.

    Args:
        tree: A parsed expression; it is changed.
        class_name: The innermost class around it; empty: none.
    """
    prefix = class_name.lstrip("_")
    if prefix:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and _is_private(node.id):
                node.id = f"_{prefix}{node.id}"
            elif isinstance(node, ast.Attribute) and _is_private(node.attr):
                node.attr = f"_{prefix}{node.attr}"
    return tree


def _is_private(name: str) -> bool:
    return name.startswith("__") and not name.endswith("__")
