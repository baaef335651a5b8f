"""Statements by which a text gives one model the values of another, and what has to come about for them to run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_WRITES = frozenset("copy_ lerp_ mul_ add_ sub_ set_ __setitem__".split())  # noqa: SIM905
_LOADS = frozenset(("load_state_dict", "update_parameters"))
_LISTS = frozenset(("parameters", "named_parameters", "state_dict", "buffers"))
_READS_FILES = frozenset(("load", "load_file", "load_model"))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WHOLE_TEXT = 1, sys.maxsize
_CALLERS = 3
"""Functions that are followed from a statement to where they are called."""


class Update(NamedTuple):
    """Lines that write a model."""

    line: int
    end_line: int
    callee: tuple[int, int]
    """First and last line of the function of the file that it calls for that; (0, 0) where it writes itself."""


class NotReached(NamedTuple):
    """Why a statement does not run."""

    line: int
    """Of the condition, or of the function."""
    test: str
    """The condition; empty where it is in a function that the text never calls."""
    function: str
    """The function's name; empty for a condition."""
    is_counted: bool
    """The condition holds once in so many rounds."""
    is_compared: bool
    """It compares sizes, so that it is no setting that somebody chose."""
    scope: tuple[int, int]
    """The first line of the function around the condition, and the one after its last; of the text where it is in none.
    """


def updates_written(text: str, models: Collection[str], others: Collection[str]) -> list[Update]:
    """The statements that write a model of one of some names, with what is another one's. Those that read a file too.

    Args:
        text: Source of the file.
        models: The last parts of names of the model that is written: ``target`` for ``self.target``.
        others: Those of the model whose values it is to get.
    """
    tree = parsed(text)
    if tree is None:
        return []
    writers = {one.name: one for one in ast.walk(tree) if isinstance(one, _FUNCTIONS) and _writes_in_loop(one)}
    found = []
    for node in (one for one in ast.walk(tree) if isinstance(one, ast.stmt | ast.Call)):
        if _is_loop_over(node, models, others) or _is_new_copy(node, models, others):
            found.append(Update(node.lineno, node.end_lineno or node.lineno, (0, 0)))
        elif isinstance(node, ast.Call):
            lines = node.lineno, node.end_lineno or node.lineno
            name = last_name(node.func)
            given = [*node.args, *(one.value for one in node.keywords)]
            if name in _LOADS and isinstance(node.func, ast.Attribute) and last_name(node.func.value) in models:
                found.append(Update(*lines, (0, 0)))
            elif name in writers and all(any(_speaks_of(one, names) for one in given) for names in (models, others)):
                writer = writers[name]
                found.append(Update(*lines, (writer.lineno, writer.end_lineno or writer.lineno)))
    return found


def writers_of_models(text: str) -> list[tuple[int, int]]:
    """The lines of all that may write some model, whatever it is called there: loops over parameters, loads."""
    tree = parsed(text)
    found = []
    for node in ast.walk(tree) if tree is not None else ():
        is_loop = isinstance(node, ast.For) and _writes(node) and _speaks_of(node.iter, _LISTS)
        if (isinstance(node, ast.For) and is_loop) or (isinstance(node, ast.Call) and last_name(node.func) in _LOADS):
            found.append((node.lineno, node.end_lineno or node.lineno))
    return found


