"""Where a function puts what it assigned to a name on an object, as the source says: ``self.kept = y``."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import last_name, parsed


def attribute_stores(text: str, line: int) -> list[tuple[int, int, str]]:
    """The statements that put what a line assigns on an attribute or into an item, in the same function.

    Args:
        text: Source of the file.
        line: First line of the statement that makes the value.

    Returns:
        First and last line of each statement, and the function's name.
    """
    tree = parsed(text)
    if tree is None:
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


def stores_under(text: str, name: str, values: frozenset[str]) -> list[tuple[int, int, str]]:
    """The statement that puts something on an object under a name, where the source has one that can have been it.

    Args:
        text: Source of the file.
        name: ``self.hidden``, ``net.hidden``, ``kept['x']``: of the first two the attribute counts.
        values: Names that the tensor had: of several statements the one that stores such a name.

    Returns:
        First and last line, and nothing for the function; empty where it is not clear which.
    """
    try:
        tree, wanted = ast.parse(text), ast.parse(name, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found: list[tuple[ast.stmt, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            continue  # ``self.hidden = None`` stores no tensor
        if isinstance(node, ast.Assign) and any(
            _is_like(target, wanted) or _is_display_of(node.value, target, wanted) or _is_among(target, wanted)
            for target in node.targets
        ):
            found.append((node, node.value))
        elif isinstance(node, ast.Expr) and (appended := _appended(node.value, wanted)) is not None:
            found.append((node, appended))
    if len(found) > 1:
        found = [(node, value) for node, value in found if isinstance(value, ast.Name) and value.id in values]
    return [(node.lineno, node.end_lineno or node.lineno, "") for node, _ in found] if len(found) == 1 else []


def stores_of_call(text: str, function: str) -> list[tuple[int, int, str]]:
    """The statements that put what a function gives on an object: ``self.kept = self.build()``.

    Args:
        text: Source of the file.
        function: The last part of its name.

    Returns:
        First and last line, and the last part of the name of the attribute or container.
    """
    tree = parsed(text)
    return [
        (node.lineno, node.end_lineno or node.lineno, last_name(whole))
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and last_name(node.value.func) == function
        for target in node.targets
        for part in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])
        if isinstance(part, (ast.Attribute, ast.Subscript)) and last_name(whole := _whole(part))
    ]


def _whole(part: ast.expr) -> ast.expr:
    """``self.kept`` of ``self.kept['x']``."""
    while isinstance(part, ast.Subscript):
        part = part.value
    return part


def _is_like(target: ast.expr, wanted: ast.expr) -> bool:
    if isinstance(target, ast.Attribute) and isinstance(wanted, ast.Attribute):
        return target.attr == wanted.attr
    if isinstance(target, ast.Subscript) and isinstance(wanted, ast.Subscript):
        return last_name(target.value) == last_name(wanted.value) != ""
    return False


def _is_among(target: ast.expr, wanted: ast.expr) -> bool:
    """Whether several names are stored at once, and under one of them what is wanted, or that of which it is a part."""
    parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else []
    whole = last_name(wanted.value) if isinstance(wanted, ast.Subscript) else ""
    return any(_is_like(part, wanted) or last_name(part) == whole != "" for part in parts)


def _is_display_of(value: ast.expr, target: ast.expr, wanted: ast.expr) -> bool:
    """Whether a list or dict, of which a part is wanted, is written out where it is stored."""
    is_display = isinstance(value, (ast.ListComp, ast.DictComp)) or bool(getattr(value, "elts", None))
    return is_display and isinstance(wanted, ast.Subscript) and last_name(wanted.value) == last_name(target) != ""


def _appended(call: ast.expr, wanted: ast.expr) -> ast.expr | None:
    """What a call appends to the list of which a part is wanted."""
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "append" and call.args:
        is_list = isinstance(wanted, ast.Subscript) and last_name(call.func.value) == last_name(wanted.value) != ""
        return call.args[0] if is_list else None
    return None
