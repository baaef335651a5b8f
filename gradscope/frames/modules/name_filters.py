"""Where a text chooses parameters by their names, and whether it chooses one of a given name.

Only what follows from the name, from ``requires_grad`` (taken for true) and from constants of the file is decided.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from gradscope.frames.syntax_trees import parsed

_PUTS = ("append", "add", "extend", "update")
_TEXT_METHODS = ("startswith", "endswith", "lower", "upper", "split", "rsplit", "strip", "removeprefix", "partition")
_UNKNOWN = object()
_RANGE, _LARGEST = 2, 1_000
"""Arguments of a ``range`` that is followed, and the largest number in it."""
_Lines = tuple[int, int]
"""First and last line."""


class NameFilter(NamedTuple):
    """A condition on names that leaves some out."""

    line: int
    end_line: int
    matches: bool
    """Whether it chooses any of the names at all."""


class ParameterFilter(NamedTuple):
    """A loop over ``named_parameters()``."""

    name: str
    """The variable that has the names."""
    parameter: str
    node: ast.For | ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp
    tests: tuple[ast.expr, ...]
    """Of a comprehension."""


def filters_that_leave_out(text: str, name: str, names: Collection[str], held: Collection[str]) -> list[NameFilter]:
    """The conditions of a file by which no choice of parameters has one of a name.

    Args:
        text: Source of the file.
        name: As ``named_parameters`` gives it: ``head.weight``.
        names: All that it gives.
        held: Those of them that the optimizer has. Where no choice has any, the names may be those of another module:
            then no part of the name may be chosen either.

    Returns:
        Those that choose nothing alone where there are such; empty where a choice has it, or may have.
    """
    tree = parsed(text)
    if tree is None or "named_parameters" not in text:
        return []
    found: list[NameFilter] = []
    filters, constants = list(filters_of(tree)), constants_of(tree)
    if not any((chosen_by(one, other, constants) or (False,))[0] for one in filters for other in held):
        parts = name.split(".")
        ends = [".".join(parts[first:]) for first in range(1, len(parts))]
        if any((chosen_by(one, end, constants) or (True,))[0] for one in filters for end in ends):
            return []
    for one in filters:
        chosen = chosen_by(one, name, constants)
        if chosen is None or chosen[0] is not False:
            return []
        others = [chosen_by(one, other, constants) for other in names]
        if None in others or not chosen[1]:
            return []
        matches = any(other is not None and other[0] for other in others)
        found.append(NameFilter(*chosen[1][-1], matches))
    empty = [one for one in found if not one.matches]
    return sorted(empty or found)


def choice_given(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the choice by names that a statement at a line is given; None unless it is one."""
    tree = parsed(text)
    if tree is None:
        return None
    users = [node for node in ast.walk(tree) if isinstance(node, ast.stmt) and not hasattr(node, "body")]
    names = {
        one.id
        for user in users
        if user.lineno <= line <= (user.end_lineno or user.lineno)
        for one in ast.walk(user)
        if isinstance(one, ast.Name)
    }
    chosen = [one.node for one in filters_of(tree) if not isinstance(one.node, ast.For)]
    stored = [
        node.value
        for node in users
        if isinstance(node, ast.Assign) and node.value in chosen and ast.unparse(node.targets[0]) in names
    ]
    given = stored or [one for one in chosen if one.lineno <= line <= (one.end_lineno or one.lineno)]
    return (given[0].lineno, given[0].end_lineno or given[0].lineno) if len(given) == 1 else None


def holds_for(test: ast.expr, name: str, variables: tuple[str, str], known: dict[str, Any]) -> bool | None:
    """Whether a condition holds for a name; None where that does not follow from it.

    Args:
        test: The condition.
        name: The name.
        variables: What the condition calls the name, and the parameter.
        known: Values of further names that it reads.
    """
    value = _value(test, {**known, variables[0]: name}, variables[1])
    return None if value is _UNKNOWN else bool(value)


