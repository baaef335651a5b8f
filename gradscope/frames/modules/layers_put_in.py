"""A layer that a statement puts in the place of one of an object's own: ``model.fc = nn.Linear(16, 2)``."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed

_SETS, _OF_SET = "setattr", 3


def layer_put_in(text: str, line: int) -> str:
    """What a statement at a line puts a new layer in the place of, as the text calls it; empty where it does not.

    An object's own ``self.fc = nn.Linear(…)`` is where it gets the layer first.
    """
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.value, ast.Call):
            target = node.targets[0]
            owner = target.value if isinstance(target, ast.Attribute | ast.Subscript) else None
            is_own = isinstance(owner, ast.Name) and owner.id == "self"
            if owner is not None and not is_own and not isinstance(target, ast.Name):
                return ast.unparse(target)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            if ast.unparse(call.func) == _SETS and len(call.args) == _OF_SET and isinstance(call.args[2], ast.Call):
                name = call.args[1]
                part = f".{name.value}" if isinstance(name, ast.Constant) and isinstance(name.value, str) else ""
                return f"{ast.unparse(call.args[0])}{part}"
    return ""
