"""Of what a method is called at a line: ``self.scaler`` where ``self.scaler.unscale_(optimizer)`` stands."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed


def receivers_at(text: str, line: int, method: str) -> frozenset[str]:
    """The dotted names of those whose method is called in a statement's lines."""
    tree = parsed(text)
    return frozenset(
        dotted_name(node.func.value)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == method
        and node.lineno <= line <= (node.end_lineno or node.lineno)
    )


def calls_on(text: str, receiver: str, method: str) -> tuple[tuple[int, int], ...]:
    """First and last lines of the calls of a method of what has a name as its last one."""
    tree = parsed(text)
    return tuple(
        sorted(
            (node.lineno, node.end_lineno or node.lineno)
            for node in (ast.walk(tree) if tree is not None else ())
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == method
            and last_name(node.func.value) == receiver
        )
    )
