"""Names that a caller hands to a function which gives back what it was given, and goes on with beside the result."""

from __future__ import annotations

import ast
from functools import lru_cache

from gradscope.frames.calls.read_arguments import callables, names_given_to, simple_statements
from gradscope.frames.syntax_trees import assigned_names, innermost, last_name, parsed

_ABOUT = frozenset(("shape", "size", "dim", "ndim", "numel", "device", "dtype", "requires_grad"))


@lru_cache(maxsize=256)
def gone_on_with(text: str, line: int, function: str, names: frozenset[str], definition: str) -> str:
    """The name that was given to a function before, and is read for its values at a line; empty where there is none.

    Not one that the caller has bound anew since, to the result above all, nor where the result is not used: then the
    function is called for what it does to what it is given.

    Args:
        text: The source of a file.
        line: A line of the statement that reads.
        function: The qualified name of the function.
        names: The names by which the statement was seen to read what the function had written.
        definition: Source of the file that defines the function.
    """
    tree, own = parsed(text), function.rpartition(".")[2]
    if tree is None or (own.endswith("_") and own != "__call__") or not _gives_back(definition, function):
        return ""
    around = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) or tree
    statements = sorted(simple_statements(around), key=lambda node: node.lineno)
    at = next((n for n, node in enumerate(statements) if node.lineno <= line <= (node.end_lineno or 0)), -1)
    called = callables(tree, function)
    for name in sorted(names & _read(statements[at], called) if at >= 0 else ()):
        for before in reversed(statements[:at]):
            if name in assigned_names(before):
                break
            if _hands(before, called, name):
                return name
    return ""


def _hands(statement: ast.stmt, called: frozenset[str], name: str) -> bool:
    """Whether a statement uses what the function gives for a name that it hands over."""
    alone = statement.value if isinstance(statement, ast.Expr) else None
    calls = (node for node in ast.walk(statement) if isinstance(node, ast.Call) and node is not alone)
    return any(last_name(call.func) in called and name in names_given_to(call) for call in calls)


def _read(node: ast.AST, called: frozenset[str]) -> set[str]:
    """The names whose values a part of a statement reads, but to hand them to the function again."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.Attribute) and node.attr in _ABOUT:
        return set()
    if isinstance(node, ast.Call) and last_name(node.func) in called:
        return set()
    return set().union(*(_read(child, called) for child in ast.iter_child_nodes(node)))


def _gives_back(definition: str, function: str) -> bool:
    """Whether each ``return`` of a function gives a parameter, or what a method in place of it gives."""
    tree, own = parsed(definition), function.rpartition(".")[2]
    if tree is None:
        return False
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == own]
    if len(found) > 1 and "." in function:
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        found = [node for one in classes if one.name == function.split(".")[-2] for node in one.body if node in found]
    if len(found) != 1:
        return False
    arguments = found[0].args
    parameters = {one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)} - {"self"}
    returned = [node.value for node in ast.walk(found[0]) if isinstance(node, ast.Return)]
    return bool(returned) and all(value is not None and _itself(value) in parameters for value in returned)


def _itself(value: ast.expr) -> str:
    """The name that an expression is, after methods in place: ``x`` of ``x.sub_(1).div_(2)``; empty for others."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr.endswith("_"):
        value = value.func.value
    return value.id if isinstance(value, ast.Name) else ""
