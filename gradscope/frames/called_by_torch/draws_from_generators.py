"""Calls of torch's random functions that a text gives a generator of its own, one that outlives the function's call.

``torch.rand(len(x), 1, generator=self.generator)``. Its state is not put back by what puts back torch's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_PUTS_BACK = re.compile(r"\b(\w*set_state|clone_state|context_fn)\b")
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class GeneratorDraw(NamedTuple):
    """A statement that draws."""

    line: int
    end_line: int
    function: str
    call: str
    generator: str
    """What the text calls it: ``self.generator``."""


def draws_from_generators(text: str, draws: Collection[tuple[int, str]], ran: Collection[int]) -> list[GeneratorDraw]:
    """Those among some calls that are given a generator which is made and seeded elsewhere.

    None of a text that puts back a generator's state, or seeds one in a function that may run between two draws.

    Args:
        text: Source of a file.
        draws: The first line of the statement of each call, and the last name of the function called.
        ran: First lines of all statements that ran a second time, those of these calls among them.
    """
    tree = parsed(text)
    if tree is None or _PUTS_BACK.search(text):
        return []
    functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
    again = [node for node in functions if any(node.lineno <= line <= (node.end_lineno or 0) for line in ran)]
    if any(_seeds(node) for node in functions) or not _makers(tree, functions).isdisjoint(_around(functions, again)):
        return []
    return list(dict.fromkeys(_found(tree, again, draws)))


def _found(tree: ast.Module, again: list[_Function], draws: Collection[tuple[int, str]]) -> Iterator[GeneratorDraw]:
    for statement in (node for node in ast.walk(tree) if isinstance(node, ast.stmt)):
        wanted = {name for line, name in draws if line == statement.lineno}
        for call in ast.walk(statement) if wanted and not isinstance(statement, _BLOCKS) else ():
            given = _generator(call) if isinstance(call, ast.Call) and last_name(call.func) in wanted else None
            if given is None or not isinstance(call, ast.Call):
                continue
            around = [one for one in again if one.lineno <= call.lineno <= (one.end_lineno or 0)]
            inner = max(around, key=lambda one: one.lineno, default=None)
            if inner is None or not _outlives(given, inner):
                continue
            end, name = statement.end_lineno or statement.lineno, _name(inner)
            yield GeneratorDraw(statement.lineno, end, name, ast.unparse(call.func), dotted_name(given))


_BLOCKS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _generator(call: ast.Call) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == "generator" and dotted_name(one.value)), None)


def _outlives(given: ast.expr, function: _Function) -> bool:
    """Whether a function binds a name for a generator to nothing that it may have made: to a place, or not at all."""
    values = [
        part.value
        for part in ast.walk(function)
        if isinstance(part, ast.Assign | ast.NamedExpr)
        for target in (part.targets if isinstance(part, ast.Assign) else [part.target])
        if dotted_name(target) == dotted_name(given)
    ]
    return all(isinstance(value, ast.Attribute | ast.Name) for value in values)


def _called(node: ast.AST) -> set[str]:
    return {last_name(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}


def _around(functions: list[_Function], again: list[_Function]) -> set[str]:
    """The names of functions that ran again, of those that call them, and of all that these call."""
    found = {_name(one) for one in again} | {"forward", "__call__"}
    while True:
        before = len(found)
        found |= {_name(one) for one in functions if not found.isdisjoint(_called(one))
                  and "backward" not in _called(one)}  # fmt: skip
        if len(found) == before:
            break
    return found.union(*(_called(one) for one in functions if _name(one) in found))


def _makers(tree: ast.Module, functions: list[_Function]) -> set[str]:
    """Functions that make a generator, and classes whose objects make one when they are made.

    One that puts a new one in another's place (``self.generator = …``, not in ``__init__``) may run anywhere: forward.
    """
    found = {"Generator"} & {
        name for one in functions if _name(one) in ("forward", "__call__") for name in _called(one)
    }
    for one in functions:
        if _name(one) != "__init__" and "Generator" in _called(one):
            found.add("forward" if _replaces(one) else _name(one))
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return found | {
        node.name
        for node in classes
        for one in node.body
        if isinstance(one, _Function) and _name(one) == "__init__" and "Generator" in _called(one)
    }


def _name(function: _Function) -> str:
    return getattr(function, "name", "<lambda>")


def _replaces(function: _Function) -> bool:
    return any(
        isinstance(part, ast.Assign)
        and "Generator" in _called(part.value)
        and any(isinstance(target, ast.Attribute) for target in part.targets)
        for part in ast.walk(function)
    )


def _seeds(function: _Function) -> bool:
    """Whether a function seeds a generator that was there before: not torch's own, nor one that it makes.

    One that calls backward itself runs around what is checkpointed, not in it.
    """
    calls = [one for one in ast.walk(function) if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute)]
    if any(last_name(one.func) == "backward" for one in calls):
        return False
    made = {
        dotted_name(target)
        for part in ast.walk(function)
        if isinstance(part, ast.Assign) and "Generator" in _called(part.value)
        for target in part.targets
    }
    owners = [
        one.func.value
        for one in calls
        if isinstance(one.func, ast.Attribute) and one.func.attr in ("manual_seed", "seed")
    ]
    return any(
        not isinstance(one, ast.Call) and not _is_torchs(dotted_name(one)) and dotted_name(one) not in made
        for one in owners
    )


def _is_torchs(owner: str) -> bool:
    return owner.split(".")[0] in ("torch", "np", "numpy", "random")
