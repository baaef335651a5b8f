"""Where a function that ``torch.func.grad`` is given calls a module: ``grad(sample_loss)`` → ``model(x)`` in it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_GRADS = ("grad", "grad_and_value")
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class CallInFunction(NamedTuple):
    """A statement of such a function, or the lambda itself."""

    line: int
    end_line: int
    function: str


def call_in_function(text: str, lines: Collection[int], names: Collection[str]) -> CallInFunction | None:
    """The statement that calls a module in the function that grad is given; None where it is not clear which function.

    Where the module has none of its names there, the first that calls what is not imported: losses are computed later.

    Args:
        text: Source of the file.
        lines: Those of the statement that ran the function: of several calls of grad one that stands there is meant.
        names: What the module may be called, without what it is part of.
    """
    tree = parsed(text)
    if tree is None:
        return None
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and last_name(node.func) in _GRADS and _functions(tree, node)
    ]
    here = [node for node in calls if node.lineno in lines] or calls
    functions = {id(one): one for call in here for one in _functions(tree, call)}
    if len(functions) != 1:
        return None
    (function,) = functions.values()
    named = list(_calls(function, lambda call: last_name(call.func) in names))
    if len(named) == 1:
        return named[0]
    imported = _imported(tree)
    others = [] if named else list(_calls(function, lambda call: _first_name(call.func) not in imported | {""}))
    return others[0] if others else None


def _imported(tree: ast.Module) -> set[str]:
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return {(one.asname or one.name).partition(".")[0] for node in imports for one in node.names}


def _first_name(node: ast.expr) -> str:
    """``self`` of ``self.model``; empty for what is called on a result: ``self.model(x).sum``."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _functions(tree: ast.Module, call: ast.Call) -> list[_Function]:
    """What a call is given first, where the text writes it: a lambda, or a function by its name."""
    first = call.args[0] if call.args else None
    if isinstance(first, ast.Lambda):
        return [first]
    name = last_name(first)
    found: list[_Function] = []
    for node in ast.walk(tree) if name else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            found.append(node)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            found += [node.value for target in node.targets if last_name(target) == name]
    return found


def _calls(function: _Function, fits: Callable[[ast.Call], bool]) -> Iterator[CallInFunction]:
    """The statements of a function, in order, with a call that fits."""
    name = getattr(function, "name", "<lambda>")
    for statement in [function] if isinstance(function, ast.Lambda) else ast.walk(function):
        if isinstance(statement, ast.stmt) and (hasattr(statement, "body") or isinstance(statement, ast.Match)):
            continue
        if not isinstance(statement, ast.stmt | ast.Lambda):
            continue
        parts = (part for part in ast.walk(statement) if isinstance(part, ast.Call))
        if any(map(fits, parts)):
            yield CallInFunction(statement.lineno, statement.end_lineno or statement.lineno, name)
