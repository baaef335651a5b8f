"""The forward and the backward of a custom Function as formulas of single numbers, evaluated from their source.

Only element-wise formulas of smooth functions are: what goes over several elements, branches, steps, or calls anything
else is not known, and nothing is said of it. The program itself is not run again.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward

Value = complex | tuple[complex, ...] | None
"""Numbers are of the kind that is evaluated: float, or complex."""

_GIVEN = 0.013
"""The gradient that the backward is given: small, so that one that clips it leaves it as it is."""
_STEP = 1e-5
_POINTS = ((0.37, 0.81), (1.21, 0.55), (0.73, 1.37), (1.63, 1.09), (-0.47, 0.62), (-1.13, 1.45), (0.52, -0.84))
"""Values of the arguments, of which further ones take the sum of two."""
_ENOUGH = 3
"""Points at which the formulas must have a value."""
_TOLERANCE = 0.03
"""Relative difference of two derivatives that is none: an approximation, a small number against division by zero."""
_DIGITS = 1e-3
"""Absolute difference that is none, for the same reason."""


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


_SMOOTH: dict[str, Callable[..., complex]] = {
    "exp": math.exp,
    "log": math.log,
    "log1p": math.log1p,
    "expm1": math.expm1,
    "log2": math.log2,
    "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x),
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "sin": math.sin,
    "cos": math.cos,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "atan": math.atan,
    "arctan": math.atan,
    "erf": math.erf,
    "square": lambda x: x * x,
    "pow": lambda x, y: math.pow(x, y),
    "reciprocal": lambda x: 1 / x,
    "neg": lambda x: -x,
    "softplus": lambda x: math.log1p(math.exp(x)),
    "silu": lambda x: x * _sigmoid(x),
    "logsigmoid": lambda x: -math.log1p(math.exp(-x)),
    "mul": lambda x, y: x * y,
    "multiply": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
}
"""Functions of torch, or methods, that have a derivative everywhere."""

_BACKWARD_ONLY: dict[str, Callable[..., complex]] = {
    "ones_like": lambda _: 1.0,
    "zeros_like": lambda _: 0.0,
    "clamp": lambda x, low=-math.inf, high=math.inf: min(max(x, low), high),
    "abs": abs,
}
"""What may come in a backward besides."""

_AS_IT_IS = frozenset(
    "clone detach contiguous float double to type_as view_as reshape_as expand_as requires_grad_".split()  # noqa: SIM905
)
"""Methods that leave a number as it is."""


class WrongDerivative(NamedTuple):
    """A gradient that a backward's formula gives, and what follows from that of forward."""

    position: int
    argument: str
    at: dict[str, float]
    """The values of forward's arguments, one of the points."""
    given: float
    """What backward's formula gives for an incoming gradient of 1."""
    derivative: float


class UnknownFormulaError(Exception):
    """A part of a source that is not evaluated."""


def wrong_derivatives(written: WrittenBackward) -> Iterator[WrongDerivative]:
    """The arguments for which backward has another derivative than forward, as their sources have them.

    Nothing for a backward that passes on what it is given, or where another one may be meant: for an argument that
    forward only multiplies by a number, or where forward does nothing with an argument, which backward may have as a
    factor.
    """
    forward = written.forward
    if forward is None or forward.args.vararg is not None or forward.args.kwarg is not None:
        return
    names = [one.arg for one in forward.args.args][1:]
    if not 0 < len(names) <= len(_POINTS[0]) + 1 or len(written.definition.args.args) != 2:
        return
    rows = [row for point in _POINTS if (row := _row(written, forward, names, _values(names, point))) is not None]
    if any(all(not slopes[position] for _, slopes, _ in rows) for position in range(len(names))):
        return
    for position, name in enumerate(names):
        columns = [(values, slopes[position], gives[position]) for values, slopes, gives in rows]
        compared = [(values, slope, given) for values, slope, given in columns if given is not None]
        if len(compared) >= _ENOUGH and _is_another(compared, len(names)):
            values, slope, given = max(compared, key=lambda one: abs(one[1] - one[2]))
            yield WrongDerivative(position, name, values, given, slope)


