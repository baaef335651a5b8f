"""A factor that a Function's forward multiplies by and keeps for its backward, which then never reads it.

``return tensor * constant`` with ``ctx.constant = constant``, and a backward that hands on what it is given. A backward
may give another derivative than forward's on purpose, a straight-through estimate; but what it means not to use, it
need not keep. Forwards with steps, branches or comparisons are left out, as are Functions whose text says so.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import incoming, names_made_from
from gradscope.analysis.facts.derivatives.function_sources import Definition, Lines, WrittenBackward, attribute_of

_MEANT = re.compile(
    r"\bste\b|\bS[Tt][Ee](?=[A-Z_\d]|\b)|STE\b|(?i:straight|pass(es|ed)?[- _]?through|identity|surrogate|biased)"
)

_SMOOTH = frozenset(
    """
    exp log log1p expm1 sqrt rsqrt sigmoid tanh sin cos sinh cosh atan erf square pow reciprocal neg softplus silu gelu
    mul multiply div divide true_divide add sub sum mean matmul mm bmm mv dot einsum linear conv1d conv2d conv3d softmax
    log_softmax clone detach contiguous float double to type_as view view_as reshape flatten t transpose permute
    unsqueeze squeeze expand expand_as item
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions and methods that have a derivative everywhere, and ``float(scale)``."""

_MULTIPLIES = frozenset(("mul", "multiply", "mul_"))
_DIVIDES = frozenset(("div", "divide", "true_divide", "div_"))


class FactorLeftOut(NamedTuple):
    """A factor of what forward returns."""

    factor: str
    """As forward has it."""
    attribute: str
    """Under which name ctx keeps what it is computed from."""
    divides: bool
    multiplied: ast.stmt
    """The statement of forward that does."""
    positions: list[int]
    """The arguments of forward whose gradient lacks it."""


def factor_left_out(written: WrittenBackward, text: str) -> FactorLeftOut | None:
    """The factor that a backward lacks; None where its text does not show one for certain, or says that it is meant.

    Args:
        written: The Function; its backward has one ``return``.
        text: The source of its file.
    """
    forward = written.forward
    if forward is None or len(written.returns) != 1 or _says_so(written, text):
        return None
    kept = _KeptForBackward.of(written, forward)
    if kept is None or not _is_smooth(forward):
        return None
    found = (_left_out(written, forward, kept, product) for product in _products(forward))
    return next((one for one in found if one is not None), None)


def _left_out(
    written: WrittenBackward, forward: Definition, kept: _KeptForBackward, product: _Product
) -> FactorLeftOut | None:
    rest = {name for one in product.rest for name in _names(one)}
    argument = _argument_of(product.factor, kept)
    attribute = next((name for name, one in kept.arguments_of.items() if one == argument), "")
    depends = _made_from(forward, argument)
    if not attribute or depends & rest or _reads(written.definition, attribute, depends, kept):
        return None
    value = written.returns[0].value
    given = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
    tracked = names_made_from(written.definition, incoming(written)[0]) if incoming(written) else set()
    positions = [
        place
        for place, (name, element) in enumerate(zip(kept.arguments, given, strict=False))
        if element is not None and _made_from(forward, name) & rest and tracked & _names(element)
    ]
    if len(given) not in (1, len(kept.arguments)) or not positions:
        return None
    return FactorLeftOut(ast.unparse(product.factor), attribute, product.divides, product.statement, positions)


def _argument_of(factor: ast.expr, kept: _KeptForBackward) -> str:
    """The one argument that a factor is computed from, besides numbers; empty where it is not of one alone."""
    named = _names(factor) - {"math", kept.context}
    named |= {
        kept.arguments_of.get(attribute_of(one, kept.context), "?")
        for one in ast.walk(factor)
        if isinstance(one, ast.Attribute) and attribute_of(one, kept.context)
    }
    return named.pop() if len(named) == 1 else ""


def _says_so(written: WrittenBackward, text: str) -> bool:
    """Whether the text of the class speaks of an estimate."""
    methods = [one for one in (written.forward, written.definition) if one is not None]
    first, last = min(one.lineno for one in methods), max(one.end_lineno or one.lineno for one in methods)
    lines = text.splitlines()
    # (a docstring or a comment stands above the first method)
    above = next((at for at in range(first - 1, 0, -1) if lines[at - 1 : at] and "class " in lines[at - 1]), first)
    return _MEANT.search("\n".join([written.name, *lines[max(above - 2, 0) : last]])) is not None


class _KeptForBackward(NamedTuple):
    """What forward, or ``setup_context``, keeps for backward."""

    context: str
    """What forward calls its ctx; empty where it has none."""
    arguments: list[str]
    """Those of forward."""
    arguments_of: dict[str, str]
    """Of each attribute of ctx the argument that it is, where it is one."""
    values_of: dict[str, set[str]]
    """Of each attribute the names that its value is made of; of ``saved_tensors`` all that is saved."""

    @classmethod
    def of(cls, written: WrittenBackward, forward: Definition) -> _KeptForBackward | None:
        """None where it is not known what is kept."""
        keeping, known = written.methods.get("setup_context"), forward.args
        if known.vararg is not None or known.kwarg is not None or known.kwonlyargs:
            return None
        names = [one.arg for one in (*known.posonlyargs, *known.args)]
        context, arguments = ("", names) if keeping is not None else (names[0], names[1:]) if names else ("", [])
        where = forward if keeping is None else keeping
        ctx = where.args.args[0].arg if where.args.args else ""
        called = {} if keeping is None else _given_names(keeping, arguments)
        attributes: dict[str, str] = {}
        values: dict[str, set[str]] = {}
        for part in ast.walk(where):
            if isinstance(part, ast.Call) and attribute_of(part.func, ctx) == "save_for_backward":
                values.setdefault("saved_tensors", set()).update(name for one in part.args for name in _names(one))
            if isinstance(part, ast.Assign) and len(part.targets) == 1 and attribute_of(part.targets[0], ctx):
                attr = attribute_of(part.targets[0], ctx)
                if attr in values:
                    return None
                values[attr] = {called.get(name, name) for name in _names(part.value)}
                value = part.value
                name = called.get(ast.unparse(value), value.id if isinstance(value, ast.Name) else "")
                if name in arguments:
                    attributes[attr] = name
        return cls(context, arguments, attributes, values)


def _given_names(keeping: Definition, arguments: list[str]) -> dict[str, str]:
    """What ``setup_context`` calls the arguments of forward: by names that it unpacks, or by their places."""
    inputs = keeping.args.args[1].arg if len(keeping.args.args) > 1 else ""
    found = {f"{inputs}[{place}]": name for place, name in enumerate(arguments)}
    for part in ast.walk(keeping):
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Name) and part.value.id == inputs:
            target = part.targets[0]
            if isinstance(target, ast.Tuple) and len(target.elts) == len(arguments):
                found |= {
                    one.id: name for one, name in zip(target.elts, arguments, strict=True) if isinstance(one, ast.Name)
                }
    return found


def _is_smooth(forward: Definition) -> bool:
    """Whether a forward is one formula, of functions that have a derivative, and binds no name twice."""
    bound = [one.arg for one in forward.args.args]
    for part in ast.walk(forward):
        if isinstance(
            part, ast.Compare | ast.If | ast.IfExp | ast.For | ast.While | ast.With | ast.Lambda | ast.AugAssign
        ):
            return False
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            bound.append(part.id)
        if isinstance(part, ast.Call):
            func = part.func
            name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
            is_of_ctx = isinstance(func, ast.Attribute) and getattr(func.value, "id", "") == forward.args.args[0].arg
            if not is_of_ctx and name not in _SMOOTH:
                return False
    return len(bound) == len(set(bound))


class _Product(NamedTuple):
    """Something times a name, or divided by it."""

    statement: ast.stmt
    rest: list[ast.expr]
    """The other factors, and what they are divided by."""
    factor: ast.expr
    divides: bool


def _products(forward: Definition) -> Iterator[_Product]:
    """What forward returns as a product, by each of its factors."""
    returns = [one for one in ast.walk(forward) if isinstance(one, ast.Return)]
    if len(returns) != 1 or returns[0].value is None:
        return
    statement: ast.stmt = returns[0]
    value: ast.expr = returns[0].value
    if isinstance(value, ast.Name):
        made = [
            one
            for one in ast.walk(forward)
            if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and one.targets[0].id == value.id
        ]
        if len(made) != 1:
            return
        statement, value = made[0], made[0].value
    factors = list(_factors(value, divides=False))
    for place, (factor, divides) in enumerate(factors if len(factors) > 1 else ()):
        yield _Product(statement, [one for at, (one, _) in enumerate(factors) if at != place], factor, divides)


def _factors(value: ast.expr, *, divides: bool) -> Iterator[tuple[ast.expr, bool]]:
    """The factors of a product, and whether it is divided by them."""
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        yield from _factors(value.operand, divides=divides)
        return
    sides = _sides(value)
    if sides is None:
        yield value, divides
        return
    left, right, is_quotient = sides
    yield from _factors(left, divides=divides)
    yield from _factors(right, divides=divides != is_quotient)


def _sides(value: ast.expr) -> tuple[ast.expr, ast.expr, bool] | None:
    """Both sides of a multiplication or a division, and whether it is the latter."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult | ast.Div):
        return value.left, value.right, isinstance(value.op, ast.Div)
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or value.keywords:
        return None
    name, owner = value.func.attr, value.func.value
    is_function = isinstance(owner, ast.Name) and owner.id == "torch"
    given = value.args if is_function else [owner, *value.args]
    if len(given) != 2 or name not in _MULTIPLIES | _DIVIDES:
        return None
    return given[0], given[1], name in _DIVIDES


