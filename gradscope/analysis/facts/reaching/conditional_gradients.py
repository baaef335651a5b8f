"""The gradient that a custom Function's backward computes under a condition only, and returns as None elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines, WrittenBackward
from gradscope.frames.syntax_trees import own_parts

_NEEDS = "needs_input_grad"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class ConditionalGradient(NamedTuple):
    """Where it gets its only value."""

    name: str
    condition: Lines
    computed: Lines
    test: str
    """The condition as it is written; empty where it is computed where that does not hold."""
    branch: str
    """The word that the branch begins with: ``if``, ``elif``, ``else``."""
    told_of: str
    """The argument whose need it asks for, where that is another than the one whose gradient it is; else empty."""
    asks_for_others: bool


class _Guard(NamedTuple):
    """A test on the way to an assignment."""

    test: ast.expr
    is_met: bool
    """Whether the assignment is where the test holds; else where it does not."""
    line_of: ast.expr
    """What stands at the line to name: the test itself, of an ``elif`` that one's."""
    branch: str = "if"


class _Value(NamedTuple):
    """What a name is given somewhere."""

    node: ast.expr
    guards: tuple[_Guard, ...]


def conditional_gradient(written: WrittenBackward, position: int, inputs: int) -> ConditionalGradient | None:
    """The one gradient that may be that of an input, if backward computes it under one condition alone.

    Args:
        written: A backward by whose doing the input got None.
        position: Which of the tensors that the Function was applied to, with a graph for it: it wanted a gradient.
        inputs: How many those were. What is no tensor has a gradient in the ``return`` too, so that there may be
            several which may be the one's.
    """
    value = written.returns[0].value if len(written.returns) == 1 else None
    elements = value.elts if isinstance(value, ast.Tuple) else [] if value is None else [value]
    last = position + 1 + max(len(elements) - inputs, 0)
    if any(isinstance(one, ast.Starred) for one in elements):
        return None
    needs = _Needs(written)
    places = range(position, min(last, len(elements)))
    found = [one for at in places if (one := _of(written, needs, elements[at], at)) is not None]
    told = [one for one in found if one.asks_for_others]
    if len(told) == 1:
        return told[0]
    others = sum(_is_sure(written, needs, elements[at], at) for at in places)
    return found[0] if len(found) == 1 and others == len(places) - 1 else None


def _is_sure(written: WrittenBackward, needs: _Needs, element: ast.expr, at: int) -> bool:
    """Whether what is returned at a place is no None wherever the input there wants a gradient."""
    values = [one for one in _given(written, element) if not _is_none(one.node)]
    sure = (all(needs.holds_for(guard, at) for guard in one.guards) for one in values)
    return all(_computes(one.node) for one in values) and any(sure)


def _of(written: WrittenBackward, needs: _Needs, element: ast.expr, at: int) -> ConditionalGradient | None:
    """What is returned at a place, where one condition that does not ask for just that input is all there is for it."""
    values = list(_given(written, element))
    computed = [one for one in values if not _is_none(one.node)]
    if not computed or not all(map(_computes, (one.node for one in computed))):
        return None
    open_guards = [[one for one in value.guards if not needs.holds_for(one, at)] for value in computed]
    guards = {id(one.test): one for guards in open_guards for one in guards}
    if not all(open_guards) or len(guards) != 1:
        return None
    (guard,) = guards.values()
    asked = needs.asked_for(guard.test)
    told = "" if at in asked or not guard.is_met else needs.argument(guard.test)
    return ConditionalGradient(
        ast.unparse(element) if isinstance(element, ast.Name) else "",
        written.lines_of(guard.line_of),
        written.lines_of(computed[0].node),
        ast.unparse(guard.test) if guard.is_met else "",
        guard.branch,
        told,
        bool(asked - {at}),
    )


def _given(written: WrittenBackward, element: ast.expr) -> Iterator[_Value]:
    """All that an element of a ``return`` may be."""
    if not isinstance(element, ast.Name):
        yield from _chosen(element, ())
        return
    if any(_binds_otherwise(one, element.id) for one in own_parts(written.definition)):
        return
    for statement, guards in _guarded(written.definition.body, ()):
        if not isinstance(statement, ast.Assign) or statement.value is None:
            continue
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            if isinstance(target, ast.Name) and target.id == element.id:
                yield from _chosen(statement.value, guards)
            elif isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                for one, value in zip(target.elts, statement.value.elts, strict=False):
                    if isinstance(one, ast.Name) and one.id == element.id:
                        yield from _chosen(value, guards)