def _is_another(compared: list[tuple[dict[str, float], float, float]], arguments: int) -> bool:
    """Whether two derivatives differ, in a way that nobody means."""
    differing = [(slope, given) for _, slope, given in compared if not _agree(slope, given)]
    is_passed_on = all(_agree(compared[0][2], given) for *_, given in compared)
    if is_passed_on or 3 * len(differing) < 2 * len(compared):
        return False
    ratios = [given / slope for slope, given in differing if slope]
    is_multiple = len(ratios) == len(compared) and all(math.isclose(one, ratios[0], rel_tol=1e-3) for one in ratios)
    is_linear = all(_agree(compared[0][1], slope) for _, slope, _ in compared)
    return not is_linear and (arguments == 1 or not is_multiple)


def _agree(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_DIGITS)


def _values(names: list[str], point: tuple[float, float]) -> dict[str, float]:
    return dict(zip(names, (*point, sum(point)), strict=False))


def _row(
    written: WrittenBackward, forward: Definition, names: list[str], values: dict[str, float]
) -> tuple[dict[str, float], list[float], list[float | None]] | None:
    """At one point the derivatives of forward by its arguments, and what backward gives; None where one is unknown."""
    try:
        slopes: list[float] = []
        for name in names:
            above, below = (
                FormulaRun(forward, {**values, name: values[name] + step}).returned() for step in (_STEP, -_STEP)
            )
            if not isinstance(above, float) or not isinstance(below, float):
                return None
            slopes.append((above - below) / (2 * _STEP))
        kept = FormulaRun(forward, values)
        kept.returned()
        incoming = written.definition.args.args[1].arg
        gives = FormulaRun(written.definition, {incoming: _GIVEN}, kept).returned()
    except (UnknownFormulaError, ArithmeticError, ValueError, TypeError):
        return None
    elements = gives if isinstance(gives, tuple) else (gives,)
    if len(elements) != len(names):
        return None
    if any(isinstance(one, tuple) for one in elements):
        return None
    return values, slopes, [one / _GIVEN if isinstance(one, float) else None for one in elements]


