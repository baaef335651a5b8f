"""The arguments of a file's calls that ``torch.utils.checkpoint.checkpoint`` is given to run, by whatever way."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import last_name

_CHECKPOINT = "checkpoint"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_RUNNERS = 3
"""Functions of the file that hand it on, one to the other."""


class CheckpointedArguments:
    """Knows the calls of one file.

    Args:
        tree: Of the file.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._names = {_CHECKPOINT} | _other_names(tree)
        functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
        self._parameters: dict[str, set[tuple[int, str]]] = {}
        """By function that hands a parameter on: its place among those of a call, and its name."""
        for _ in range(_RUNNERS):
            for function in functions:
                self._parameters.setdefault(function.name, set()).update(self._handed_on(function))

    def of(self, call: ast.Call) -> Iterator[tuple[ast.expr, bool]]:
        """What ``checkpoint`` runs, and whether a function of the file hands it on."""
        name = last_name(call.func)
        if name in self._names and call.args:
            yield from ((one, False) for one in _functions_in(call.args[0]))
        for place, parameter in self._parameters.get(name, ()):
            given = call.args[place : place + 1] + [one.value for one in call.keywords if one.arg == parameter]
            yield from ((one, True) for whole in given for one in _functions_in(whole))

    def _handed_on(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
        names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
        bound = 1 if names[:1] in (["self"], ["cls"]) else 0
        for call in ast.walk(function):
            for given, _ in self.of(call) if isinstance(call, ast.Call) else ():
                for part in ast.walk(given):
                    if isinstance(part, ast.Name) and part.id in names[bound:]:
                        yield names.index(part.id) - bound, part.id


def _functions_in(given: ast.expr) -> Iterator[ast.expr]:
    """What is run: of ``partial(run, x)`` it is ``run``."""
    yield given.args[0] if isinstance(given, ast.Call) and last_name(given.func) == "partial" and given.args else given


def _other_names(tree: ast.Module) -> set[str]:
    """Names under which a file imports ``checkpoint``, or puts it together with some of its arguments."""
    found = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == _CHECKPOINT and alias.asname
    }
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Assign) else None
        first = value.args[:1] if isinstance(value, ast.Call) and last_name(value.func) == "partial" else []
        if isinstance(node, ast.Assign) and any(last_name(one) in {_CHECKPOINT} | found for one in first):
            found |= {name for target in node.targets if (name := last_name(target))}
    return found