def filters_of(tree: ast.AST) -> Iterator[ParameterFilter]:
    """Loops and comprehensions over ``named_parameters()`` that choose some of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and (names := _pair(node.target, node.iter)):
            if any(isinstance(one, ast.If) for one in ast.walk(node)) and puts(node, names[1]):
                yield ParameterFilter(*names, node, ())
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            (first, *others) = node.generators
            names = _pair(first.target, first.iter)
            kept = node.value if isinstance(node, ast.DictComp) else node.elt
            is_kept = names is not None and isinstance(kept, ast.Name) and kept.id == names[1]
            tested = {one.id for test in first.ifs for one in ast.walk(test) if isinstance(one, ast.Name)}
            if names is not None and is_kept and names[0] in tested and not others:
                yield ParameterFilter(*names, node, tuple(first.ifs))


def _pair(target: ast.expr, iterated: ast.expr) -> tuple[str, str] | None:
    """The two variables of a loop over ``named_parameters()``."""
    called = iterated.func if isinstance(iterated, ast.Call) else None
    if not isinstance(called, ast.Attribute) or called.attr != "named_parameters":
        return None
    names = [one.id for one in target.elts if isinstance(one, ast.Name)] if isinstance(target, ast.Tuple) else []
    return (names[0], names[1]) if len(names) == 2 else None


def puts(node: ast.AST, parameter: str) -> bool:
    """Whether a statement, or one within it, puts a variable into something."""
    return any(_is_put(one, parameter) for one in ast.walk(node) if isinstance(one, ast.stmt))


def _is_put(statement: ast.stmt, parameter: str) -> bool:
    """Whether a statement puts the parameter into something: ``decay.append(p)``, ``groups[name] = p``."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value.func
        given: list[ast.expr] = statement.value.args if getattr(called, "attr", "") in _PUTS else []
    elif isinstance(statement, ast.AugAssign | ast.Assign):
        is_stored = isinstance(statement, ast.AugAssign) or isinstance(statement.targets[0], ast.Subscript)
        given = [statement.value] if is_stored else []
    else:
        return False
    return any(isinstance(part, ast.Name) and part.id == parameter for one in given for part in ast.walk(one))


def chosen_by(one: ParameterFilter, name: str, constants: dict[str, Any]) -> tuple[bool, list[_Lines]] | None:
    """Whether a filter has the parameter of a name, and the conditions that decided; None where that is not known."""
    known = {**constants, one.name: name}
    if not isinstance(one.node, ast.For):
        lines = [(one.node.lineno, one.node.end_lineno or one.node.lineno)]
        values = [_value(test, known, one.parameter) for test in one.tests]
        if any(value is False or (value is not _UNKNOWN and not value) for value in values):
            return False, lines
        return None if _UNKNOWN in values else (True, lines)
    decided: list[_Lines] = []
    kept = _kept(one.node.body, known, one.parameter, decided)
    return None if kept is None else (kept == "kept", decided)


def _kept(body: list[ast.stmt], known: dict[str, Any], parameter: str, decided: list[_Lines]) -> str | None:
    """What a block does with a parameter: ``kept``, ``left`` (the loop goes on), or ``passed``; None: not known."""
    for statement in body:
        if isinstance(statement, ast.If):
            value = _value(statement.test, known, parameter)
            if value is _UNKNOWN:
                return None
            decided.append((statement.lineno, statement.test.end_lineno or statement.lineno))
            done = _kept(statement.body if value else statement.orelse, known, parameter, decided)
            if done != "passed":
                return done
        elif isinstance(statement, ast.Continue | ast.Break):
            return "left"
        elif _is_put(statement, parameter):
            return "kept"
    return "passed"


def constants_of(tree: ast.AST) -> dict[str, Any]:
    """Names that a file gives one constant value and no other, with that."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            try:
                value = ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError):
                value = _UNKNOWN
            found[name] = _UNKNOWN if name in found else value
    return {name: value for name, value in found.items() if value is not _UNKNOWN}


def _value(node: ast.expr, known: dict[str, Any], parameter: str) -> Any:
    """What an expression gives; ``_UNKNOWN`` where that does not follow from what is known."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return known.get(node.id, _UNKNOWN)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return _all(node.elts, known, parameter)
    if isinstance(node, ast.Attribute):
        of_parameter = isinstance(node.value, ast.Name) and node.value.id == parameter
        return True if of_parameter and node.attr == "requires_grad" else _UNKNOWN
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        value = _value(node.operand, known, parameter)
        return value if value is _UNKNOWN else not value
    if isinstance(node, ast.BoolOp):
        return _bool(node, known, parameter)
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _compared(node, known, parameter)
    if isinstance(node, ast.Subscript):
        of, at = (_value(one, known, parameter) for one in (node.value, node.slice))
        is_known = isinstance(of, str | list | tuple) and isinstance(at, int)
        return of[at] if is_known and -len(of) <= at < len(of) else _UNKNOWN
    if isinstance(node, ast.JoinedStr):
        return _joined(node, known, parameter)
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        values = _each(node, known, parameter)
        return _UNKNOWN if values is None or _UNKNOWN in values else values
    return _called(node, known, parameter) if isinstance(node, ast.Call) else _UNKNOWN


