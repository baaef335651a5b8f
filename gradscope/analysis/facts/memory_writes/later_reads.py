"""Whether a name that a statement stores is read when other statements are over, as far as the text of a program tells.

``torch.save(best, path)``, ``return best`` and ``print(best)`` call no torch function on the tensors that they read.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.blocks.loops_around import share_a_loop
from gradscope.frames.syntax_trees import last_name, parsed

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_ARRAYS = frozenset(("numpy", "asarray", "from_dlpack"))
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


class _Around(NamedTuple):
    """What stands around a line."""

    scope: ast.AST
    loop: ast.stmt | None
    """The outermost loop of the scope that the line is in."""
    statement: ast.stmt


class LaterReads:
    """Reads of names in one file; of one that cannot be parsed nothing is known."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tree = parsed(text)

    def is_read_after(self, taken: int, written: int) -> bool:
        """Whether what the statement at a line stores is read only after what another line writes.

        Both stand in one function, or the first in a loop at whose end all writes of the loop are over. A read between
        the two is one that had its values in time: then nothing is said.
        """
        around = self._around(taken)
        if around is None:
            return False
        names = _stored(around.statement)
        reads = [node.lineno for node in _own_nodes(around.scope) if _is_read(node, names)]
        if around.loop is not None:
            end = around.loop.end_lineno or 0
            # Read in each round of a loop that writes as well, it is looked through for the values of the moment.
            return any(line > end and not share_a_loop(self._text, line, [written]) for line in reads)
        other = self._around(written)
        if other is None or other.scope is not around.scope or written <= taken:
            return False
        end = (other.loop or other.statement).end_lineno or 0
        first = (around.statement.end_lineno or 0) + 1
        return any(line > end for line in reads) and not any(first <= line <= end for line in reads)

    def is_array(self, line: int) -> bool:
        """Whether the statement at a line keeps an array of a tensor as it is: no copy, no result made from it.

        That is one alone, or a list or dict of them: ``{name: p.numpy() for name, p in …}``.
        """
        around = self._around(line)
        value = around.statement.value if around is not None and isinstance(around.statement, ast.Assign) else None
        item = (
            value.value if isinstance(value, ast.DictComp) else value.elt if isinstance(value, ast.ListComp) else value
        )
        return isinstance(item, ast.Call) and last_name(item.func) in _ARRAYS and not item.keywords

    def _around(self, line: int) -> _Around | None:
        scope: ast.AST | None = self._tree
        loop: ast.stmt | None = None
        node: ast.AST | None = self._tree
        while node is not None:
            inner = next((child for child in ast.iter_child_nodes(node) if _spans(child, line)), None)
            if isinstance(inner, _SCOPES):
                scope, loop = inner, None
            elif isinstance(inner, _LOOPS) and loop is None:
                loop = inner
            if inner is None or not any(isinstance(child, ast.stmt) for child in ast.iter_child_nodes(inner)):
                return _Around(scope, loop, inner) if scope is not None and isinstance(inner, ast.stmt) else None
            node = inner
        return None


def _spans(node: ast.AST, line: int) -> bool:
    return isinstance(node, ast.stmt | ast.ExceptHandler) and node.lineno <= line <= (node.end_lineno or 0)


def _stored(statement: ast.stmt) -> frozenset[str]:
    """The names and attributes that a statement assigns, or to whose list it appends."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        method = statement.value.func
        if isinstance(method, ast.Attribute) and method.attr in ("append", "extend", "update"):
            targets = [method.value]
    spread = [part for one in targets for part in (one.elts if isinstance(one, ast.Tuple | ast.List) else [one])]
    plain = (one.value if isinstance(one, ast.Subscript) else one for one in spread)
    return frozenset(ast.unparse(one) for one in plain if isinstance(one, ast.Name | ast.Attribute))


def _is_read(node: ast.AST, names: frozenset[str]) -> bool:
    is_load = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    return is_load and ast.unparse(node) in names


def _own_nodes(scope: ast.AST) -> list[ast.expr]:
    """The expressions of a scope, without those of the functions and classes in it."""
    found: list[ast.expr] = []
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop()
        if isinstance(node, _SCOPES):
            continue
        if isinstance(node, ast.expr):
            found.append(node)
        todo += ast.iter_child_nodes(node)
    return found
