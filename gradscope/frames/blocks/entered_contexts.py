"""Functions of a text that run when a ``with`` is entered, and the ``with`` statements themselves."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_ENTERS = ("__enter__", "__aenter__")
_DECORATORS = ("contextmanager", "asynccontextmanager")


def entering(text: str, line: int) -> str:
    """The function around a line that runs when a ``with`` is entered: a generator's part before its yield, too.

    Empty for any other: one that is decorated with ``contextmanager`` runs what is behind its yield at the end.
    """
    tree = parsed(text)
    function = innermost(tree, line, *_CODE) if tree is not None else None
    if not isinstance(function, _CODE):
        return ""
    if function.name in _ENTERS:
        return function.name
    decorators = [one.func if isinstance(one, ast.Call) else one for one in function.decorator_list]
    yields = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Yield)]
    is_context = any(last_name(one) in _DECORATORS for one in decorators)
    return function.name if is_context and yields and line < min(yields) else ""


def body_of_with(text: str, line: int) -> tuple[int, int]:
    """First and last line of what the ``with`` runs whose head a line is in; zeros where there is none."""
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.With | ast.AsyncWith) and node.lineno <= line < node.body[0].lineno:
            return node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno
    return 0, 0
