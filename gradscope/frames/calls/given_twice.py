"""Where one thing is given in the place of two: ``soft_update(target, target)``."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)


def given_twice(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of what gives the statement at a line one thing for two.

    It is the head of a loop around it that goes through one thing twice, side by side, or the only call of its function
    that passes one thing for two arguments. None where neither is there.
    """
    tree = parsed(text)
    loop = innermost(tree, line, ast.For) if tree is not None else None
    function = innermost(tree, line, *_CODE) if tree is not None else None
    if isinstance(loop, ast.For) and isinstance(loop.iter, ast.Call) and _has_one_twice(loop.iter):
        return loop.lineno, loop.iter.end_lineno or loop.lineno
    if tree is None or not isinstance(function, _CODE):
        return None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == function.name]
    found = [node for node in calls if _has_one_twice(node)]
    return (found[0].lineno, found[0].end_lineno or found[0].lineno) if len(found) == 1 else None


def _has_one_twice(call: ast.Call) -> bool:
    """Whether two arguments are the same name, or the same method's call on it."""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [ast.unparse(one) for one in arguments if isinstance(one, ast.Name | ast.Attribute | ast.Call)]
    return len(set(texts)) < len(texts)
