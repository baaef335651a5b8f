"""A custom Function whose forward clamps a value, and whose backward goes by another one to tell where it did.

``return (x * gain).clamp(-limit, limit)``, and a backward that gives the gradient where ``x.abs() <= limit``. Both are
evaluated as formulas of single numbers, from their source, at many points. What may be meant is left out: a gradient
that passes everywhere, or between other bounds than the clamp's; a mask of the clamped value itself that leaves one
side open; and one that goes by the gradient that comes in.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward
from gradscope.analysis.facts.losses.scalar_formulas import FormulaRun, UnknownFormulaError, Value

_POINTS = 400
_LARGEST = 2.6
"""Values of the arguments are drawn up to this, positive and negative, anew in the same way in each run of ours."""
_ARGUMENTS = 5
_INCOMING = (0.013, -0.021)
"""The gradients that the backward is given."""
_STEP = 1e-5
_APART = 0.05
"""How far from a bound a value has to be for it to be sure on which side it is."""
_ENOUGH = 12
"""Points that have to be known within the bounds, and as many outside them."""
_SURE = 4
"""Points at which the two have to disagree."""

_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
}
_OPERATORS: dict[type[ast.cmpop], str] = {ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}
_JOINED: dict[type[ast.operator], Callable[[float, float], float]] = {ast.BitAnd: min, ast.BitOr: max}
_LOGICAL: dict[str, Callable[..., float]] = {
    "logical_and": min,
    "logical_or": max,
    "logical_not": lambda x: 1 - x,
    "abs": abs,
    "round": lambda x: x,  # (a straight-through estimate goes by the value before as well as by the one after)
    "bool": lambda x: x,
}
_CLAMPS = frozenset("clamp clip clamp_min clamp_max relu hardtanh".split())  # noqa: SIM905


class OtherMask(NamedTuple):
    """Where backward compares another value with the bounds than the one that forward clamps."""

    compared: tuple[ast.expr, ...]
    """The comparisons, of backward or of forward, which keeps the result then."""
    is_clamped: ast.expr
    """The value that forward clamps, as written."""
    arguments: tuple[str, ...]
    """Those whose gradients go by it."""
    at: dict[str, float]
    """Values of forward's arguments, at one of the points where the two disagree."""
    lets_through: bool
    """Whether backward gives a gradient there, where forward gives the bound; else it gives none within the bounds."""


class _Clamped(NamedTuple):
    value: float
    low: float
    high: float
    node: ast.expr

    @property
    def is_within(self) -> bool:
        return self.low < self.value < self.high

    @property
    def result(self) -> float:
        return min(max(self.value, self.low), self.high)

    @property
    def is_sure(self) -> bool:
        return self.low < self.high and min(abs(self.value - self.low), abs(self.value - self.high)) > _APART


class _ComparedWithBound(NamedTuple):
    left: float
    right: float
    node: ast.expr

    def against(self, clamped: _Clamped) -> float | None:
        """What is compared with a bound of the clamp; None where it is another bound."""
        for one, bound in ((self.left, self.right), (self.right, self.left)):
            if any(math.isclose(bound, known, abs_tol=1e-9) for known in (clamped.low, clamped.high)):
                return one
        return None


class _PointOfClamp(NamedTuple):
    values: dict[str, float]
    clamped: _Clamped
    compared: list[_ComparedWithBound]
    open_slopes: list[float]
    """The derivatives by the arguments that forward would have if it did not clamp."""
    gives: list[float | None]
    """What backward gives for a gradient of 1."""


def other_mask(written: WrittenBackward) -> OtherMask | None:
    """What the sources of a Function show of that; None where they do not, or are not evaluated."""
    forward = written.forward
    if forward is None or forward.args.vararg is not None or forward.args.kwarg is not None:
        return None
    names = [one.arg for one in forward.args.args][1:]
    if not 0 < len(names) <= _ARGUMENTS or len(written.definition.args.args) != 2:
        return None
    draws, rows = Random(0), list[_PointOfClamp]()
    for _ in range(_POINTS):
        values = {name: draws.uniform(-_LARGEST, _LARGEST) for name in names}
        try:
            row = _row(written, forward, values)
        except (ArithmeticError, ValueError):
            continue
        except (UnknownFormulaError, TypeError):
            return None
        if row is not None:
            rows.append(row)
    return _judged(names, rows)


