"""Which functions of a file a function may come to call, by their names."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def reached_functions(text: str, line: int) -> frozenset[str]:
    """Names of the functions that the one around a line may call, directly or not, and its own; empty outside of any.

    Methods are known by their names, whatever the object; every ``forward`` may be called, as calls of modules are.
    """
    tree = parsed(text)
    around = innermost(tree, line, *_FUNCTIONS) if tree is not None else None
    if tree is None or not isinstance(around, _FUNCTIONS):
        return frozenset()
    return _reached(tree, {around.name})


def named_from(text: str, first: int, last: int) -> frozenset[str]:
    """Names of the functions that the statements at some lines may call, directly or not; known as above."""
    tree = parsed(text)
    return frozenset() if tree is None else _reached(tree, _named_at(tree, first, last))


def called_at(text: str, first: int, last: int) -> frozenset[str]:
    """Names and attributes that stand at some lines: of the functions that these call, among others."""
    tree = parsed(text)
    return frozenset() if tree is None else frozenset(_named_at(tree, first, last))


def function_named(qualified: str) -> str:
    """The name of a function, or of the one that a lambda or a comprehension stands in; empty for the top level."""
    return next((part for part in reversed(qualified.split(".")) if not part.startswith("<")), "")


def _named_at(tree: ast.Module, first: int, last: int) -> set[str]:
    inside = (one for one in ast.walk(tree) if isinstance(one, ast.expr) and first <= one.lineno <= last)
    return {name for one in inside for name in _named(one)}


def _reached(tree: ast.Module, names: set[str]) -> frozenset[str]:
    bodies: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            bodies.setdefault(node.name, []).append(node)
    found = names & bodies.keys()
    todo = [*found, "forward"]
    while todo:
        for body in bodies.get(todo.pop(), ()):
            for name in _mentioned(body) & bodies.keys() - found:
                found.add(name)
                todo.append(name)
    return frozenset(found | ({"forward"} & bodies.keys()))


def _mentioned(body: ast.AST) -> set[str]:
    """All names in a part of the tree: a function may be handed on before it is called."""
    return {name for node in ast.walk(body) for name in _named(node)}


def _named(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    return [node.attr] if isinstance(node, ast.Attribute) else []
