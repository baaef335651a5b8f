"""Where a call is given an argument by name: what the text of a file tells."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed


def keyword_line(text: str, line: int, function: str, keyword: str) -> int:
    """The line at which the only call of a function on a line gets an argument by name; 0 where that is not clear."""
    tree = parsed(text)
    calls = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or 0)
        and ast.unparse(node.func).rpartition(".")[2] == function
    ]
    found = [one.value.lineno for call in calls for one in call.keywords if one.arg == keyword]
    return found[0] if len(calls) == len(found) == 1 else 0


def keyword_elsewhere(text: str, first: int, last: int, keyword: str) -> int:
    """The only line at which a text says that an argument is True, outside of some lines that do not; 0 for none.

    ``partial(checkpoint, use_reentrant=True)``, ``options = {"use_reentrant": True}``.
    """
    tree = parsed(text)
    found = set[int]()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.keyword) and node.arg == keyword and _is_true(node.value):
            found.add(node.value.lineno)
        elif isinstance(node, ast.Dict):
            found |= {
                value.lineno
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == keyword and _is_true(value)
            }
    return found.pop() if len(found) == 1 and not any(first <= line <= last for line in found) else 0


def _is_true(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is True
