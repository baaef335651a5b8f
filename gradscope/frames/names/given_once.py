"""Whether what a line gives a value, a name or an attribute, is given no other one anywhere in the file."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import assigned_pairs, last_name, parsed


def is_given_once(text: str, line: int) -> bool:
    """Whether that holds for the one target of the assignment at a line; never of another statement.

    Args:
        text: Source of the file.
        line: A line of the assignment.
    """
    tree = parsed(text)
    names = [last_name(target) for node, target in _given(tree) if _is_at(node, line)] if tree is not None else []
    if tree is None or len(names) != 1 or not names[0]:
        return False
    return sum(last_name(target) == names[0] for _, target in _given(tree)) == 1


def _given(tree: ast.Module) -> list[tuple[ast.AST, ast.expr]]:
    """Every place that gives something a value, with what gets it; of tuples each part."""
    found: list[tuple[ast.AST, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = [target for target, _ in assigned_pairs(node)]
        elif isinstance(node, ast.AugAssign | ast.NamedExpr | ast.For | ast.comprehension):
            targets = [node.target]
        else:
            targets = []
        found += [
            (node, part)
            for one in targets
            for part in ast.walk(one)
            if isinstance(part, ast.Name | ast.Attribute) and isinstance(part.ctx, ast.Store)
        ]
    return found


def _is_at(node: ast.AST, line: int) -> bool:
    return isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or node.lineno)
