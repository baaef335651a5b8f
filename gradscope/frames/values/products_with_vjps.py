"""A backward that asks for a gradient with ones in place of the one that comes in, and multiplies by that afterwards.

``vjp(torch.ones_like(g)) * g``, ``torch.autograd.grad(y.sum(), x)[0] * g``: the derivatives of all outputs are added
before each is weighted.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_names, dotted_name, last_name, own_parts

_ONES = frozenset(("ones", "ones_like", "new_ones"))
_OUTLINES = frozenset(("shape", "dtype", "device", "ndim", "size", "dim", "numel", "len", *_ONES))
"""What is read of a tensor without its values."""
_GIVES_GRADIENT = re.compile(r"vjp(_?f(u?n|unc|unction)?)?|pullback|vector_jacobian_product")
_KEEPS = frozenset(
    (
        *("from_numpy", "as_tensor", "tensor", "asarray", "numpy", "to", "float", "double", "type_as", "cpu", "detach"),
        *("view_as", "reshape", "view", "contiguous", "clone", "squeeze", "unsqueeze", "neg"),
    )
)
_DEEP = 6
_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


class ProductWithVjp(NamedTuple):
    """One."""

    asked: ast.expr
    """The call that asks for the gradient."""
    of_sum: bool
    """Whether it is asked for the sum of all outputs, and not given ones."""
    product: ast.expr
    incoming: str


class BoundOnce:
    """What the names of a function stand for that are bound once in it."""

    def __init__(self, function: _FUNCTION) -> None:
        parts = list(own_parts(function))
        stores = [one.id for one in parts if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)]
        self._values: dict[str, ast.expr] = {}
        self._firsts: dict[str, ast.expr] = {}
        for part in parts:
            if isinstance(part, ast.Assign):
                found = dict.fromkeys(assigned_names(part), part.value)
                firsts = [one.elts[0] if isinstance(one, ast.Tuple) else one for one in part.targets]
                self._firsts |= {
                    one.id: part.value for one in firsts if isinstance(one, ast.Name) and stores.count(one.id) == 1
                }
            elif isinstance(part, ast.comprehension):
                found = {one.id: part.iter for one in ast.walk(part.target) if isinstance(one, ast.Name)}
            else:
                continue
            self._values |= {name: value for name, value in found.items() if stores.count(name) == 1}

    def whole(self, name: str) -> ast.expr | None:
        """What a name was assigned, or the first of several results of."""
        return self._firsts.get(name)

    def value(self, one: ast.expr | None) -> ast.expr | None:
        """What an expression is, by the names that it goes through; a part of a call's results is the call."""
        for _ in range(_DEEP):
            if isinstance(one, ast.Name) and one.id in self._values:
                one = self._values[one.id]
            elif isinstance(one, ast.Subscript):
                one = one.value
            else:
                break
        return one

    def carries(self, one: ast.AST, names: frozenset[str], deep: int = _DEEP) -> bool:
        """Whether the values of some names go into an expression, and not only their shapes."""
        if isinstance(one, ast.Name):
            bound = self._values.get(one.id) if deep else None
            return one.id in names or (bound is not None and self.carries(bound, names, deep - 1))
        if isinstance(one, ast.Attribute) and one.attr in _OUTLINES:
            return False
        if isinstance(one, ast.Call) and last_name(one.func) in _OUTLINES:
            return False
        return any(self.carries(child, names, deep) for child in ast.iter_child_nodes(one))


def product_with_vjp(backward: _FUNCTION, forward: _FUNCTION | None) -> ProductWithVjp | None:
    """The only one that a backward with one incoming gradient returns; None where there is none, or there are several.

    Args:
        backward: The method.
        forward: The forward of the same class, which says what the ctx keeps.
    """
    arguments = [one.arg for one in (*backward.args.posonlyargs, *backward.args.args)]
    if len(arguments) != 2 or backward.args.vararg is not None:
        return None
    reader = _BackwardReader(backward, arguments[0], arguments[1], _kept_beside_the_value(forward))
    found = []
    for part in own_parts(backward):
        if isinstance(part, ast.Return) and part.value is not None:
            elements = part.value.elts if isinstance(part.value, ast.Tuple) else [part.value]
            found += [one for element in elements if (one := reader.product(element)) is not None]
    return found[0] if len(found) == 1 else None


