"""Which parts of the arrays that a call gives the text takes, where it takes parts only and says which.

``x.numpy()[:, 0]``, or ``a = x.numpy()`` and ``a[:, 0]``: such a part is a view, and keeps the whole array.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from gradscope.frames.syntax_trees import innermost, parsed

_LOOKS = frozenset(("shape", "size", "ndim", "dtype", "nbytes"))
_COPIES = frozenset(
    ("mean", "sum", "max", "min", "argmax", "argmin", "argsort", "any", "all", "std", "var", "copy", "astype", "tolist")
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SIMPLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return)


def parts_of_arrays(text: str, line: int, method: str) -> list[ast.expr]:
    """The indices that the text applies to what a method gives at a line; none where the whole goes anywhere.

    Args:
        text: Source of the file.
        line: A line of the call.
        method: Its name: ``numpy``.
    """
    tree = parsed(text)
    statement = None if tree is None else innermost(tree, line, *_SIMPLE)
    if tree is None or statement is None:
        return []
    calls = [node for node in ast.walk(statement) if _calls(node, method)]
    if len(calls) != 1:
        return []
    for node in ast.walk(statement):
        if isinstance(node, ast.Subscript) and node.value is calls[0]:
            return [node.slice]
    if not isinstance(statement, ast.Assign) or statement.value is not calls[0]:
        return []
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        return []
    scope = innermost(tree, line, *_FUNCTIONS) or tree
    return _parts_of_name(scope, target.id)


def _parts_of_name(scope: ast.AST, name: str) -> list[ast.expr]:
    """The indices applied to a name; none where it is used otherwise than for a look or a copy."""
    known: set[int] = set()
    found: list[ast.expr] = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Subscript) and _is_name(node.value, name):
            found.append(node.slice)
            known.add(id(node.value))
        elif isinstance(node, ast.Attribute) and node.attr in _LOOKS | _COPIES and _is_name(node.value, name):
            known.add(id(node.value))
    names = [node for node in ast.walk(scope) if isinstance(node, ast.Name) and node.id == name]
    loads = [node for node in names if isinstance(node.ctx, ast.Load)]
    stores = [node for node in names if isinstance(node.ctx, ast.Store)]
    return found if len(stores) == 1 and all(id(node) in known for node in loads) else []


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name


def elements_of_part(index: ast.expr, shape: Sequence[int]) -> int | None:
    """How many elements an index shows of an array of some shape; None where the text does not tell."""
    parts = list(index.elts) if isinstance(index, ast.Tuple) else [index]
    parts = [part for part in parts if not _is_constant(part, None)]  # (a new dimension)
    dots = [at for at, part in enumerate(parts) if _is_constant(part, Ellipsis)]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        return None
    if dots:
        missing: list[ast.expr] = [ast.Slice() for _ in range(len(shape) - len(parts) + 1)]
        parts[dots[0] : dots[0] + 1] = missing
    parts += [ast.Slice() for _ in range(len(shape) - len(parts))]
    count = 1
    for part, size in zip(parts, shape, strict=True):
        if isinstance(part, ast.Slice):
            bounds = [None if one is None else _whole(one) for one in (part.lower, part.upper, part.step)]
            given = (part.lower, part.upper, part.step)
            if (
                any(one is not None and bound is None for one, bound in zip(given, bounds, strict=True))
                or bounds[2] == 0
            ):
                return None
            count *= len(range(size)[slice(*bounds)])
        elif _whole(part) is None:
            return None
    return count


def _is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _whole(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if type(value) is int else None
