"""Which modules a statement registers a forward hook on, as far as the text says: by a name, or by their class."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_REGISTERS = ("register_forward_hook", "register_forward_pre_hook")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_hooked(text: str, line: int, name: str, kind: str) -> bool:
    """Whether a hook is registered at a line on modules of a class alone, or on the one of a name.

    Args:
        text: The file's.
        line: A line of the call that registers it.
        name: Of the module in the one that it is part of: ``1`` for ``net[1]``, ``act`` for ``net.act``.
        kind: Its class: ``ReLU``, as in ``if isinstance(m, nn.ReLU): m.register_forward_hook(hook)``.
    """
    tree = parsed(text)
    if tree is None:
        return False
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _REGISTERS
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if len(calls) != 1 or not isinstance(calls[0].func, ast.Attribute):
        return False
    on, scope = calls[0].func.value, innermost(tree, line, *_FUNCTIONS) or tree
    if isinstance(on, ast.Name):
        classes = _classes(scope, on.id)
        if classes:
            return classes == {kind}
        given = [
            node.value
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and any(last_name(target) == on.id for target in node.targets)
        ]
        on = given[0] if len(given) == 1 else on
    return bool(name) and _name(on) == name


def _name(on: ast.expr) -> str:
    if isinstance(on, ast.Subscript):
        return str(on.slice.value) if isinstance(on.slice, ast.Constant) else ""
    return on.attr if isinstance(on, ast.Attribute) else ""


def _classes(scope: ast.AST, variable: str) -> set[str]:
    """The classes of which a function asks whether a variable is one: ``isinstance(m, nn.ReLU)``."""
    found: set[str] = set()
    for node in ast.walk(scope):
        if isinstance(node, ast.Call) and last_name(node.func) == "isinstance" and len(node.args) == 2:
            asked, given = node.args
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Call) and last_name(node.left.func) == "type":
            asked, given = (node.left.args or [node.left])[0], node.comparators[0]
        else:
            continue
        if isinstance(asked, ast.Name) and asked.id == variable:
            found |= {last_name(one) for one in (given.elts if isinstance(given, ast.Tuple) else [given])}
    return found
