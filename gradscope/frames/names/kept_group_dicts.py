"""Where the text keeps the group dicts of an optimizer: ``self.group = optimizer.param_groups[0]``, or their list.

What reads or writes one entry (``optimizer.param_groups[0]["lr"]``), or loops over the groups, keeps none.
"""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed

_GROUPS = "param_groups"


def kept_group_dicts(text: str) -> list[tuple[int, str]]:
    """Line and source of each such expression that a name or an attribute gets, or a call that is given it."""
    tree = parsed(text)
    if tree is None:
        return []
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            values = [node.value]
        elif isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _LOOKING):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
        else:
            continue
        found += [(value.lineno, ast.unparse(value)) for value in values if _is_groups(value)]
    return sorted(set(found))


_LOOKING = frozenset(("len", "enumerate", "zip", "print", "iter", "list", "reversed", "next", "sorted"))


def _is_groups(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr == _GROUPS
