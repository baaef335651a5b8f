"""Lists that repeat one object: ``[block] * depth``, ``[block for _ in range(depth)]``, ``append`` in a loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed

_MEANT = ("shar", "tied", "tie_", "same", "recurrent", "universal", "siamese", "albert", "unroll")
"""Parts of names that say that one object is meant."""
_PUTS = ("append", "insert", "add_module", "register_module", "appendleft")
_Loop = ast.For | ast.While
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Comprehension = ast.ListComp | ast.GeneratorExp


class Repeated(NamedTuple):
    """What puts one object into a list more than once."""

    line: int
    end_line: int
    item: str
    """Text of what is repeated."""
    written: str
    """How it is written: ``[block] * …``, ``[block for _ in range(n)]``, ``layers.append(block) in a loop``."""


def repeated_item(text: str, line: int) -> Repeated | None:
    """What repeats one object in a statement, in what a name in it was given, or in an argument that it was given.

    None where there is none, or several, or where the names around say that one object is meant.
    """
    tree = parsed(text)
    statements = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, (ast.Assign, ast.Return, ast.Expr)) and _covers(node, line)
    ]
    if tree is None or not statements:
        return None
    statement = max(statements, key=lambda node: node.lineno)
    found = list(_repeats(tree, statement))
    if not found:
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
        found = _given_before(tree, function or tree, names)
        if not found and isinstance(function, _Function):
            found = _given_by_caller(tree, function, names)
    if len(found) != 1 or _is_meant(tree, statement, found[0]):
        return None
    return found[0]


def repeated_in(tree: ast.Module, statement: ast.Assign, value: ast.expr) -> Repeated | None:
    """What a value that a statement assigns repeats; None where it is not all of the value, or where one is meant."""
    found = [one for one in _repeats(tree, ast.Expr(value)) if one.written.startswith("[")]
    is_whole = isinstance(value, ast.BinOp | ast.ListComp)
    return found[0] if is_whole and len(found) == 1 and not _is_meant(tree, statement, found[0]) else None


def _covers(node: ast.stmt | ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _repeats(tree: ast.Module, statement: ast.stmt) -> Iterator[Repeated]:
    """What a statement repeats itself."""
    for node in ast.walk(statement):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            for side in (node.left, node.right):
                if isinstance(side, ast.List) and len(side.elts) == 1:
                    item = ast.unparse(side.elts[0])
                    yield _found(node, item, f"[{item}] * …")
        elif isinstance(node, _Comprehension) and isinstance(node.elt, ast.Name):
            if node.elt.id not in _names_stored(node):
                inside = ast.unparse(node)[1:-1]
                yield _found(node, node.elt.id, f"[{inside}]")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PUTS:
            put = node.args[-1] if node.args else None
            loop = innermost(tree, node.lineno, ast.For, ast.While)
            is_inside = isinstance(loop, _Loop) and not _is_between(tree, loop, node.lineno)
            if is_inside and isinstance(put, ast.Name) and put.id not in _names_stored(loop):
                yield _found(node, put.id, f"{ast.unparse(node.func)}({put.id}) in a loop")


def _is_between(tree: ast.Module, loop: ast.stmt, line: int) -> bool:
    """Whether a function begins inside a loop around a line: it is no part of the loop's rounds."""
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    return function is not None and function.lineno > loop.lineno


def _found(node: ast.expr, item: str, written: str) -> Repeated:
    return Repeated(node.lineno, node.end_lineno or node.lineno, item, written)


def _names_stored(around: ast.AST | None) -> set[str]:
    nodes = ast.walk(around) if around is not None else ()
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _given_before(tree: ast.Module, scope: ast.AST, names: set[str]) -> list[Repeated]:
    """What repeats one object where a scope gives one of some names a value, or puts something into it."""
    found = []
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names:
            found += [one for one in _repeats(tree, node) if " in a loop" not in one.written]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            put = node.value.func
            if isinstance(put, ast.Attribute) and isinstance(put.value, ast.Name) and put.value.id in names:
                found += [one for one in _repeats(tree, node) if one.written.startswith(f"{put.value.id}.")]
    return list(dict.fromkeys(found))


def _given_by_caller(tree: ast.Module, function: _Function, names: set[str]) -> list[Repeated]:
    """What repeats one object where the file calls a function, or makes its class, with it as an argument."""
    owner = innermost(tree, function.lineno, ast.ClassDef)
    called = owner.name if isinstance(owner, ast.ClassDef) and function.name == "__init__" else function.name
    if not names & {one.arg for one in (*function.args.args, *function.args.kwonlyargs)}:
        return []
    found = []
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] == called:
            given = [*call.args, *(one.value for one in call.keywords)]
            found += [one for value in given for one in _repeats(tree, ast.Expr(value))]
            named = {value.id for value in given if isinstance(value, ast.Name)}
            found += _given_before(tree, tree, named) if named else []
    return list(dict.fromkeys(found))


def _is_meant(tree: ast.Module, statement: ast.stmt, found: Repeated) -> bool:
    """Whether names say that one object is meant: its own, the target's, the class's, the function's, a condition's."""
    target = ast.unparse(statement.targets[0]) if isinstance(statement, ast.Assign) else ""
    names = [found.item, target]
    for line in (statement.lineno, found.line):
        for kind in (ast.ClassDef, ast.FunctionDef):
            around = innermost(tree, line, kind)
            names += [around.name] if isinstance(around, ast.ClassDef | ast.FunctionDef) else []
        names += [ast.unparse(node.test) for node in ast.walk(tree) if isinstance(node, ast.If) and _covers(node, line)]
    return any(word in name.lower() for name in names for word in _MEANT)
