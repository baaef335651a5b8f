"""Random factors that a function multiplies what it is given by, as its source says: ``x * (torch.rand(…) > p)``.

A backward that draws such a factor where its forward does drops other elements than were dropped. Random numbers that
are added, or that round, are no factors: a backward may well have its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

from gradscope.analysis.facts.derivatives.function_sources import Definition
from gradscope.frames.syntax_trees import last_name, own_parts

_DROPS = frozenset(("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout"))
DRAWS = _DROPS | frozenset(("rand", "randn", "rand_like", "randn_like", "normal", "normal_", "uniform_"))
DRAWS |= frozenset(("bernoulli", "bernoulli_"))
_SHAPE_ONLY = frozenset(("shape", "size", "dtype", "device", "ndim", "dim", "layout", "numel"))
_OF_SHAPE = re.compile(r"\w+_like|(new_)?(empty|zeros|ones|full)|randn?|randint")
"""Calls that take the shape only of what they are given."""
_AS = frozenset(("expand_as", "view_as", "reshape_as", "type_as"))
"""Methods that take the shape, or the dtype, only of their argument."""
_ZEROING = frozenset(("masked_fill", "masked_fill_"))
_MULTIPLIES = frozenset(("mul", "mul_", "multiply")) | _ZEROING
_REPEATS = re.compile(r"seed|rng|generator|random_state|philox", re.IGNORECASE)
"""In a source: that the random numbers may be those of another call."""


def drawn_factors(definition: Definition, helpers: Collection[str]) -> list[ast.stmt]:
    """The statements that draw the factors; none where the numbers may be those that were drawn before.

    Args:
        definition: A forward or backward, whose first argument is the ctx.
        helpers: Names of functions of the program's that draw.
    """
    if _REPEATS.search(ast.unparse(definition)) or len(definition.args.args) < 2:
        return []
    return _Factors(definition, helpers, definition.args.args[1].arg).found()


def drawing_functions(tree: ast.Module) -> frozenset[str]:
    """The names of functions of a file that return what they draw, which depends on the shape only of what is given.

    None that may draw what was drawn before: with a generator, or a seed.
    """
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name not in ("forward", "backward")
        and not _REPEATS.search(ast.unparse(node))
        and node.args.args
        and any(_Factors(node, (), node.args.args[0].arg).is_drawn(value) for value in _returned(node))
    )


def _returned(definition: Definition) -> list[ast.expr]:
    parts = (part for part in own_parts(definition) if isinstance(part, ast.Return))
    return [part.value for part in parts if part.value is not None]


class _Factors:
    def __init__(self, definition: Definition, helpers: Collection[str], given: str) -> None:
        self._parts = list(own_parts(definition))
        self._helpers = helpers
        self._draws = DRAWS | set(helpers)
        self._given = {given}
        self._drawn: dict[str, ast.stmt] = {}
        for _ in range(2):  # (a name may be bound behind its use, in a loop)
            for statement in self._parts:
                if isinstance(statement, ast.Assign):
                    self._bind(statement)

    def found(self) -> list[ast.stmt]:
        factors = [factor for part in self._parts for factor in self._factors(part)]
        return list(dict.fromkeys(statement for factor in factors for statement in self._drawing(factor)))

    def _bind(self, statement: ast.Assign) -> None:
        names = {one.id for target in statement.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
        if self._depends(statement.value) or "saved_tensors" in ast.unparse(statement.value):
            self._given |= names - self._drawn.keys()
        elif self.is_drawn(statement.value):
            sources = [self._drawn[one.id] for one in _names(statement.value) if one.id in self._drawn]
            for name in names:
                self._drawn.setdefault(name, sources[0] if sources else statement)

    def _depends(self, value: ast.AST) -> bool:
        """Whether the values of what was given matter for an expression, not its shape only."""
        if isinstance(value, ast.Name):
            return value.id in self._given
        if isinstance(value, ast.Attribute) and value.attr in _SHAPE_ONLY:
            return False
        if isinstance(value, ast.Call):
            name = last_name(value.func)
            if _OF_SHAPE.fullmatch(name) or name in self._helpers:
                return False
            if name in _AS and isinstance(value.func, ast.Attribute):
                return self._depends(value.func.value)
        return any(self._depends(child) for child in ast.iter_child_nodes(value))

    def is_drawn(self, value: ast.AST) -> bool:
        """Whether an expression is made of random numbers, and of nothing else that was given."""
        parts = ast.walk(value)
        return not self._depends(value) and any(
            (isinstance(part, ast.Call) and last_name(part.func) in self._draws)
            or (isinstance(part, ast.Name) and part.id in self._drawn)
            for part in parts
        )

    def _factors(self, part: ast.AST) -> Iterator[ast.expr]:
        """The random ones among what a part multiplies, or sets to zero by, what was given."""
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult):
            for one, other in ((part.left, part.right), (part.right, part.left)):
                if self.is_drawn(one) and self._depends(other):
                    yield one
        elif isinstance(part, ast.AugAssign) and isinstance(part.op, ast.Mult):
            if self._depends(part.target) and self.is_drawn(part.value):
                yield part.value
        elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Subscript) and _is_zero(part.value):
            target = part.targets[0]
            if self._depends(target.value) and self.is_drawn(target.slice):
                yield target.slice
        elif isinstance(part, ast.Call):
            yield from self._factors_of_call(part)

    def _factors_of_call(self, call: ast.Call) -> Iterator[ast.expr]:
        name = last_name(call.func)
        if name in _DROPS and call.args and self._depends(call.args[0]):
            yield call
        elif name in _MULTIPLIES and isinstance(call.func, ast.Attribute):
            given = [*([] if last_name(call.func.value) == "torch" else [call.func.value]), *call.args]
            is_product = name not in _ZEROING or _is_zero(given[-1])
            if is_product and any(self._depends(one) for one in given):
                yield from (one for one in given if self.is_drawn(one))
        elif name == "where" and len(call.args) == 3:
            mask, *values = call.args
            if self.is_drawn(mask) and any(map(_is_zero, values)) and any(map(self._depends, values)):
                yield mask

    def _drawing(self, factor: ast.expr) -> Iterator[ast.stmt]:
        names = [self._drawn[one.id] for one in _names(factor) if one.id in self._drawn]
        if names:
            yield from names
            return
        around = [
            one for one in self._parts if isinstance(one, ast.stmt) and any(part is factor for part in ast.walk(one))
        ]
        yield from around[-1:]


def _names(value: ast.AST) -> Iterator[ast.Name]:
    return (one for one in ast.walk(value) if isinstance(one, ast.Name))


def _is_zero(value: ast.expr) -> bool:
    is_number = isinstance(value, ast.Constant) and value.value == 0 and not isinstance(value.value, bool)
    return is_number or (isinstance(value, ast.Call) and last_name(value.func) in ("zeros_like", "zeros", "new_zeros"))