def _binds_otherwise(part: ast.AST, name: str) -> bool:
    """Whether a part gives a name what is not looked at: by unpacking, in a loop, in ``with``, as an argument."""
    if isinstance(part, ast.Assign):
        unpacked = [one for one in part.targets if isinstance(one, ast.Tuple) and not isinstance(part.value, ast.Tuple)]
        return any(getattr(one, "id", "") == name for target in unpacked for one in ast.walk(target))
    targets: list[ast.AST | None] = []
    if isinstance(part, (ast.For, ast.AsyncFor, ast.comprehension, ast.NamedExpr)):
        targets = [part.target]
    elif isinstance(part, ast.withitem):
        targets = [part.optional_vars]
    return any(getattr(one, "id", "") == name for target in targets if target for one in ast.walk(target))


def _chosen(value: ast.expr, guards: tuple[_Guard, ...]) -> Iterator[_Value]:
    """A value, or both that ``a if test else b`` chooses from."""
    if isinstance(value, ast.IfExp):
        yield from _chosen(value.body, (*guards, _guard(value.test, is_met=True)))
        yield from _chosen(value.orelse, (*guards, _guard(value.test, is_met=False)))
    else:
        yield _Value(value, guards)


def _guarded(body: list[ast.stmt], guards: tuple[_Guard, ...]) -> Iterator[tuple[ast.stmt, tuple[_Guard, ...]]]:
    """The statements of a function, each with the tests it stands under."""
    for statement in body:
        yield statement, guards
        if isinstance(statement, ast.If):
            yield from _guarded(statement.body, (*guards, _guard(statement.test, is_met=True)))
            yield from _guarded(statement.orelse, (*guards, _otherwise(statement)))
        elif not isinstance(statement, _FUNCTIONS):
            for name in ("body", "orelse", "finalbody"):
                inner = getattr(statement, name, None)
                if isinstance(inner, list):
                    yield from _guarded(inner, guards)


def _guard(test: ast.expr, *, is_met: bool) -> _Guard:
    inner = test
    while isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not):
        inner, is_met = inner.operand, not is_met
    return _Guard(inner, is_met, test)


def _otherwise(statement: ast.If) -> _Guard:
    """What lets into the ``elif`` or the ``else`` of a statement."""
    guard = _guard(statement.test, is_met=False)
    after = statement.orelse[0] if statement.orelse else None
    if isinstance(after, ast.If) and after.col_offset == statement.col_offset:
        return guard._replace(line_of=after.test, branch="elif")
    return guard._replace(branch="else")


class _Needs:
    """What a test asks for of ``ctx.needs_input_grad``, by its place in it or by a name for that."""

    def __init__(self, written: WrittenBackward) -> None:
        arguments = written.definition.args.args
        self._context = arguments[0].arg if arguments else ""
        taken = [] if written.forward is None else [one.arg for one in written.forward.args.args]
        has_context = taken[:1] in (["ctx"], [self._context])  # (else setup_context has it)
        self._arguments = taken[1:] if has_context else taken
        self._names: dict[str, int] = {}
        for part in own_parts(written.definition):
            for target in part.targets if isinstance(part, ast.Assign) else ():
                if isinstance(part, ast.Assign) and isinstance(target, ast.Tuple) and self._is_all(part.value):
                    self._names.update({getattr(one, "id", ""): at for at, one in enumerate(target.elts)})
                elif isinstance(part, ast.Assign) and isinstance(target, ast.Name):
                    at = self._place(part.value)
                    if at is not None:
                        self._names[target.id] = at

    def argument(self, test: ast.expr) -> str:
        """The first argument of whose need it asks, by its name; empty where there is none."""
        return next((self._arguments[at] for at in sorted(self.asked_for(test)) if at < len(self._arguments)), "")

    def asked_for(self, test: ast.expr) -> set[int]:
        """The arguments of whose need it asks."""
        return {at for one in ast.walk(test) if (at := self._place(one)) is not None}

    def holds_for(self, guard: _Guard, argument: int) -> bool:
        """Whether a test lets pass wherever one argument needs a gradient."""
        return guard.is_met and self._is_true(guard.test, argument)

    def _is_true(self, test: ast.expr, argument: int) -> bool:
        if isinstance(test, ast.BoolOp):
            parts = (self._is_true(one, argument) for one in test.values)
            return any(parts) if isinstance(test.op, ast.Or) else all(parts)
        if isinstance(test, ast.Call) and getattr(test.func, "id", "") == "any":
            return any(self._is_all(one) for one in test.args)
        return self._place(test) == argument

    def _is_all(self, node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Attribute) and node.attr == _NEEDS and getattr(node.value, "id", "") == self._context
        )

    def _place(self, node: ast.AST) -> int | None:
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        is_item = isinstance(node, ast.Subscript) and self._is_all(node.value)
        place = node.slice if isinstance(node, ast.Subscript) and is_item else None
        return place.value if isinstance(place, ast.Constant) and isinstance(place.value, int) else None


def _computes(value: ast.expr) -> bool:
    """Whether it is a tensor for certain: arithmetic, or what a method or a function of a module's gives."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Attribute)
    return isinstance(value, (ast.BinOp, ast.UnaryOp))


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None
