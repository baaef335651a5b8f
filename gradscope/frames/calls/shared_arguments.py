"""Objects that one function hands to several others when it builds them."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import dotted_name, innermost, parsed


def built_with(text: str, made_line: int, at: tuple[int, int, int, int]) -> list[int]:
    """The lines that build, with an object made at a line of the same body, what a call then names.

    ``teacher = Net(table)`` for ``table = Embedding(9, 4)`` and ``freeze(teacher)``; nothing where the object is handed
    to no other call as well.

    Args:
        text: Source of a file.
        made_line: The line that makes the object and gives it a name.
        at: First line and column, last line and column (in bytes) of the call, or of what a loop over the parameters
            of what was built does with each.
    """
    tree = parsed(text)
    body = _body_around(tree, made_line) if tree is not None else []
    names = {name for one in body if one.lineno <= made_line <= (one.end_lineno or 0) for name in _bound(one)}
    wanted = _names_at(tree, at) if tree is not None else set()
    building = [one for one in body if isinstance(one, ast.Assign) and names & _given(one.value)]
    found = [one.lineno for one in building if wanted.intersection(_bound(one))]
    return found if len(building) > len(found) else []


def built_with_argument(text: str, at: tuple[int, int, int, int]) -> list[int]:
    """The lines that build what a call names with an object that the statements beside them build something with too.

    ``self.target = Net(encoder)`` for ``self.target.requires_grad_(False)``, where ``self.online = Net(encoder)``
    stands in the same body. Which object they share is not asked; a name of plain numbers is none.

    Args:
        text: Source of a file.
        at: As in :func:`built_with`.
    """
    tree = parsed(text)
    if tree is None:
        return []
    wanted, numbers = _dotted_at(tree, at), _numbers(tree)
    for body in (tree.body, *(one.body for one in ast.walk(tree) if isinstance(one, ast.FunctionDef))):
        building = [
            (one, _given(one.value) - numbers)
            for one in body
            if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call)
        ]
        found = [(one, given) for one, given in building if wanted & {ast.unparse(target) for target in one.targets}]
        others = {name for one, given in building if (one, given) not in found for name in given}
        lines = [one.lineno for one, given in found if given & others]
        if lines:
            return lines
    return []


def _numbers(tree: ast.Module) -> set[str]:
    """Names that stand for a number or a text: by their default, by what calls give for them, or by an assignment."""
    found = {one.arg or "" for one in ast.walk(tree) if isinstance(one, ast.keyword) and _is_plain(one.value)}
    for one in ast.walk(tree):
        if isinstance(one, ast.arguments):
            named = [*one.posonlyargs, *one.args]
            pairs = [*zip(named[len(named) - len(one.defaults) :], one.defaults, strict=True)]
            found.update(argument.arg for argument, default in pairs if _is_plain(default))
        elif isinstance(one, ast.arg) and isinstance(one.annotation, ast.Name):
            found.update([one.arg] if one.annotation.id in ("int", "float", "str", "bool") else [])
        elif isinstance(one, ast.Assign) and _is_plain(one.value):
            found.update(_bound(one))
    return found


def _is_plain(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is not None


def _dotted_at(tree: ast.Module, at: tuple[int, int, int, int]) -> set[str]:
    """The names, with dots, within a stretch of source, and in what the innermost loop around it goes over."""
    line, col, end_line, end_col = at
    loop = innermost(tree, line, ast.For)
    iterated = list(ast.walk(loop.iter)) if isinstance(loop, ast.For) and loop.lineno != line else []
    within = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and (line, col) <= (node.lineno, node.col_offset)
        and (node.end_lineno or 0, node.end_col_offset or 0) <= (end_line, end_col)
    ]
    return {ast.unparse(one) for one in (*within, *iterated) if isinstance(one, ast.Name | ast.Attribute)}


def _body_around(tree: ast.Module, line: int) -> list[ast.stmt]:
    """The statements of the innermost function, or of the module, that has a line."""
    body = tree.body
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno < line <= (node.end_lineno or 0):
            body = node.body
    return body


def _bound(statement: ast.stmt) -> list[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [name for target in targets for one in ast.walk(target) if (name := _stored_name(one))]


def _stored_name(node: ast.AST) -> str:
    """A name, or an attribute of an object's own, that is stored: ``table``, ``self.table``."""
    if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Store):
        return ""
    return dotted_name(node)


def _given(value: ast.expr) -> set[str]:
    """The names that a call is given, or the calls of a tuple are."""
    calls = [one for one in ast.walk(value) if isinstance(one, ast.Call)]
    arguments = [one for call in calls for one in (*call.args, *(keyword.value for keyword in call.keywords))]
    return {dotted_name(one) for one in arguments if isinstance(one, ast.Name | ast.Attribute)}


def _names_at(tree: ast.Module, at: tuple[int, int, int, int]) -> set[str]:
    """The names within a stretch of source, and in what the innermost loop around it goes over."""
    line, col, end_line, end_col = at
    loop = innermost(tree, line, ast.For)
    looped = set() if not isinstance(loop, ast.For) or loop.lineno == line else _names(loop.iter)
    within = {
        dotted_name(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and (line, col) <= (node.lineno, node.col_offset)
        and (node.end_lineno or 0, node.end_col_offset or 0) <= (end_line, end_col)
    }
    return within | looped


def _names(node: ast.AST) -> set[str]:
    return {dotted_name(one) for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute)}
