"""The statement that gives a name to another object than it had: ``model = build()`` for a second time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.syntax_trees import innermost, parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_KINDS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Rebuilt(NamedTuple):
    """An assignment of what a call gives."""

    line: int
    end_line: int
    name: str
    """What is assigned to: ``model``, ``self.model``."""


def assignments_of(text: str, path: str, function: str) -> list[Rebuilt]:
    """The statements that give what a call returns to a part of a path: to ``self.model`` of ``self.model.0.weight``.

    Args:
        text: Source of the file.
        path: As it reads in a function.
        function: The qualified name of that. A name that is not its own is the file's; of ``self`` it is looked for in
            all methods of the class but ``__init__``, whose object is new itself.
    """
    tree = parsed(text)
    if tree is None:
        return []
    parts = path.partition("[")[0].split(".")
    names = {".".join(parts[:count]) for count in range(1, len(parts) + 1)} - {"self"}
    found: dict[int, Rebuilt] = {}
    for scope in _scopes(tree, parts[0], function):
        for node in _own_nodes(scope):
            if isinstance(node, ast.Assign) and _calls(node.value):
                for name in _stored(node) & names:
                    found[node.lineno] = Rebuilt(node.lineno, node.end_lineno or node.lineno, name)
    return [found[line] for line in sorted(found)]


def reads_itself(text: str, statement: Rebuilt) -> bool:
    """Whether an assignment computes from what it replaces: ``net = wrap(net)``."""
    tree = parsed(text)
    nodes = ast.walk(tree) if tree is not None else ()
    return any(
        isinstance(node, ast.Assign)
        and node.lineno == statement.line
        and node.value is not None
        and any(isinstance(one, ast.expr) and ast.unparse(one) == statement.name for one in ast.walk(node.value))
        for node in nodes
    )


def only_later(text: str, assignments: list[Rebuilt], line: int) -> Rebuilt | None:
    """The only one of several that may have run after a line; None where more may have.

    What stands before the line in the same function ran before it, if no loop is around both.
    """
    tree = parsed(text)
    if tree is None:
        return None
    function = innermost(tree, line, *_KINDS)
    loops = loops_around(text, line)
    left = []
    for one in assignments:
        own = innermost(tree, one.line, *_KINDS)
        is_shared = any(begins <= one.line <= ends for begins, ends in loops)
        if own is not function or one.line > line or is_shared:
            left.append(one)
    return left[0] if len(left) == 1 else None


def names_in(text: str, line: int, end_line: int) -> frozenset[str]:
    """The dotted names that are read in some lines: ``self.model`` and ``self.model.parameters``."""
    tree = parsed(text)
    nodes = ast.walk(tree) if tree is not None else ()
    return frozenset(
        ast.unparse(node)
        for node in nodes
        if isinstance(node, ast.Name | ast.Attribute) and line <= node.lineno <= end_line
    )


def _calls(value: ast.expr | None) -> bool:
    return value is not None and any(isinstance(node, ast.Call) for node in ast.walk(value))


def _stored(statement: ast.Assign) -> set[str]:
    """What an assignment stores, of several names each."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    nodes = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name | ast.Attribute))
    return {ast.unparse(node) for node in nodes if isinstance(node.ctx, ast.Store)}


def _scopes(tree: ast.Module, root: str, function: str) -> Iterator[ast.AST]:
    """Where a name that a function reads may be given."""
    by_name = dict(_functions(tree, ""))
    if root == "self" and "." in function:
        owner = function.rpartition(".")[0]
        yield from (one for name, one in by_name.items() if name.rpartition(".")[0] == owner and one.name != "__init__")
        return
    scope = by_name.get(function)
    while scope is not None:
        if _is_local(scope, root):
            yield scope
            return
        function = function.rpartition(".<locals>.")[0]
        scope = by_name.get(function)
    yield tree
    yield from (
        node
        for node in by_name.values()
        if any(isinstance(one, ast.Global) and root in one.names for one in _own_nodes(node))
    )


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def _is_local(function: _Function, name: str) -> bool:
    arguments = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    nodes = list(_own_nodes(function))
    if any(isinstance(node, ast.Global | ast.Nonlocal) and name in node.names for node in nodes):
        return False
    stored = any(isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store) for node in nodes)
    return stored or any(argument.arg == name for argument in arguments)


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """What a scope consists of, without the functions and classes in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, (*_KINDS, ast.ClassDef, ast.Lambda)):
            yield child
            yield from _own_nodes(child)
