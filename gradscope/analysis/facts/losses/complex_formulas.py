"""The forward and the backward of a custom Function as formulas of complex numbers: whether ``conj()`` is missing.

For complex values autograd goes by the conjugate: of ``x * y`` the gradient for ``x`` is that of the product times
``y.conj()``. What follows from forward's formula is compared with what backward's gives, as it stands and with the
conjugates of what forward kept: only where these agree and that does not, it is the conjugate that is missing.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable, Iterator

from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward
from gradscope.analysis.facts.losses.scalar_formulas import FormulaRun, UnknownFormulaError

_GIVEN = (0.6 - 0.8j, -0.3 + 0.9j, 1.1 + 0.2j)
"""Gradients that the backward is given."""
_POINTS = (
    (0.37 + 0.5j, 0.81 - 0.6j, 0.4 + 1.1j),
    (1.21 - 0.9j, 0.55 + 0.7j, -0.8 + 0.3j),
    (-0.6 + 1.3j, 1.1 + 0.4j, 0.9 - 0.5j),
)
"""Values of the arguments, with one of these each."""
_STEP = 1e-5
_TOLERANCE = 1e-3

_SMOOTH: dict[str, Callable[..., complex]] = {
    "exp": cmath.exp,
    "log": cmath.log,
    "sqrt": cmath.sqrt,
    "sin": cmath.sin,
    "cos": cmath.cos,
    "tanh": cmath.tanh,
    "sinh": cmath.sinh,
    "cosh": cmath.cosh,
    "square": lambda x: x * x,
    "pow": lambda x, y: x**y,
    "reciprocal": lambda x: 1 / x,
    "neg": lambda x: -x,
    "conj": lambda x: x.conjugate(),
    "abs": abs,
    "mul": lambda x, y: x * y,
    "multiply": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
}


def without_conjugate(written: WrittenBackward) -> Iterator[tuple[int, str]]:
    """The arguments, by position and name, whose gradient lacks a conjugate, by the sources."""
    forward = written.forward
    if forward is None or forward.args.vararg is not None or forward.args.kwarg is not None:
        return
    names = [one.arg for one in forward.args.args][1:]
    if not 0 < len(names) <= len(_POINTS[0]) or len(written.definition.args.args) != 2:
        return
    try:
        rows = [
            _row(written, forward, dict(zip(names, point, strict=False)), given)
            for point, given in zip(_POINTS, _GIVEN, strict=True)
        ]
    except (UnknownFormulaError, ArithmeticError, ValueError, TypeError):
        return
    for position, name in enumerate(names):
        if all(not row[position][0] and row[position][1] for row in rows):
            yield position, name


def _row(
    written: WrittenBackward, forward: Definition, values: dict[str, complex], given: complex
) -> list[tuple[bool, bool]]:
    """For each argument whether backward agrees with forward as it stands, and with conjugates of what was kept."""
    kept = _ComplexRun(forward, values)
    kept.returned()
    incoming = written.definition.args.args[1].arg
    gives = [_elements(_ComplexRun(written.definition, {incoming: given}, kept).returned(), len(values))]
    kept.conjugate()
    gives.append(_elements(_ComplexRun(written.definition, {incoming: given}, kept).returned(), len(values)))
    row: list[tuple[bool, bool]] = []
    for position, name in enumerate(values):
        expected = sum(
            unit * (_along(forward, values, name, unit * _STEP, given) / (2 * _STEP)) for unit in (1 + 0j, 1j)
        )
        plain, conjugated = (_agree(one[position], expected) for one in gives)
        row.append((plain, conjugated))
    return row


def _along(forward: Definition, values: dict[str, complex], name: str, step: complex, given: complex) -> float:
    """How much the real number that backward goes down differs before and after a step of an argument."""
    results = [_ComplexRun(forward, {**values, name: values[name] + one}).returned() for one in (step, -step)]
    above, below = (_single(one) for one in results)
    return (given.conjugate() * (above - below)).real


def _single(value: object) -> complex:
    if not isinstance(value, complex):
        raise UnknownFormulaError
    return value


def _elements(value: object, count: int) -> tuple[object, ...]:
    elements = value if isinstance(value, tuple) else (value,)
    if len(elements) != count:
        raise UnknownFormulaError
    return elements


def _agree(one: object, other: complex) -> bool:
    """Whether two gradients are the same; one that is not given (None) is none that lacks anything."""
    return not isinstance(one, complex) or abs(one - other) <= _TOLERANCE * max(abs(one), abs(other), 1e-6)


class _ComplexRun(FormulaRun):
    """The same, where each number is complex."""

    kind = complex

    def conjugate(self) -> None:
        """Have the conjugates of what was kept."""
        self.saved = tuple(one.conjugate() for one in self.saved)
        self.attributes = {name: one.conjugate() for name, one in self.attributes.items()}

    def _power(self, base: complex, exponent: complex) -> complex:
        return complex(base**exponent)

    def _known(self, name: str) -> Callable[..., complex] | None:
        return _SMOOTH.get(name)