def calls_of_step(text: str, name: str) -> list[int]:
    """The lines that call ``step`` of something by its whole name: ``self.schedule``."""
    tree = parsed(text)
    nodes = ast.walk(tree) if tree is not None else ()
    calls = (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return [node.lineno for node in calls if ast.unparse(node.func) == f"{name}.step"]


def not_reached(text: str, line: int) -> NotReached | None:
    """The condition around a statement, or around the one call of its function; None where there is neither.

    None too where the function reads a file: what stands there belongs to a run that goes on with an earlier one.
    """
    tree = parsed(text)
    for _ in range(_CALLERS if tree is not None else 0):
        around = _around(tree, line)
        function = next((node for node in around if isinstance(node, _FUNCTIONS)), None)
        if any(_reads_a_file(node) for node in around):
            return None
        within = around[: around.index(function)] if function is not None else around
        branch = next((node for node in within if isinstance(node, ast.If)), None)
        if branch is not None:
            is_body = branch.body[0].lineno <= line <= (branch.body[-1].end_lineno or 0)
            return _of_branch(branch, function or tree) if is_body else None
        if function is None:
            return None
        own = range(function.lineno, (function.end_lineno or 0) + 1)
        calls = [one for one in _mentions(tree, function.name) if one not in own]
        if not calls:
            return NotReached(function.lineno, "", function.name, False, False, (0, 0))
        if len(calls) > 1:
            return None
        line = calls[0]
    return None


def _around(tree: ast.Module | None, line: int) -> list[ast.stmt]:
    """The statements with blocks around a line, the innermost first."""
    nodes = (node for node in (ast.walk(tree) if tree is not None else ()) if isinstance(node, ast.stmt))
    blocks = [node for node in nodes if hasattr(node, "body") and node.lineno <= line <= (node.end_lineno or 0)]
    inside = [node for node in blocks if not isinstance(node, ast.ClassDef)]
    return sorted(inside, key=lambda node: -node.lineno)


def _of_branch(branch: ast.If, scope: ast.stmt | ast.Module | None) -> NotReached:
    parts = list(ast.walk(branch.test))
    is_counted = any(isinstance(part, ast.Mod) for part in parts)
    compared = [part for part in parts if isinstance(part, ast.Compare)]
    sizes = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
    is_compared = any(isinstance(how, sizes) for part in compared for how in part.ops)
    lines = WHOLE_TEXT if not isinstance(scope, ast.stmt) else (scope.lineno, (scope.end_lineno or 0) + 1)
    return NotReached(branch.lineno, ast.unparse(branch.test), "", is_counted, is_compared, lines)


def _mentions(tree: ast.Module | None, name: str) -> list[int]:
    """The lines in which a function is called or handed on."""
    nodes = ast.walk(tree) if tree is not None else ()
    return [node.lineno for node in nodes if isinstance(node, ast.Name | ast.Attribute) and last_name(node) == name]


def _reads_a_file(node: ast.stmt) -> bool:
    if not isinstance(node, (*_FUNCTIONS, ast.If)):
        return False
    return any(isinstance(one, ast.Call) and last_name(one.func) in _READS_FILES for one in ast.walk(node))


def _names(node: ast.AST) -> Iterator[str]:
    return (last_name(one) for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute))


def _speaks_of(node: ast.AST, names: Collection[str]) -> bool:
    return any(name in names for name in _names(node))


def _is_loop_over(node: ast.AST, models: Collection[str], others: Collection[str]) -> bool:
    if not isinstance(node, ast.For) or not _speaks_of(node.iter, models):
        return False
    return _speaks_of(node, others) and _writes(node)


def _is_new_copy(node: ast.AST, models: Collection[str], others: Collection[str]) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    is_named = any(last_name(one) in models for one in node.targets)
    is_copied = any(isinstance(one, ast.Call) and last_name(one.func) == "deepcopy" for one in ast.walk(node.value))
    return is_named and is_copied and _speaks_of(node.value, others)


def _writes_in_loop(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    loops = any(isinstance(node, ast.For) and _writes(node) for node in ast.walk(function))
    return loops or any(isinstance(one, ast.Call) and last_name(one.func) in _LOADS for one in ast.walk(function))


def _writes(loop: ast.For) -> bool:
    """Whether a loop writes tensors in place, or gives them other memory."""
    for node in ast.walk(loop):
        if isinstance(node, ast.Call) and last_name(node.func) in _WRITES:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Attribute | ast.Subscript) for one in node.targets):
            return True
    return False
