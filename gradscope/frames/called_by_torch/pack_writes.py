"""Where a pack function of saved-tensor hooks puts a tensor away: into a buffer, or under a key."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_KEYS = ("key", "slot", "index", "idx", "name", "tag", "handle")
"""What a key is called, or how its name ends."""


class PackWrite(NamedTuple):
    """Lines of a pack function."""

    puts: tuple[int, int]
    """Where it puts the tensor away; its first line where that is not clear."""
    key: tuple[int, int] | None
    """Where it makes the key by which that is found."""


def pack_write(text: str, line: int, name: str) -> PackWrite:
    """Of the function of a name that begins at a line."""
    tree = parsed(text)
    functions = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.FunctionDef)
        and node.name == name
        and min([node.lineno, *(one.lineno for one in node.decorator_list)]) == line
    ]
    if len(functions) != 1:
        return PackWrite((line, line), None)
    nodes = [one for one in ast.walk(functions[0]) if isinstance(one, ast.stmt) and one is not functions[0]]
    puts = sorted((one for one in nodes if _puts(one)), key=lambda one: (_writes(one), one.lineno))
    keys = [one for one in nodes if isinstance(one, ast.Assign) and _is_key(one.targets[0])]
    where = puts[-1] if puts else functions[0]
    end = (where.end_lineno or where.lineno) if puts else where.lineno
    key = keys[0] if keys else None
    return PackWrite((where.lineno, end), (key.lineno, key.end_lineno or key.lineno) if key is not None else None)


def _puts(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.FunctionDef):
        return False
    is_item = isinstance(statement, ast.Assign) and any(isinstance(one, ast.Subscript) for one in statement.targets)
    return is_item or _writes(statement) or bool(_called(statement) & {"setdefault", "save"})


def _writes(statement: ast.stmt) -> bool:
    """Whether it writes a buffer, which a line before may have made."""
    calls = (one for one in ast.walk(statement) if isinstance(one, ast.Call))
    has_out = any(word.arg == "out" for one in calls for word in one.keywords)
    return has_out or bool(_called(statement) & {"copy_", "set_"})


def _called(statement: ast.stmt) -> set[str]:
    calls = (one.func for one in ast.walk(statement) if isinstance(one, ast.Call))
    return {one.attr for one in calls if isinstance(one, ast.Attribute)}


def _is_key(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.lower().endswith(_KEYS)
