"""Names that each round of a loop gives a value of its own, which no round reads, and what follows the loop does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

Definition = ast.FunctionDef | ast.AsyncFunctionDef

_LEAVES = (ast.Break, ast.Continue, ast.Return, ast.Yield, ast.YieldFrom)
"""By these the last round is another one than those before: its value may be the one that was looked for."""
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
"""They call several times in a round."""
_GRADS = ("autograd.grad", "autograd.functional.vjp")


class OverwrittenRound(NamedTuple):
    """One name that is given a value in each round."""

    name: str
    statement: ast.Assign
    loop: ast.For
    used: ast.stmt
    """The statement after the loop that reads the name."""
    call: ast.Call | None
    """The call of ``autograd.grad`` that gives it gradients, all of them of what the round does not make."""

    @property
    def made_at(self) -> range:
        """The lines of what makes its value: of that call, or of its own statement."""
        made = self.call or self.statement
        return range(made.lineno, (made.end_lineno or made.lineno) + 1)


def overwritten_rounds(definition: Definition) -> Iterator[OverwrittenRound]:
    """Those of one function, in loops that go on to their end over what the values are made of."""
    for block in _blocks(definition.body):
        for position, loop in enumerate(block):
            if isinstance(loop, ast.For) and not loop.orelse:
                yield from _of_loop(loop, block[position + 1 :])


def read_in_loops(definition: Definition) -> frozenset[str]:
    """The names that the rounds of a function's loops read."""
    loops = [part for part in ast.walk(definition) if isinstance(part, ast.For | ast.While)]
    return frozenset(name for loop in loops for statement in loop.body for name in _loaded(statement))


def _of_loop(loop: ast.For, rest: list[ast.stmt]) -> Iterator[OverwrittenRound]:
    parts = [part for statement in loop.body for part in ast.walk(statement)]
    if any(isinstance(part, _LEAVES + _NESTED) for part in parts):
        return
    statements = list(_straight(loop.body))
    read = [name for part in [*loop.body, loop.iter] for name in _loaded(part)]
    of_round = _made_of(set(_stored(loop.target)), statements)
    bound = [part.id for part in parts if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)]
    for statement in statements:
        if not isinstance(statement, ast.Assign) or of_round.isdisjoint(_loaded(statement.value)):
            continue
        if any(isinstance(part, _COMPREHENSIONS) for part in ast.walk(statement)):
            continue
        for name in (one for target in statement.targets for one in _stored(target)):
            used = _first_use(name, rest)
            if name not in read and bound.count(name) == 1 and used is not None:
                yield OverwrittenRound(name, statement, loop, used, _call(name, statement, statements, bound))


def _call(name: str, statement: ast.Assign, statements: list[ast.stmt], bound: list[str]) -> ast.Call | None:
    """What gives a name gradients; None where that is not known, or they are of something that the round makes."""
    value, taken = statement.value, slice(None)
    if isinstance(value, ast.Subscript):
        taken, value = _positions(value.slice), value.value
    if isinstance(value, ast.Name):
        made = [one for one in statements if isinstance(one, ast.Assign) and value.id in _stored(one.targets[0])]
        if len(made) != 1 or made[0] is statement:
            return None
        if taken == slice(None) and isinstance(statement.targets[0], ast.Name):
            return _call(value.id, made[0], statements, bound)
        value = made[0].value if isinstance(made[0].targets[0], ast.Name) else value
    if not isinstance(value, ast.Call) or not ast.unparse(value.func).endswith(_GRADS):
        return None
    given = [one.value for one in value.keywords if one.arg == "inputs"] or value.args[1:2]
    if not given:
        return None
    inputs = given[0].elts if isinstance(given[0], ast.Tuple | ast.List) else [given[0]]
    target = statement.targets[0]
    if isinstance(target, ast.Tuple | ast.List):
        stored = [name in _stored(one) for one in target.elts]
        if len(stored) != len(inputs) and len(inputs) > 1:
            return None
        inputs = [one for one, is_it in zip(inputs, stored, strict=False) if is_it] if len(inputs) > 1 else inputs
    elif any(isinstance(one, ast.Starred) for one in inputs[: taken.start]):
        return None
    else:
        inputs = inputs[taken]
    is_of_round = any(not set(bound).isdisjoint(_loaded(one)) for one in inputs)
    return None if is_of_round else value


def _positions(index: ast.expr) -> slice:
    """Which items a subscript takes; none where that is no number or the rest behind one."""
    if isinstance(index, ast.Constant) and isinstance(index.value, int):
        return slice(index.value, index.value + 1)
    lower = index.lower if isinstance(index, ast.Slice) and index.upper is None and index.step is None else None
    if isinstance(lower, ast.Constant) and isinstance(lower.value, int):
        return slice(lower.value, None)
    return slice(0, 0)


def _first_use(name: str, rest: list[ast.stmt]) -> ast.stmt | None:
    """The first statement after a loop that reads a name, before anything gives it another value."""
    for statement in rest:
        if name in _loaded(statement):
            return statement
        if name in _stored(statement):
            return None
    return None


def _made_of(names: set[str], statements: list[ast.stmt]) -> set[str]:
    """Names, and those that a round computes from them."""
    found = set(names)
    for statement in statements:
        if isinstance(statement, ast.Assign) and not found.isdisjoint(_loaded(statement.value)):
            found |= {name for target in statement.targets for name in _stored(target)}
    return found


def _straight(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that every round runs once: those in blocks of ``with`` among them."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.With):
            yield from _straight(statement.body)


def _blocks(body: list[ast.stmt]) -> Iterator[list[ast.stmt]]:
    yield body
    for statement in body:
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(statement, name, None)
            if inner and not isinstance(statement, _NESTED):
                yield from _blocks(inner)


def _loaded(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)]


def _stored(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