def _judged(names: list[str], rows: list[_PointOfClamp]) -> OtherMask | None:
    within = sum(row.clamped.is_within for row in rows)
    if min(within, len(rows) - within) < _ENOUGH or not all(row.compared for row in rows):
        return None
    others: dict[ast.expr, None] = {}
    for row in rows:
        for one in row.compared:
            value = one.against(row.clamped)
            if value is None:
                return None
            if not _is_alike(value, row.clamped.value):
                others[one.node] = None
    is_of_result = all(_is_alike(one.against(row.clamped), row.clamped.result) for row in rows for one in row.compared)
    found = {position: wrong for position in range(len(names)) if (wrong := _wrong(position, rows, is_of_result))}
    if not others or not found:
        return None
    wrong = next(iter(found.values()))
    last = next((row for row in wrong if not row.clamped.is_within), wrong[-1])
    arguments = tuple(names[position] for position in found)
    return OtherMask(tuple(others), last.clamped.node, arguments, last.values, not last.clamped.is_within)


def _is_alike(one: float | None, other: float) -> bool:
    """Whether two values are the same, but for the sign."""
    return one is not None and math.isclose(abs(one), abs(other), abs_tol=1e-6)


def _wrong(position: int, rows: list[_PointOfClamp], is_of_result: bool) -> list[_PointOfClamp]:
    """The points at which a gradient is there although forward clamps, or is not although it does not.

    None of them where it is anything else than the right one between the bounds with a mask before it: one that leaves
    something out, or asks whether the result of the clamp is within its bounds, which it always is.
    """
    passed = kept_back = 0
    wrong: list[_PointOfClamp] = []
    for row in rows:
        given, slope = row.gives[position], row.open_slopes[position]
        if given is None:
            return []
        if abs(slope) < _APART:
            continue
        is_there = math.isclose(given, slope, rel_tol=1e-3)
        if not is_there and abs(given) > 1e-9:
            return []
        passed, kept_back = passed + is_there, kept_back + (not is_there)
        if is_there != row.clamped.is_within:
            wrong.append(row)
    return wrong if passed >= _SURE <= len(wrong) and (kept_back >= _SURE or is_of_result) else []


def _row(written: WrittenBackward, forward: Definition, values: dict[str, float]) -> _PointOfClamp | None:
    """What is known at one point; None where it is too near to a bound, or backward goes by what comes in."""
    kept = _ClampedRun(forward, values)
    kept.returned()
    if len(kept.clamped) != 1:
        raise UnknownFormulaError
    (clamped,) = kept.clamped
    incoming = written.definition.args.args[1].arg
    runs = [_ClampedRun(written.definition, {incoming: one}, kept) for one in _INCOMING]
    gives = [_elements(run.returned(), len(values), given) for run, given in zip(runs, _INCOMING, strict=True)]
    compared = [*kept.compared, *runs[0].compared]
    if not clamped.is_sure or any(0 < abs(one.left - one.right) < _APART for one in compared):
        return None
    if any((one is None) != (other is None) for one, other in zip(*gives, strict=True)):
        raise UnknownFormulaError
    if any(
        one is not None and not math.isclose(one, other or 0, abs_tol=1e-9) for one, other in zip(*gives, strict=True)
    ):
        raise UnknownFormulaError
    return _PointOfClamp(values, clamped, compared, [_open_slope(forward, values, name) for name in values], gives[0])


def _elements(value: object, count: int, incoming: float) -> list[float | None]:
    elements = value if isinstance(value, tuple) else (value,)
    if len(elements) != count or any(not isinstance(one, float | None) for one in elements):
        raise UnknownFormulaError
    return [None if one is None else one / incoming for one in elements]


