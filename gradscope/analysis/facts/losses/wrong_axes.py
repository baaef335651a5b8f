"""A backward that multiplies the gradient of each row along the columns.

``saved * grad_output`` of ``(N, N)`` and ``(N,)``, where forward gave one number for each row. Where the sizes differ
torch raises; a batch as large as the number of classes goes through. Which axis the output belongs to is told by the
calls of forward that ran: what they took of a matrix, row by row.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import incoming
from gradscope.analysis.facts.derivatives.function_sources import Lines, WrittenBackward
from gradscope.analysis.facts.losses.factors import called, maker
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import own_parts, parsed

_OVER_A_DIMENSION = frozenset(
    "sum mean norm amax amin logsumexp prod gather std var select vector_norm".split()  # noqa: SIM905
)
_OF_ROWS = frozenset(("cross_entropy", "nll_loss"))
"""Losses whose first dimension is the batch."""
_KEEP_SHAPE = frozenset(
    """
    exp log neg abs sign sqrt square pow sigmoid tanh cos sin clamp clone softmax log_softmax reciprocal float double to
    contiguous
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
_TURNS = frozenset(("t", "T", "mT", "transpose", "permute", "swapaxes", "swapdims", "movedim", "einsum", "rot90"))
_EVEN = frozenset(("sum", "mean"))
_FOLLOWED = 24


class WrongAxis(NamedTuple):
    """A product along the wrong axis."""

    lines: Lines
    saved: str
    """What the gradient is multiplied by, as the text has it."""
    incoming: str
    size: int


def wrong_axis(index: Index, written: WrittenBackward, node: int) -> WrongAxis | None:
    """The product of a backward that takes the gradient of a row for that of a column; None where there is none.

    Args:
        index: The run.
        written: The Function.
        node: One of its nodes, that a pass walked.
    """
    output, given = index.node_tensor[node], incoming(written)
    shape = shape_of(index, output) if output >= 0 else ()
    if len(shape) != 1 or shape[0] < 2 or len(given) != 1 or len(written.returns) != 1 or _turns(written):
        return None
    (size,) = shape
    users = index.users.of(output)
    if not len(users) or all(called(index, op) in _EVEN for op in users):
        return None  # all elements of its gradient are one number
    if any(
        isinstance(one, ast.Name) and one.id == given[0] and not isinstance(one.ctx, ast.Load)
        for one in _parts(written)
    ):
        return None
    saved = _Saved(index, written, node)
    for product in _products(written):
        factors = list(_factors(product))
        is_given = [isinstance(one, ast.Name) and one.id == given[0] for one in factors]
        square = [one for one in factors if saved.is_of_shape(one, (size, size))]
        others = len(factors) - len(square) - sum(map(_is_number, factors))
        if square and is_given.count(True) == others == 1 and _is_of_rows(index, output, size):
            return WrongAxis(written.lines_of(product), ast.unparse(square[0]), given[0], size)
    return None


def _turns(written: WrittenBackward) -> bool:
    """Whether forward turns a matrix about, or there is none to read: its rows may be the columns of what is saved."""
    parts = own_parts(written.forward) if written.forward is not None else [None]
    return any(part is None or (isinstance(part, ast.Attribute) and part.attr in _TURNS) for part in parts)


def _parts(written: WrittenBackward) -> Iterator[ast.AST]:
    return own_parts(written.definition)


def _products(written: WrittenBackward) -> Iterator[ast.expr]:
    """What is returned, as products: in the ``return`` itself, or as the one value of a name there."""
    value = written.returns[0].value
    for element in value.elts if isinstance(value, ast.Tuple | ast.List) else [value]:
        product = _value_of(written, element)
        if isinstance(product, ast.BinOp | ast.Call):
            yield product


def _value_of(written: WrittenBackward, element: ast.expr | None) -> ast.expr | None:
    """An expression, or what the name that it is was assigned once."""
    if not isinstance(element, ast.Name):
        return element
    stores = [
        one
        for one in _parts(written)
        if isinstance(one, ast.Name) and one.id == element.id and not isinstance(one.ctx, ast.Load)
    ]
    assigned = [
        one.value
        for one in _parts(written)
        if isinstance(one, ast.Assign) and len(one.targets) == 1 and one.targets[0] in stores
    ]
    return assigned[0] if len(assigned) == len(stores) == 1 else None


