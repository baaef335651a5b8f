"""Where the program makes modules of a class."""

from __future__ import annotations

import ast

from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed


def only_module(index: Index, name: str) -> tuple[int, int] | None:
    """File and line at which the user's files make a module of a class, where there is one such place alone."""
    found = places_of_modules(index, name)
    return found[0] if len(found) == 1 else None


def places_of_modules(index: Index, name: str) -> list[tuple[int, int]]:
    """Files and lines at which the user's files call a class by its name; else those that hand it on, to be called."""
    called, handed = list[tuple[int, int]](), list[tuple[int, int]]()
    for number, file in enumerate(index.recording.files):
        tree = parsed(file.text) if name and file.is_user and name in file.text else None
        nodes = list(ast.walk(tree)) if tree is not None else []
        called += [(number, one.lineno) for one in nodes if isinstance(one, ast.Call) and _named(one.func) == name]
        asked = {id(part) for one in nodes if _asks_for_kind(one) for part in ast.walk(one)}
        named = [one for one in nodes if isinstance(one, ast.Attribute | ast.Name) and id(one) not in asked]
        handed += [(number, one.lineno) for one in named if _named(one) == name]
    return called or handed


def _named(value: ast.expr) -> str:
    return value.attr if isinstance(value, ast.Attribute) else value.id if isinstance(value, ast.Name) else ""


def _asks_for_kind(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _named(node.func) in ("isinstance", "issubclass")


def put_on_self(index: Index, op: int) -> tuple[int, int] | None:
    """File and line at which the class around puts the module on ``self`` that an op ran in, where one alone does."""
    modules, spans = index.recording.modules, index.recording.ops.column("span")
    text, places = index.recording.text, set[tuple[str, str]]()
    for at, module in index.recording.module_ops:  # (of the first passes alone)
        if spans[at] == spans[op] and index.func(at) == index.func(op):
            parent = modules[module].parent
            places.add((text(modules[module].name), text(modules[parent].kind) if parent >= 0 else ""))
    name, around = places.pop() if len(places) == 1 else ("", "")
    found = []
    for number, file in enumerate(index.recording.files):
        tree = parsed(file.text) if name and around and file.is_user and around in file.text else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.ClassDef) and node.name == around:
                parts = (one for one in ast.walk(node) if isinstance(one, ast.Assign))
                found += [(number, one.lineno) for one in parts if f"self.{name}" in map(ast.unparse, one.targets)]
    return found[0] if len(found) == 1 else None
