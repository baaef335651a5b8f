"""Whether what a line makes is to be stored: given to ``torch.save`` or the like, copied, or packed with others."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import assigned_names, innermost, last_name, parsed

_SAVES = ("save", "save_file", "dump", "dumps")
_COPIES = ("deepcopy", "clone")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_saved(text: str, line: int) -> bool:
    """Whether a call in the same function writes it to a file: by the name that it is given, or around the line."""
    tree = parsed(text)
    if tree is None:
        return False
    function = innermost(tree, line, *_FUNCTIONS)
    statement = innermost(tree, line, ast.Assign)
    names = set(assigned_names(statement)) if statement is not None else set[str]()
    for node in ast.walk(function or tree):
        if not isinstance(node, ast.Call) or last_name(node.func) not in _SAVES:
            continue
        given = {one.id for value in node.args for one in ast.walk(value) if isinstance(one, ast.Name)}
        if names & given or node.lineno <= line <= (node.end_lineno or node.lineno):
            return True
    return False


def is_copied(text: str, line: int) -> bool:
    """Whether the statement of a line copies what it names: by ``copy.deepcopy``, or each tensor by ``clone()``."""
    tree = parsed(text)
    statement = innermost(tree, line, ast.stmt) if tree is not None else None
    if not isinstance(statement, ast.Assign | ast.AnnAssign | ast.Return | ast.Expr):
        return False
    return any(isinstance(node, ast.Call) and last_name(node.func) in _COPIES for node in ast.walk(statement))


def is_packed(text: str, line: int) -> bool:
    """Whether a line is part of a dict that is given a name or returned, or of what is returned."""
    tree = parsed(text)
    statement = innermost(tree, line, ast.stmt) if tree is not None else None
    if isinstance(statement, ast.Return):
        return True
    return isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
