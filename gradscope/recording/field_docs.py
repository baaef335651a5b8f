"""What the source says about the fields of a class: the string under each, which Python itself drops."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise


@cache
def field_docs(described: type) -> dict[str, str]:
    """The docstring under each annotated field of a class, or member of an enumeration, on one line; empty where there
    is no source."""
    statements = _classes(described.__module__).get(described.__name__, [])
    docs = {}
    for field, below in pairwise(statements):
        if isinstance(field, ast.Assign):
            target = field.targets[0]
        elif isinstance(field, ast.AnnAssign):
            target = field.target
        else:
            continue
        if not isinstance(target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            docs[target.id] = " ".join(below.value.value.split())
    return docs


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The statements of each class of a module: its source is parsed once, for all of them."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