class FormulaRun:
    """One evaluation of a method's body.

    Args:
        definition: The method.
        values: Its arguments but ctx.
        kept: The evaluation of forward, where it is that of backward.
    """

    kind: ClassVar[type[float] | type[complex]] = float

    def __init__(self, definition: Definition, values: Mapping[str, complex], kept: FormulaRun | None = None) -> None:
        self._definition = definition
        self._context = definition.args.args[0].arg
        self._names: dict[str, Value] = dict(values)
        self._is_backward = kept is not None
        self.saved: tuple[complex, ...] = kept.saved if kept is not None else ()
        self.attributes: dict[str, complex] = dict(kept.attributes) if kept is not None else {}

    def returned(self) -> Value | tuple[Value, ...]:
        """What the method returns."""
        for statement in self._definition.body:
            if isinstance(statement, ast.Return) and statement.value is not None:
                value = statement.value
                return tuple(map(self._value, value.elts)) if isinstance(value, ast.Tuple) else self._value(value)
            self._run(statement)
        raise UnknownFormulaError

    def _run(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Expr):
            self._expression(statement.value)
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                self._assign(target, statement.value)
        elif isinstance(statement, ast.If) and self._asks_what_is_needed(statement.test):
            for one in statement.body:
                self._run(one)
        elif isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            left = ast.Name(statement.target.id, ast.Load())
            self._names[statement.target.id] = self._value(ast.BinOp(left, statement.op, statement.value))
        else:
            raise UnknownFormulaError

    def _expression(self, value: ast.expr) -> None:
        """A docstring, or a call that saves."""
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return
        is_saving = isinstance(value, ast.Call) and self._attribute(value.func) == "save_for_backward"
        if not is_saving or not isinstance(value, ast.Call) or value.keywords:
            raise UnknownFormulaError
        self.saved = tuple(map(self._number, value.args))

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._names[target.id] = self._value(value)
        elif attribute := self._attribute(target):
            self.attributes[attribute] = self._number(value)
        elif isinstance(target, ast.Tuple | ast.List):
            found = self._value(value) if not isinstance(value, ast.Tuple) else tuple(map(self._number, value.elts))
            if not isinstance(found, tuple) or len(found) != len(target.elts):
                raise UnknownFormulaError
            for one, number in zip(target.elts, found, strict=True):
                if not isinstance(one, ast.Name):
                    raise UnknownFormulaError
                self._names[one.id] = number
        else:
            raise UnknownFormulaError

    def _attribute(self, node: ast.expr) -> str:
        """The attribute of ctx that an expression is; empty for others."""
        is_one = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        return node.attr if is_one and node.value.id == self._context else ""  # type: ignore[attr-defined]

    def _asks_what_is_needed(self, test: ast.expr) -> bool:
        """Whether a condition is that an input needs its gradient, as the one that is looked at does."""
        return isinstance(test, ast.Subscript) and self._attribute(test.value) == "needs_input_grad"

    def _number(self, node: ast.expr) -> complex:
        value = self._value(node)
        if not isinstance(value, self.kind):
            raise UnknownFormulaError
        return value

    def _value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant):
            if node.value is None:
                return None
            if isinstance(node.value, int | float) and not isinstance(node.value, bool):
                return self.kind(node.value)
        elif isinstance(node, ast.Name) and node.id in self._names:
            return self._names[node.id]
        elif isinstance(node, ast.Attribute):
            return self._of_attribute(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            held = self._value(node.value)
            if isinstance(held, tuple) and isinstance(node.slice.value, int):
                return held[node.slice.value]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            number = self._number(node.operand)
            return -number if isinstance(node.op, ast.USub) else number
        elif isinstance(node, ast.BinOp):
            return self._operation(node)
        elif isinstance(node, ast.IfExp) and self._asks_what_is_needed(node.test):
            return self._value(node.body)
        elif isinstance(node, ast.Call):
            return self._call(node)
        raise UnknownFormulaError

    def _of_attribute(self, node: ast.Attribute) -> Value:
        attribute = self._attribute(node)
        if attribute == "saved_tensors" and self._is_backward:
            return self.saved
        if attribute in self.attributes:
            return self.attributes[attribute]
        if isinstance(node.value, ast.Name) and node.value.id == "math" and node.attr in ("pi", "e"):
            return self.kind(getattr(math, node.attr))
        raise UnknownFormulaError

    def _operation(self, node: ast.BinOp) -> complex:
        left, right = self._number(node.left), self._number(node.right)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
        if isinstance(node.op, ast.Pow):
            return self._power(left, right)
        raise UnknownFormulaError

    def _power(self, base: complex, exponent: complex) -> complex:
        return math.pow(base.real, exponent.real)

    def _known(self, name: str) -> Callable[..., complex] | None:
        return _SMOOTH.get(name) or (_BACKWARD_ONLY.get(name) if self._is_backward else None)

    def _call(self, node: ast.Call) -> complex:
        if not isinstance(node.func, ast.Attribute):
            raise UnknownFormulaError
        name, owner = node.func.attr, node.func.value
        known = self._known(name)
        if name in _AS_IT_IS:
            return self._number(owner)
        is_function = self.is_library(owner)  # (of one element the sum is the element)
        if name in ("sum", "sum_to_size") and self._is_backward:
            return self._number(node.args[0] if is_function else owner)
        if known is None:
            raise UnknownFormulaError
        if node.keywords:
            raise UnknownFormulaError
        arguments = [*([] if is_function else [owner]), *node.args]
        value = known(*map(self._number, arguments))
        return value.real if self.kind is float else complex(value)

    @staticmethod
    def is_library(owner: ast.expr) -> bool:
        """Whether functions are called of a module: ``torch``, ``F``, ``torch.nn.functional``, ``math``."""
        while isinstance(owner, ast.Attribute):
            owner = owner.value
        return isinstance(owner, ast.Name) and owner.id in ("torch", "F", "math", "nn", "functional")
