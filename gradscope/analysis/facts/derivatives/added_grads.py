"""What the source of a Function's backward adds to ``.grad`` of an argument itself, and returns for it as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines, ReturnedGrad, WrittenBackward
from gradscope.frames.syntax_trees import own_parts

_ADD = frozenset(("add_", "sub_"))
_SET_BACK = frozenset(("zero_", "fill_"))


class AddedGrad(NamedTuple):
    """A statement that puts into ``.grad`` of an argument what the ``return`` after it gives for that argument."""

    lines: Lines
    returned: ReturnedGrad
    finds_one: bool
    """It runs only where there was a ``.grad`` before."""


def added_grads(source: WrittenBackward) -> list[AddedGrad]:
    """Those of a backward of which it is certain that both happen; none where it sets a ``.grad`` back as well."""
    parts = list(own_parts(source.definition))
    if any(_sets_back(part) for part in parts):
        return []
    positions = {kept: position for position, kept in source.kept_by_forward.items()}
    found = []
    for statement, guards, after in _statements(source.definition.body, (), ()):
        written = _written(statement)
        kept = source.kept(written[0]) if written is not None else None
        position = positions.get(kept) if kept is not None else None
        last = _return_after(after)
        finds_one = _finds_one(guards)
        if written is None or position is None or last is None or finds_one is None:
            continue
        elements = last.value.elts if isinstance(last.value, ast.Tuple | ast.List) else [last.value]
        element = elements[position] if position < len(elements) else None
        if not isinstance(element, ast.Name) or _is_bound_after(parts, element.id, statement.lineno):
            continue
        if any(isinstance(part, ast.Name) and part.id == element.id for part in ast.walk(written[1])):
            returned = ReturnedGrad(source.lines_of(last), position, len(elements))
            found.append(AddedGrad(source.lines_of(statement), returned, finds_one))
    return found


_Block = tuple[ast.stmt, ...]


def _statements(
    body: list[ast.stmt], guards: tuple[tuple[ast.expr, bool], ...], behind: _Block
) -> Iterator[tuple[ast.stmt, tuple[tuple[ast.expr, bool], ...], _Block]]:
    """Each simple statement, the tests under which it runs and what they give, and the statements that run after it."""
    for position, statement in enumerate(body):
        after = (*body[position + 1 :], *behind)
        if isinstance(statement, ast.If):
            yield from _statements(statement.body, (*guards, (statement.test, True)), after)
            yield from _statements(statement.orelse, (*guards, (statement.test, False)), after)
        elif isinstance(statement, ast.With):
            yield from _statements(statement.body, guards, after)
        else:
            yield statement, guards, after


def _written(statement: ast.stmt) -> tuple[ast.expr, ast.expr] | None:
    """Of which tensor a statement writes the ``.grad``, and what it puts into it."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if isinstance(call.func, ast.Attribute) and call.func.attr in _ADD and call.args:
            owner = _owner(call.func.value)
            return None if owner is None else (owner, call.args[0])
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add | ast.Sub):
        owner = _owner(statement.target)
        return None if owner is None else (owner, statement.value)
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        owner = _owner(statement.targets[0])
        return None if owner is None else (owner, statement.value)
    return None


def _owner(node: ast.expr) -> ast.expr | None:
    """The expression of which another is the ``.grad``, or its ``.data``."""
    if isinstance(node, ast.Attribute) and node.attr == "data":
        node = node.value
    return node.value if isinstance(node, ast.Attribute) and node.attr == "grad" else None


def _return_after(after: _Block) -> ast.Return | None:
    """The ``return`` that runs after a statement; None where it depends on a test which."""
    for statement in after:
        if isinstance(statement, ast.Return):
            return statement
        if any(isinstance(part, ast.Return | ast.Raise) for part in ast.walk(statement)):
            return None
    return None


def _finds_one(guards: tuple[tuple[ast.expr, bool], ...]) -> bool | None:
    """Whether tests want a ``.grad`` to be there; None where they ask for what is not known."""
    finds_one = False
    for test, is_true in guards:
        if "needs_input_grad" in ast.unparse(test) and is_true:
            continue
        is_compared = (
            isinstance(test, ast.Compare) and len(test.ops) == 1 and ast.unparse(test.comparators[0]) == "None"
        )
        if not isinstance(test, ast.Compare) or not is_compared or _owner(test.left) is None:
            return None
        if not isinstance(test.ops[0], ast.Is | ast.IsNot):
            return None
        finds_one = finds_one or isinstance(test.ops[0], ast.IsNot) == is_true
    return finds_one


def _sets_back(part: ast.AST) -> bool:
    """Whether a part of a backward clears a ``.grad``: by a call, or with None."""
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
        return part.func.attr in _SET_BACK
    return (
        isinstance(part, ast.Assign)
        and isinstance(part.value, ast.Constant)
        and any(_owner(target) is not None for target in part.targets)
    )


def _is_bound_after(parts: list[ast.AST], name: str, line: int) -> bool:
    return any(
        isinstance(part, ast.Name) and part.id == name and not isinstance(part.ctx, ast.Load) and part.lineno > line
        for part in parts
    )
