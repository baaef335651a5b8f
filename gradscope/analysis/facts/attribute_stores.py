"""Where a function puts what it assigned to a name on an object, as the source says: ``self.kept = y``."""

from __future__ import annotations

import ast


def attribute_stores(text: str, line: int) -> list[tuple[int, int, str]]:
    """The statements that put what a line assigns on an attribute or into an item, in the same function.

    Args:
        text: Source of the file.
        line: First line of the statement that makes the value.

    Returns:
        First and last line of each statement, and the function's name.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not around:
        return []
    function = max(around, key=lambda node: node.lineno)
    assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    names = {
        target.id for node in assigned if node.lineno == line for target in node.targets if isinstance(target, ast.Name)
    }
    return [
        (node.lineno, node.end_lineno or node.lineno, function.name)
        for node in assigned
        if node.lineno >= line
        and any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets)
        and (node.lineno == line or (isinstance(node.value, ast.Name) and node.value.id in names))
    ]
