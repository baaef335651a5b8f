"""The call by which the elements of a vector come together in what a function gives, as its source has it.

For a forward that computes in numpy, of which no call is recorded. It is told where argument and result are known to
be vectors: then a system that is solved, a product with a matrix, a running sum mix their elements for certain.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed
from gradscope.frames.values.products_with_vjps import BoundOnce

_SOLVES = frozenset(("solve", "spsolve", "solve_triangular", "lu_solve", "cho_solve"))
_ALONG = frozenset(("cumsum", "cumprod", "convolve", "correlate", "fft", "ifft", "rfft", "dct"))
_PRODUCTS = frozenset(("dot", "matmul"))
_WRAPS = frozenset(("from_numpy", "as_tensor", "tensor"))
_KEEPS = frozenset(("to", "float", "double", "type_as", "contiguous", "clone"))
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


class MixingCall(NamedTuple):
    """One, by its lines."""

    text: str
    line: int
    end_line: int


def mixing_call(text: str, line: int) -> MixingCall | None:
    """What the first result of a forward is made by; None where that is not seen, or mixes nothing for certain.

    Args:
        text: Of the file.
        line: Of the ``def`` of the forward.
    """
    tree = parsed(text)
    forward = next(
        (one for one in ast.walk(tree) if isinstance(one, _FUNCTION) and one.lineno == line) if tree else iter(()), None
    )
    if tree is None or forward is None:
        return None
    values = _returned(forward)
    given = frozenset(one.arg for one in forward.args.args[1:])
    if values is None:
        return None
    value, bound = values
    if (found := _mixes(value, bound, given)) is not None:
        return found
    called = _function_called(tree, forward, value) if isinstance(value, ast.Call) else None
    if called is None or not any(bound.carries(one, given) for one in value.args):  # type: ignore[attr-defined]
        return None
    inner = _returned(called)
    own = frozenset(one.arg for one in called.args.args if one.arg not in ("self", "cls"))
    return _mixes(*inner, own) if inner is not None and len(own) == 1 else None


def _returned(function: _FUNCTION) -> tuple[ast.expr, BoundOnce] | None:
    """What a function with one ``return`` of its own gives first, through names and conversions."""
    inside = {
        part for one in ast.walk(function) if isinstance(one, _FUNCTION | ast.Lambda) and one is not function
        for part in ast.walk(one)
    }  # fmt: skip
    returns = [one for one in ast.walk(function) if isinstance(one, ast.Return) and one not in inside]
    if len(returns) != 1 or returns[0].value is None:
        return None
    value, bound = returns[0].value, BoundOnce(function)
    value = value.elts[0] if isinstance(value, ast.Tuple) and value.elts else value
    while isinstance(value, ast.Call | ast.Name):
        inner: ast.expr | None = None
        if isinstance(value, ast.Name):
            inner = bound.whole(value.id)
        elif last_name(value.func) in _WRAPS and value.args:
            inner = value.args[0]
        elif last_name(value.func) in _KEEPS and isinstance(value.func, ast.Attribute):
            inner = value.func.value
        if inner is None:
            break
        value = inner
    return value, bound


def _mixes(value: ast.expr, bound: BoundOnce, given: frozenset[str]) -> MixingCall | None:
    found = False
    if isinstance(value, ast.Call):
        name = last_name(value.func)
        owner = value.func.value if isinstance(value.func, ast.Attribute) else None
        operands = [*value.args, *([owner] if owner is not None else [])]
        if name in _SOLVES:
            found = any(bound.carries(one, given) for one in value.args[:2])
        elif name in _ALONG:
            found = any(_is_plain(one, given) for one in operands[:1])
        elif name in _PRODUCTS:
            found = any(_is_plain(one, given) for one in operands) and not all(
                _is_plain(one, given) for one in operands
            )
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.MatMult):
        found = _is_plain(value.left, given) != _is_plain(value.right, given)
    return MixingCall(ast.unparse(value), value.lineno, value.end_lineno or value.lineno) if found else None


def _is_plain(value: ast.expr, given: frozenset[str]) -> bool:
    """Whether an expression is an argument itself, or made of it element by element by operators."""
    parts = list(ast.walk(value))
    allowed = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)
    is_simple = all(isinstance(one, allowed) and not isinstance(one, ast.MatMult) for one in parts)
    return is_simple and any(isinstance(one, ast.Name) and one.id in given for one in parts)


def _function_called(tree: ast.Module, forward: _FUNCTION, call: ast.Call) -> _FUNCTION | None:
    """The only function of the file that a call of a forward can be of.

    An argument of the function around the class is what the calls of that give it.
    """
    name = last_name(call.func)
    for around in ast.walk(tree):
        if not isinstance(around, _FUNCTION) or around is forward or forward not in ast.walk(around):
            continue
        arguments = [one.arg for one in around.args.args]
        if isinstance(call.func, ast.Name) and name in arguments:
            at = arguments.index(name)
            calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and last_name(one.func) == around.name]
            handed = {last_name(one.args[at]) if len(one.args) > at else "" for one in calls}
            if len(handed) != 1:
                return None
            (name,) = handed
    named = [one for one in ast.walk(tree) if isinstance(one, _FUNCTION) and one.name == name and one is not forward]
    return named[0] if name and len(named) == 1 else None
