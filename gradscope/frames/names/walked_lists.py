"""The list or object that a loop goes through or reads, where one statement alone of the text gives it its name."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import assigned_pairs, innermost, last_name, parsed

_LOOPS = (ast.For, ast.AsyncFor)
_GIVE = ("zip", "enumerate", "list", "tuple", "reversed", "parameters", "buffers", "values", "items", "state_dict")
"""Calls that go through what they are given, or what they are called on."""


def stores_of_walked(text: str, line: int) -> list[tuple[int, int]]:
    """First and last line of the assignments of what the innermost loop around a line goes through.

    Of each such name or attribute only the one statement that assigns it; one of several statements is left out.
    """
    tree = parsed(text)
    loop = innermost(tree, line, *_LOOPS) if tree is not None else None
    if tree is None or not isinstance(loop, _LOOPS):
        return []
    found = []
    for walked in _walked(loop.iter):
        stores = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target, _ in assigned_pairs(node)
            if isinstance(target, type(walked)) and last_name(target) == last_name(walked)
        ]
        if len(stores) == 1:
            found.append((stores[0].lineno, stores[0].end_lineno or stores[0].lineno))
    return found


def _walked(value: ast.expr) -> list[ast.Name | ast.Attribute]:
    if isinstance(value, ast.Call) and last_name(value.func) in _GIVE:
        given = value.args or ([value.func.value] if isinstance(value.func, ast.Attribute) else [])
        return [one for part in given for one in _walked(part)]
    return [value] if isinstance(value, ast.Name | ast.Attribute) else []
