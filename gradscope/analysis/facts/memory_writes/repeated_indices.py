"""Additions to the rows of a tensor that an index names several times: of those to one row a single one counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.index import Index
from gradscope.recording.rows import Layout

_NUMBER = re.compile(r"\d+")
_CHANGES = frozenset(("add", "sub", "iadd", "isub", "mul", "imul", "div"))


class RepeatedIndex(NamedTuple):
    """The last such write of one line."""

    op: int
    tensor: int
    named_by: int
    """The index."""
    rows: int
    """Of the tensor."""
    places: int
    """That the index names: more than there are rows."""


def repeated_indices(index: Index) -> Iterator[RepeatedIndex]:
    """``x[i] += y`` (or ``x[i] = x[i] + y``) with more indices than rows, so that some come twice."""
    last = {index.op_statement[op]: op for op in index.calls_of("Tensor.__setitem__".__eq__)}
    for op in sorted(last.values()):
        uses = list(index.uses.of(op))
        if len(uses) != 3 or not _is_read_and_changed(index, op, *uses):
            continue
        rows, places, values = (_shape(index, one, op) for one in uses)
        if len(places) == 1 and values == (*places, *rows[1:]) and rows and places[0] > rows[0]:
            yield RepeatedIndex(op, uses[0], uses[1], rows[0], places[0])


def _is_read_and_changed(index: Index, op: int, tensor: int, places: int, value: int) -> bool:
    """Whether the statement read the same places before, and stores what it made of that."""
    if index.recording.text(_layout(index, places, op).dtype) not in ("int64", "int32"):
        return False
    statement, read = index.op_statement[op], set[int]()
    for before in index.users.of(tensor):
        is_here = index.op_statement[before] == statement and before < op
        if is_here and index.func(before) == "Tensor.__getitem__" and list(index.uses.of(before)) == [tensor, places]:
            read = set(index.tensors_made(before))
    ops = [one for taken in read for one in index.users.of(taken) if index.op_statement[one] == statement and one < op]
    return any(called(index, one) in _CHANGES and (value in read or value in index.tensors_made(one)) for one in ops)


def _layout(index: Index, tensor: int, op: int) -> Layout:
    return index.recording.layouts[index.layout_at(tensor, op)]


def _shape(index: Index, tensor: int, op: int) -> tuple[int, ...]:
    return tuple(map(int, _NUMBER.findall(index.recording.text(_layout(index, tensor, op).shape))))