def _factors(value: ast.expr) -> Iterator[ast.expr]:
    """What a product is of: by operators, ``a.mul(b)``, or ``torch.mul(a, b)``."""
    if isinstance(value, ast.UnaryOp):
        yield from _factors(value.operand)
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult | ast.Div):
        yield from _factors(value.left)
        yield from _factors(value.right)
    elif (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in ("mul", "multiply")
    ):
        is_torch = isinstance(value.func.value, ast.Name) and value.func.value.id == "torch"
        for one in (*([] if is_torch else [value.func.value]), *value.args):
            yield from _factors(one)
    else:
        yield value


class _Saved:
    """What a backward takes out of its ctx, by the shapes that were recorded."""

    def __init__(self, index: Index, written: WrittenBackward, node: int) -> None:
        self._written = written
        saved, text = index.recording.saved, index.recording.text
        rows = [saved[row] for row in index.saved.of(node)]
        shapes = [
            shape_of(index, row.tensor) if row.tensor >= 0 else () for row in rows if text(row.attr) == "saved_tensors"
        ]
        parts = own_parts(written.forward) if written.forward is not None else ()
        calls = [
            one for one in parts if isinstance(one, ast.Call) and ast.unparse(one.func).endswith("save_for_backward")
        ]
        # (of what is None nothing is recorded, and the places of the others would not be known)
        self._shapes = shapes if len(calls) == 1 and len(calls[0].args) == len(shapes) else []

    def is_of_shape(self, value: ast.expr, shape: tuple[int, ...]) -> bool:
        """Whether an expression has a shape: a saved tensor's, and what is made of it element by element."""
        kept = self._written.kept(value)
        if kept is not None:
            return kept.attr == "saved_tensors" and self._shapes[kept.position : kept.position + 1] == [shape]
        if isinstance(value, ast.Name):
            bound = _value_of(self._written, value)
            return bound is not None and not isinstance(bound, ast.Name) and self.is_of_shape(bound, shape)
        if isinstance(value, ast.UnaryOp):
            return self.is_of_shape(value.operand, shape)
        if isinstance(value, ast.BinOp) and not isinstance(value.op, ast.MatMult):
            parts = (value.left, value.right)
            return any(self.is_of_shape(one, shape) for one in parts) and all(
                self.is_of_shape(one, shape) or _is_number(one) for one in parts
            )
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _KEEP_SHAPE:
            return self.is_of_shape(value.func.value, shape) or any(
                self.is_of_shape(one, shape) for one in value.args[:1]
            )
        return False


def _is_number(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, int | float)


def _is_of_rows(index: Index, output: int, size: int) -> bool:
    """Whether all that an output was made of takes a number from each row of a matrix, and something is such."""
    found, seen, waiting = False, {output}, [output]
    while waiting:
        op = maker(index, waiting.pop())
        if op < 0 or len(seen) > _FOLLOWED:
            continue
        taken = [one for one in index.uses.of(op) if index.is_floating(one)]
        matrices = [one for one in taken if len(shape_of(index, one)) > 1]
        if any(shape_of(index, one)[0] != size for one in matrices) or (matrices and not _takes_rows(index, op)):
            return False
        found |= bool(matrices)
        rest = [one for one in taken if len(shape_of(index, one)) == 1 and one not in seen]
        seen |= set(rest)
        waiting += rest
    return found


def _takes_rows(index: Index, op: int) -> bool:
    """Whether a call gave one number for each row of a matrix."""
    name = called(index, op)
    if name in _OF_ROWS:
        return True
    if name == "squeeze":  # of ``(N, 1)``, whatever made that
        (matrix, *_) = index.uses.of(op)
        made = maker(index, matrix)
        return made >= 0 and shape_of(index, matrix)[1:] == (1,) and _takes_rows(index, made)
    if name == "getitem":
        _, *indices = index.uses.of(op)
        made = maker(index, indices[0]) if len(indices) == 2 else -1
        return made >= 0 and called(index, made) == "arange"
    return name in _OVER_A_DIMENSION and _dimension(index.span_source(op, exact=True), name) in (1, -1)


def _dimension(source: str, name: str) -> int | None:
    """The dimension that a call was given as a number."""
    tree = parsed(source.strip()) if source else None
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr != name:
            continue
        is_function = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
        place = (1 if is_function else 0) + (name in ("norm", "vector_norm"))
        given = [one.value for one in node.keywords if one.arg in ("dim", "axis")] or node.args[place : place + 1]
        if len(given) == 1:
            try:
                value = ast.literal_eval(given[0])
            except ValueError:
                return None
            return value if isinstance(value, int) else None
        return None
    return None
