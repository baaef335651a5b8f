"""Where a text sets learning rates by hand: that of one group by its number, or those of groups to a written number.

``optimizer.param_groups[0]["lr"] = rate``.
"""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed

_GROUPS = "param_groups"


def rates_of_one_group(text: str) -> list[tuple[int, int]]:
    """Line and number of the group of each such statement; none where the text sets rates of groups otherwise, too."""
    tree = parsed(text) if _GROUPS in text else None
    if tree is None:
        return []
    found: list[tuple[int, int]] = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign | ast.AugAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if not isinstance(target, ast.Subscript) or not _is(target.slice, "lr"):
                continue
            number = _number_of_group(target.value)
            if number is None:
                return []
            found.append((node.lineno, number))
    return found


def rates_written(text: str) -> list[tuple[int, float | None]]:
    """Line of each statement that sets the rate of a group, and the number that it is set to, where that is written."""
    tree = parsed(text) if _GROUPS in text else None
    return [
        (node.lineno, _written(node.value) if isinstance(node, ast.Assign) else None)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Subscript) and _is(target.slice, "lr")
    ]


def _written(node: ast.expr) -> float | None:
    is_number = isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    return float(node.value) if is_number else None  # type: ignore[attr-defined]


def _number_of_group(node: ast.expr) -> int | None:
    if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Constant):
        return None
    is_groups = isinstance(node.value, ast.Attribute) and node.value.attr == _GROUPS
    return node.slice.value if is_groups and type(node.slice.value) is int else None


def _is(node: ast.expr, value: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == value