def _open_slope(forward: Definition, values: dict[str, float], name: str) -> float:
    runs = [_ClampedRun(forward, {**values, name: values[name] + step}, is_open=True) for step in (_STEP, -_STEP)]
    above, below = (run.returned() for run in runs)
    if not isinstance(above, float) or not isinstance(below, float):
        raise UnknownFormulaError
    return (above - below) / (2 * _STEP)


class _ClampedRun(FormulaRun):
    """The same with comparisons, as 1 and 0, and clamps in forward; both are kept.

    Args:
        definition: The method.
        values: Its arguments but ctx.
        kept: The evaluation of forward, where it is that of backward.
        is_open: Whether a clamp is to leave its value as it is.
    """

    def __init__(
        self, definition: Definition, values: dict[str, float], kept: FormulaRun | None = None, is_open: bool = False
    ) -> None:
        super().__init__(definition, values, kept)
        self.clamped: list[_Clamped] = []
        self.compared: list[_ComparedWithBound] = []
        self._is_open = is_open

    def _run(self, statement: ast.stmt) -> None:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if (
            isinstance(target, ast.Subscript)
            and isinstance(target.value, ast.Name)
            and isinstance(statement, ast.Assign)
        ):
            mask, name = self._real(target.slice), target.value.id
            held, value = self._real(target.value), self._real(statement.value)
            self._names[name] = value if mask else held
        else:
            super()._run(statement)

    def _real(self, node: ast.expr) -> float:
        return self._number(node).real

    def _value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPERATORS:
            return self._compare(_OPERATORS[type(node.ops[0])], node, node.left, node.comparators[0])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return 1 - self._real(node.operand)
        return super()._value(node)

    def _compare(self, how: str, node: ast.expr, left: ast.expr, right: ast.expr) -> float:
        one = _ComparedWithBound(self._real(left), self._real(right), node)
        self.compared.append(one)
        return float(_COMPARED[how](one.left, one.right))

    def _operation(self, node: ast.BinOp) -> complex:
        joined = _JOINED.get(type(node.op))
        return super()._operation(node) if joined is None else joined(self._real(node.left), self._real(node.right))

    def _known(self, name: str) -> Callable[..., complex] | None:
        return _LOGICAL.get(name) or super()._known(name)

    def _call(self, node: ast.Call) -> complex:
        if not isinstance(node.func, ast.Attribute):
            raise UnknownFormulaError
        name, owner = node.func.attr, node.func.value
        arguments = [*([] if self.is_library(owner) else [owner]), *node.args]
        if name in _CLAMPS and arguments:
            return self._clamp(name, arguments, {one.arg or "": one.value for one in node.keywords})
        if name in _COMPARED and len(arguments) == 2:
            return self._compare(name, node, *arguments)
        if name in ("where", "masked_fill") and len(arguments) == 3 and not node.keywords:
            mask, other = (0, 2) if name == "where" else (1, 0)
            chosen = arguments[1 if name == "where" else 2]
            return self._real(chosen) if self._real(arguments[mask]) else self._real(arguments[other])
        return super()._call(node)

    def _clamp(self, name: str, arguments: list[ast.expr], keywords: dict[str, ast.expr]) -> float:
        low, high = -math.inf, math.inf
        if name == "relu":
            low = 0.0
        elif name == "hardtanh":
            low, high = -1.0, 1.0
        bounds = dict(zip(("max",) if name == "clamp_max" else ("min", "max"), arguments[1:], strict=False))
        for key, node in {**bounds, **keywords}.items():
            if isinstance(node, ast.Constant) and node.value is None:
                continue
            if key in ("min", "min_val"):
                low = self._real(node)
            elif key in ("max", "max_val"):
                high = self._real(node)
            elif key != "inplace":
                raise UnknownFormulaError
        value = self._real(arguments[0])
        if not self._is_backward:
            self.clamped.append(_Clamped(value, low, high, arguments[0]))
        return value if self._is_open and not self._is_backward else min(max(value, low), high)
