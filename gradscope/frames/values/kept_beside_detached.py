"""What is put beside something detached as it is: ``state = (hidden.detach(), cell)``."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_DETACHES = ("detach", "detach_")


class KeptBesideDetached(NamedTuple):
    """A statement that puts both into one container."""

    line: int
    end_line: int
    kept: frozenset[str]
    """The last parts of the names of what is put there as it is."""
    detached: str
    """The text of the first that is detached: ``hidden``."""


@lru_cache(maxsize=64)
def kept_beside_detached(text: str) -> tuple[KeptBesideDetached, ...]:
    """All such statements of a text."""
    tree = parsed(text) if "detach" in text else None
    found: dict[tuple[int, int], KeptBesideDetached] = {}
    for statement in ast.walk(tree) if tree is not None else ():
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return | ast.Expr):
            lines = statement.lineno, statement.end_lineno or statement.lineno
            for parts in map(_parts, ast.walk(statement)):
                kept = {last_name(one) for one in parts if isinstance(one, ast.Name | ast.Attribute)}
                cut = next(filter(None, map(_detached, parts)), "")
                if kept and cut:
                    before = found.get(lines)
                    both = kept if before is None else kept | before.kept
                    found[lines] = KeptBesideDetached(
                        *lines, frozenset(both), cut if before is None else before.detached
                    )
    return tuple(found.values())


def _parts(node: ast.AST) -> list[ast.expr]:
    """What a container is made of; of a call only where it makes an object: ``State(hidden.detach(), cell)``."""
    if isinstance(node, ast.Tuple | ast.List):
        return node.elts
    if isinstance(node, ast.Dict):
        return node.values
    if isinstance(node, ast.Call) and last_name(node.func)[:1].isupper():
        return [*node.args, *(one.value for one in node.keywords)]
    return []


def _detached(value: ast.expr) -> str:
    """What a method at the end of an expression detaches: the first of ``h.detach().clone()``; empty for nothing."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr in _DETACHES:
            return ast.unparse(value.func.value)
        value = value.func.value
    return ""
