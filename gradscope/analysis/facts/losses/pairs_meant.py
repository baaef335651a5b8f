"""Whether all pairs of the elements of two tensors, of shapes ``(N, 1)`` and ``(N,)``, were asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from gradscope.analysis.facts.shapes import numbers_in, shape_of
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_MEANT_FOR_PAIRS = frozenset(
    """
    unsqueeze view reshape t transpose T mT permute expand unflatten movedim swapaxes meshgrid view_as reshape_as
    expand_as
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions by which somebody makes a column of a row."""

_SAME_VALUES = _MEANT_FOR_PAIRS | frozenset(("squeeze", "flatten", "ravel", "detach", "data", "clone", "__getitem__"))
_STEPS = 8
"""Calls back to where a shape came from."""
_INIT = re.compile(r"^distributions\.\w+\.__init__$")


def square_layouts(index: Index) -> frozenset[int]:
    """The layouts of shape ``(N, N)``."""
    found = []
    for number, layout in enumerate(index.recording.layouts):
        shape = numbers_in(index.recording.text(layout.shape))
        if len(shape) == 2 and shape[0] == shape[1] and shape[0] != 1:
            found.append(number)
    return frozenset(found)


def column_and_row(index: Index, op: int) -> tuple[int, int, int] | None:
    """The two tensors that a call took, and how many elements each has; None where their shapes are others."""
    return _column_and(index, op, lambda n: (n,))


def value_and_parameter(index: Index, op: int, given: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Of a ``log_prob`` that gave ``(N, N)``: the column, what it met, and ``N``; None for other shapes.

    The value is the column, and the parameters are rows (or scores of classes for each row), or the other way round.
    """
    taken = list(index.uses.of(op))
    values = [one for one in taken if not _is_parameter(index, one)]
    if len(values) != 1 or len(taken) < 2 or len(given) != 2 or given[0] != given[1]:
        return None
    n, value = given[0], values[0]
    others = [one for one in taken if one != value]
    parameters = sorted(others, key=lambda one: is_of_distribution(index, one))  # (the program's own tensors first)
    shapes = [shape_of(index, one) for one in parameters]
    if shape_of(index, value) == (n, 1):
        is_of_classes = "Categorical" in index.func(op)
        rows = [one for one, shape in zip(parameters, shapes, strict=True) if _is_row(shape, n, is_of_classes)]
        return (value, rows[0], n) if len(rows) == len(parameters) else None
    columns = [one for one, shape in zip(parameters, shapes, strict=True) if shape == (n, 1)]
    return (columns[0], value, n) if shape_of(index, value) == (n,) and len(columns) == len(parameters) else None


def is_of_distribution(index: Index, tensor: int) -> bool:
    """Whether a distribution made a tensor for itself."""
    made = made_at(index, tensor)
    return made >= 0 and index.func(made).startswith("distributions.")


def _is_parameter(index: Index, tensor: int) -> bool:
    """Whether a distribution was made with a tensor, or made it then: which one a call takes first is not told by that,
    as a distribution validates its arguments or does not (the first call of a compiled function switches that off).
    """
    made = made_at(index, tensor)
    ops = (*index.users.of(tensor), *((made,) if made >= 0 else ()))
    return any(_INIT.search(index.func(op)) for op in ops)


def _is_row(shape: tuple[int, ...], n: int, is_of_classes: bool) -> bool:
    return len(shape) == 2 and shape[0] == n and shape[1] > 1 if is_of_classes else shape == (n,)


def _column_and(index: Index, op: int, shape: Callable[[int], tuple[int, ...]]) -> tuple[int, int, int] | None:
    taken = list(index.uses.of(op))
    if len(taken) != 2:
        return None
    first, second = taken
    for column, row in ((first, second), (second, first)):
        tall = shape_of(index, column)
        if len(tall) == 2 and tall[0] > 1 and tall[1] == 1 and shape_of(index, row) == shape(tall[0]):
            return column, row, tall[0]
    return None


def is_paired_on_purpose(index: Index, op: int, column: int, row: int) -> bool:
    """Whether somebody wrote it so that each is paired with every other one.

    The column was made one on purpose, the two are the same values, or one is a parameter of its own.
    """
    if any(index.is_leaf_with_grad(one, op) for one in (column, row)):
        return True
    source = index.span_source(op)
    if "None" in source or "newaxis" in source or "unsqueeze" in source:
        return True
    made = made_at(index, column)
    if made < 0:
        return False
    source, name = index.span_source(made), index.func(made).removesuffix(".__get__").rpartition(".")[2]
    if name in _MEANT_FOR_PAIRS or "keepdim" in source or (name == "__getitem__" and "None" in source):
        return True
    return base_of(index, column) == base_of(index, row)


def paired_with_themselves(index: Index, ops: Iterable[int]) -> frozenset[int]:
    """The tensors of which each element was paired with every other one of the same.

    Nobody does that by a slip. Who compares all of a sample with each other compares it with another sample in the same
    way: what MMD, an energy distance and losses of ranks are made of.
    """
    found = set()
    for op in ops:
        pair = column_and_row(index, op) or _column_and(index, op, lambda n: (1, n))
        if pair is not None and (base := base_of(index, pair[0])) == base_of(index, pair[1]):
            found.add(base)
    return frozenset(found)


def made_at(index: Index, tensor: int) -> int:
    """The op that gave a tensor, or NONE."""
    op = index.made_by(tensor)
    return op if 0 <= op < index.op_count else NONE


def base_of(index: Index, tensor: int) -> int:
    """The tensor whose values another one shows in another shape."""
    for _ in range(_STEPS):
        op = made_at(index, tensor)
        name = index.func(op).removesuffix(".__get__").rpartition(".")[2]
        taken = list(index.uses.of(op)) if op >= 0 else []
        if name not in _SAME_VALUES or not taken:
            break
        tensor = taken[0]
    return tensor