class _BackwardReader:
    def __init__(self, backward: _FUNCTION, context: str, incoming: str, kept: frozenset[str]) -> None:
        self._bound = BoundOnce(backward)
        self._context = context
        self._incoming = incoming
        self._kept = kept

    def product(self, element: ast.expr) -> ProductWithVjp | None:
        names = frozenset((self._incoming,))
        factors = list(self._factors(element, _DEEP))
        given = [one for one in factors if self._bound.carries(one, names)]
        asked = [call for one in factors if one not in given and (call := self._asked(one)) is not None]
        if len(given) != 1 or len(asked) != 1 or self._bound.carries(asked[0], names):
            return None
        product = self._bound.value(element)
        assert product is not None
        return ProductWithVjp(asked[0], not self._is_given_ones(asked[0]), product, self._incoming)

    def _factors(self, one: ast.expr, deep: int) -> Iterator[ast.expr]:
        value = self._bound.value(one) or one
        if deep and isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult):
            yield from self._factors(value.left, deep - 1)
            yield from self._factors(value.right, deep - 1)
        elif deep and isinstance(value, ast.Call) and last_name(value.func) in ("mul", "multiply"):
            owner = value.func.value if isinstance(value.func, ast.Attribute) else None
            for part in (*value.args, *([] if owner is None or _is_module(owner) else [owner])):
                yield from self._factors(part, deep - 1)
        elif deep and isinstance(value, ast.UnaryOp):
            yield from self._factors(value.operand, deep - 1)
        elif deep and isinstance(value, ast.Call) and last_name(value.func) in ("tuple", "list") and value.args:
            yield from self._factors(value.args[0], deep - 1)
        elif deep and isinstance(value, ast.GeneratorExp | ast.ListComp):
            yield from self._factors(value.elt, deep - 1)
        elif deep and (kept := _kept_of(value)) is not None:
            yield from self._factors(kept, deep - 1)
        else:
            yield value

    def _asked(self, one: ast.expr) -> ast.Call | None:
        """The call behind a factor that asks for a gradient."""
        value = self._bound.value(one)
        if not isinstance(value, ast.Call):
            return None
        name = dotted_name(value.func)
        is_grad = name.endswith("autograd.grad")
        if self._is_given_ones(value):
            is_kept = isinstance(value.func, ast.Attribute) and self._is_kept(value.func)
            callee = self._bound.value(value.func)
            is_kept |= isinstance(callee, ast.Attribute) and self._is_kept(callee)
            return value if is_grad or is_kept or _GIVES_GRADIENT.fullmatch(last_name(value.func)) else None
        if is_grad and value.args and not any(one.arg == "grad_outputs" for one in value.keywords):
            root = self._bound.value(value.args[0])
            return value if len(value.args) < 3 and _is_whole_sum(root) else None
        return None

    def _is_kept(self, attribute: ast.Attribute) -> bool:
        is_own = isinstance(attribute.value, ast.Name) and attribute.value.id == self._context
        return is_own and attribute.attr in self._kept

    def _is_given_ones(self, call: ast.expr) -> bool:
        given = [*call.args, *(one.value for one in call.keywords)] if isinstance(call, ast.Call) else []
        values = [self._bound.value(one) for one in given]
        return any(self._is_ones(one) for one in values)

    def _is_ones(self, value: ast.expr | None) -> bool:
        while value is not None and (kept := _kept_of(value)) is not None:
            value = self._bound.value(kept)
        return isinstance(value, ast.Call) and last_name(value.func) in _ONES


def _kept_of(value: ast.expr) -> ast.expr | None:
    """What a call keeps the values of: ``torch.from_numpy(x)``, ``x.reshape(-1)``."""
    if not isinstance(value, ast.Call) or last_name(value.func) not in _KEEPS:
        return None
    owner = value.func.value if isinstance(value.func, ast.Attribute) else None
    return (value.args[0] if value.args else None) if owner is None or _is_module(owner) else owner


def _is_module(owner: ast.expr) -> bool:
    return isinstance(owner, ast.Name) and owner.id in ("torch", "np", "numpy")


def _is_whole_sum(value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call) or last_name(value.func) != "sum" or value.keywords:
        return False
    return len(value.args) == (dotted_name(value.func) == "torch.sum")


def _kept_beside_the_value(forward: _FUNCTION | None) -> frozenset[str]:
    """The attributes of the ctx that the call which computes the value gives beside it: ``y, ctx.vjp = run(x)``.

    Those of names too: ``y, vjp = run(x); ctx.vjp = vjp``.
    """
    if forward is None or not forward.args.args:
        return frozenset()
    context, found, beside = forward.args.args[0].arg, set[str](), set[str]()
    for part in own_parts(forward):
        if not isinstance(part, ast.Assign) or len(part.targets) != 1:
            continue
        target = part.targets[0]
        if isinstance(target, ast.Tuple) and isinstance(part.value, ast.Call) and len(target.elts) > 1:
            beside |= {one.id for one in target.elts[1:] if isinstance(one, ast.Name)}
            found |= {one.attr for one in target.elts[1:] if _is_of(one, context)}  # type: ignore[attr-defined]
        elif _is_of(target, context) and isinstance(part.value, ast.Name) and part.value.id in beside:
            found.add(target.attr)  # type: ignore[attr-defined]
    return frozenset(found)


def _is_of(node: ast.expr, context: str) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == context
