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
    bodies: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            bodies.setdefault(node.name, []).append(node)
    found, todo = {around.name}, [around.name, "forward"]
    while todo:
        for body in bodies.get(todo.pop(), ()):
            for name in _mentioned(body) & bodies.keys() - found:
                found.add(name)
                todo.append(name)
    return frozenset(found | ({"forward"} & bodies.keys()))


def _mentioned(body: ast.AST) -> set[str]:
    """All names in a part of the tree: a function may be handed on before it is called."""
    walked = list(ast.walk(body))
    names = {node.id for node in walked if isinstance(node, ast.Name)}
    return names | {node.attr for node in walked if isinstance(node, ast.Attribute)}
