"""Statements that are nothing but a call of a custom Function's ``apply``, whose result nothing takes.

What such a call is there for is its result: the Function's node hangs on that. Left out are Functions whose forward
does something besides, and calls that may be made to try or to time them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.frames.blocks.statement_blocks import parse_blocks
from gradscope.frames.syntax_trees import bases_of, innermost, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_MODES = frozenset(("enable_grad", "set_grad_enabled", "autocast", "no_grad"))
_TRIED = ("test", "time", "warm", "bench", "check", "profile", "demo", "example")
_CLOCKS = frozenset(("time", "perf_counter", "monotonic", "synchronize", "timeit", "elapsed_time"))
_OF_CTX = frozenset(("save_for_backward", "save_for_forward", "set_materialize_grads", "mark_non_differentiable"))


class DroppedApply(NamedTuple):
    """One such statement."""

    file: int
    line: int
    end_line: int
    called: str
    """What it calls, as the source has it: ``Scale.apply``."""
    function: str
    """The class of the Function."""
    given: tuple[str, ...]
    """The names and attributes among its arguments."""
    owner: str
    """The one of them that the code goes on with."""
    inside: str
    """The name of the function around it."""
    beside: tuple[int, ...]
    """First lines of the statements that run as often as it does."""
    is_only: bool
    """Whether no other statement of the program applies the Function."""
    forward: tuple[int, int, int]
    """The file of the class, and the first and last line of its forward."""


class _Function(NamedTuple):
    name: str
    file: int
    forward: ast.FunctionDef


def dropped_applies(texts: Sequence[str]) -> list[DroppedApply]:
    """Those of a program.

    Args:
        texts: The sources of the user's files; empty for others.
    """
    trees = [parsed(text) if ".apply" in text else None for text in texts]
    known = {one.name: one for file, tree in enumerate(trees) if tree is not None for one in _functions(file, tree)}
    if not known:
        return []
    wrappers = _wrappers([tree for tree in trees if tree is not None], known)
    found = []
    for file, tree in enumerate(trees):
        for statement in ast.walk(tree) if tree is not None else ():
            if tree is not None and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                function = known.get(_applied(statement.value.func, wrappers, known))
                around = innermost(tree, statement.lineno, *_CODE)
                owner = _owner(statement.value, around) if function is not None and around is not None else ""
                if function is None or not owner or _is_tried(tree, around, statement):
                    continue
                named = (one for one in statement.value.args if isinstance(one, ast.Name | ast.Attribute))
                end = statement.end_lineno or statement.lineno
                found.append(
                    DroppedApply(
                        file,
                        statement.lineno,
                        end,
                        ast.unparse(statement.value.func),
                        function.name,
                        tuple(ast.unparse(one) for one in named),
                        owner,
                        getattr(around, "name", ""),
                        tuple(parse_blocks(texts[file]).together.get(statement.lineno, ())),
                        _times_applied(trees, function.name, wrappers, known) == 1,
                        (function.file, function.forward.lineno, function.forward.end_lineno or 0),
                    )
                )
    return found


def _functions(file: int, tree: ast.Module) -> Iterator[_Function]:
    """The Functions of a file that have a backward, and whose forward does nothing but give its result."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(one.endswith("Function") for one in bases_of(tree, node)):
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
            forward = methods.get("forward")
            if forward is not None and "backward" in methods and _only_gives(forward):
                yield _Function(node.name, file, forward)


def _only_gives(forward: ast.FunctionDef) -> bool:
    """Whether a forward changes nothing but its own names and its ctx."""
    context = forward.args.args[0].arg if forward.args.args else ""
    for node in ast.walk(forward):
        if isinstance(node, ast.Global | ast.Nonlocal | ast.Yield | ast.Await | ast.With | ast.Raise | ast.Assert):
            return False
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            called = node.value.func if isinstance(node.value, ast.Call) else None
            if not isinstance(called, ast.Attribute) or called.attr not in _OF_CTX:
                return False
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            is_own = ast.unparse(node.value) == context
            if not is_own:
                return False
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_"):
            return False
    return True


def _wrappers(trees: Sequence[ast.Module], known: dict[str, _Function]) -> dict[str, str]:
    """Other names of an ``apply``: ``scale = Scale.apply``, and functions that only return what it gives.

    Of what several have as their name (``forward``) nothing is known.
    """
    found: dict[str, str] = {}
    nodes = [node for tree in trees for node in ast.walk(tree)]
    defined = [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            name, value = ast.unparse(node.targets[0]).rpartition(".")[2], node.value
            if (of := _applied(value, {}, known)) and name not in defined:
                found[name] = of
        elif isinstance(node, ast.FunctionDef) and defined.count(node.name) == 1 and node.name != "forward":
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            returned = body[0].value if len(body) == 1 and isinstance(body[0], ast.Return) else None
            if isinstance(returned, ast.Call) and (of := _applied(returned.func, {}, known)):
                found[node.name] = of
    return found


def _applied(called: ast.expr, wrappers: dict[str, str], known: dict[str, _Function]) -> str:
    """The Function whose ``apply`` an expression is; empty for none."""
    if isinstance(called, ast.Attribute) and called.attr == "apply":
        name = ast.unparse(called.value).rpartition(".")[2]
        return name if name in known else ""
    if isinstance(called, ast.Name | ast.Attribute):
        return wrappers.get(ast.unparse(called).rpartition(".")[2], "")
    return ""


def _times_applied(
    trees: Sequence[ast.Module | None], name: str, wrappers: dict[str, str], known: dict[str, _Function]
) -> int:
    """How many calls of the program apply a Function, under whatever name."""
    calls = (node for tree in trees if tree is not None for node in ast.walk(tree) if isinstance(node, ast.Call))
    applied = sum(_applied(call.func, wrappers, known) == name for call in calls)
    return applied - sum(of == name for wrapper, of in wrappers.items() if _is_defined(trees, wrapper))


def _is_defined(trees: Sequence[ast.Module | None], name: str) -> bool:
    nodes = (node for tree in trees if tree is not None for node in ast.walk(tree))
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in nodes)


def _owner(call: ast.Call, around: ast.stmt) -> str:
    """The first argument that the function around a call reads after it; empty for none."""
    end = call.end_lineno or call.lineno
    later = {
        ast.unparse(node)
        for node in ast.walk(around)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load) and node.lineno > end
    }
    given = [ast.unparse(one) for one in call.args if isinstance(one, ast.Name | ast.Attribute)]
    return next((one for one in given if one in later), "")


def _is_tried(tree: ast.Module, around: ast.stmt | None, statement: ast.Expr) -> bool:
    """Whether the call may be made for its own sake: under ``try`` or another ``with``, in a test, beside a clock."""
    name = getattr(around, "name", "").lower()
    if around is None or any(word in name for word in _TRIED):
        return True
    names = {node.attr for node in ast.walk(around) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(around) if isinstance(node, ast.Name)}
    if names & _CLOCKS:
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and _covers(node, statement):
            return True
        if isinstance(node, ast.With) and _covers(node, statement):
            opened = (one.context_expr for one in node.items)
            called = (ast.unparse(one.func if isinstance(one, ast.Call) else one) for one in opened)
            if any(one.rpartition(".")[2] not in _MODES for one in called):
                return True
    return False


def _covers(node: ast.stmt, statement: ast.stmt) -> bool:
    return node.lineno <= statement.lineno <= (node.end_lineno or node.lineno)