def _made_from(forward: Definition, name: str) -> set[str]:
    """The names of a forward that hold what was computed from an argument."""
    found = {name}
    for part in forward.body:
        if isinstance(part, ast.Assign) and not found.isdisjoint(_names(part.value)):
            found |= {one.id for one in part.targets if isinstance(one, ast.Name)}
    return found


def _reads(backward: Definition, attribute: str, depends: set[str], kept: _KeptForBackward) -> bool:
    """Whether a backward reads what ctx keeps of a factor, or of what was computed with it, or may do so."""
    ctx = backward.args.args[0].arg if backward.args.args else ""
    attributes = [part for part in ast.walk(backward) if isinstance(part, ast.Attribute) and attribute_of(part, ctx)]
    named = [part for part in ast.walk(backward) if isinstance(part, ast.Name) and part.id == ctx]
    read = {attribute_of(part, ctx) for part in attributes}
    of_result = {"output", "outputs", "result"}  # (what setup_context is given)
    return (
        len(named) != len(attributes)
        or attribute in read
        or any(kept.values_of.get(one, set()) & (depends | of_result) for one in read)
    )


def _names(part: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(part) if isinstance(one, ast.Name)}


def places_of(written: WrittenBackward, found: FactorLeftOut) -> Iterator[Lines]:
    """The lines of backward that compute what lacks the factor, and its ``return``."""
    for position in found.positions:
        yield from written.computed_at(position)
    yield written.lines_of(written.returns[0])