def _joined(node: ast.JoinedStr, known: dict[str, Any], parameter: str) -> Any:
    """``f"blocks.{number}"``, without formats."""
    if any(isinstance(one, ast.FormattedValue) and (one.format_spec or one.conversion != -1) for one in node.values):
        return _UNKNOWN
    parts = [one.value if isinstance(one, ast.FormattedValue) else one for one in node.values]
    values = _all(parts, known, parameter)
    return "".join(map(str, values)) if values is not _UNKNOWN else _UNKNOWN


def _all(nodes: list[ast.expr], known: dict[str, Any], parameter: str) -> Any:
    values = [_value(one, known, parameter) for one in nodes]
    return _UNKNOWN if _UNKNOWN in values else values


def _bool(node: ast.BoolOp, known: dict[str, Any], parameter: str) -> Any:
    ends_with = isinstance(node.op, ast.Or)
    values = [_value(one, known, parameter) for one in node.values]
    if any(value is not _UNKNOWN and bool(value) is ends_with for value in values):
        return ends_with
    return _UNKNOWN if _UNKNOWN in values else not ends_with


def _compared(node: ast.Compare, known: dict[str, Any], parameter: str) -> Any:
    first, second = _value(node.left, known, parameter), _value(node.comparators[0], known, parameter)
    if first is _UNKNOWN or second is _UNKNOWN:
        return _UNKNOWN
    if isinstance(node.ops[0], ast.Eq | ast.NotEq):
        return (first == second) is isinstance(node.ops[0], ast.Eq)
    if isinstance(node.ops[0], ast.In | ast.NotIn) and isinstance(first, str) and isinstance(second, str | list):
        return (first in second) is isinstance(node.ops[0], ast.In)
    return _UNKNOWN


def _called(node: ast.Call, known: dict[str, Any], parameter: str) -> Any:
    called = node.func
    if isinstance(called, ast.Name) and called.id in ("any", "all") and len(node.args) == 1:
        values = _each(node.args[0], known, parameter)
        if values is None or _UNKNOWN in values:
            return _UNKNOWN
        return any(values) if called.id == "any" else all(values)
    if isinstance(called, ast.Name) and called.id in ("tuple", "list", "range") and not node.keywords:
        values = _all(node.args, known, parameter)
        is_range = called.id == "range" and values is not _UNKNOWN and all(type(one) is int for one in values)
        if is_range and 1 <= len(values) <= _RANGE and max(map(abs, values)) <= _LARGEST:
            return [*range(*values)]
        is_list = called.id != "range" and values is not _UNKNOWN and len(values) == 1 and isinstance(values[0], list)
        return values[0] if is_list else _UNKNOWN
    if not isinstance(called, ast.Attribute) or node.keywords:
        return _UNKNOWN
    given = _all(node.args, known, parameter)
    if given is _UNKNOWN:
        return _UNKNOWN
    if (
        isinstance(called.value, ast.Name)
        and called.value.id == "re"
        and called.attr in ("search", "match", "fullmatch")
    ):
        is_text = len(given) == 2 and all(isinstance(one, str) for one in given)
        return bool(getattr(re, called.attr)(*given)) if is_text else _UNKNOWN
    of = _value(called.value, known, parameter)
    if not isinstance(of, str) or called.attr not in _TEXT_METHODS:
        return _UNKNOWN
    try:
        return getattr(of, called.attr)(*(tuple(one) if isinstance(one, list) else one for one in given))
    except (TypeError, ValueError):
        return _UNKNOWN


def _each(node: ast.expr, known: dict[str, Any], parameter: str) -> list[Any] | None:
    """What a comprehension has: of ``any(key in name for key in keys)``. None for others."""
    if not isinstance(node, ast.GeneratorExp | ast.ListComp) or len(node.generators) != 1:
        return None
    loop = node.generators[0]
    items = _value(loop.iter, known, parameter)
    if not isinstance(items, list | tuple) or not isinstance(loop.target, ast.Name) or loop.ifs:
        return None
    return [_value(node.elt, {**known, loop.target.id: item}, parameter) for item in items]
