"""Additions to the rows of a tensor that an index names several times: of those to one row a single one counts.

So it is with what is scattered to one place; but there each value gets the gradient of the place, gone or not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed
from gradscope.recording.rows import Layout

_NUMBER = re.compile(r"\d+")
_SCATTERS = frozenset(("scatter", "scatter_", "index_copy", "index_copy_"))
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


class ScatteredTwice(NamedTuple):
    """The last call of one line that scatters values over others."""

    op: int
    named_by: int
    """The index."""
    places: int
    """Along the dimension that is scattered over."""
    values: int
    """Likewise: more than there are places."""


def scattered_twice(index: Index, passes: Passes) -> Iterator[ScatteredTwice]:
    """``x.scatter(dim, i, y)`` with more values than places along ``dim``, so that some fall on others, in a loss."""
    last = {index.op_statement[op]: op for op in index.calls_of(_scatters)}
    for op in sorted(last.values()):
        uses, made = list(index.uses.of(op)), index.tensors_made(op)
        nodes = [index.node_after(one) for one in made or uses[:1]]
        if len(uses) != 3 or not any(node >= 0 and passes.first_walked_at[node] >= 0 for node in nodes):
            continue
        into, places, values = (_shape(index, one, op) for one in uses)
        dim = _dimension(index.span_source(op, exact=True), len(into))
        if not index.requires_grad(uses[2], op) or dim is None or not 0 <= dim < len(into) == len(values):
            continue
        if values[dim] > into[dim] and places in (values, values[dim : dim + 1]):
            yield ScatteredTwice(op, uses[1], into[dim], values[dim])


def _scatters(name: str) -> bool:
    return name.startswith(("Tensor.", "torch.")) and name.rpartition(".")[2] in _SCATTERS


def _dimension(source: str, dims: int) -> int | None:
    """The dimension that a call scatters over, where it stands there as a number and nothing is reduced; else None."""
    tree = parsed(source)
    node = tree.body[0].value if tree is not None and tree.body and isinstance(tree.body[0], ast.Expr) else None
    if not isinstance(node, ast.Call) or any(one.arg in (None, "reduce", "out") for one in node.keywords):
        return None
    is_function = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "torch"
    named = [one.value for one in node.keywords if one.arg == "dim"]
    given = named or node.args[int(is_function) :][:1]
    try:
        dim = ast.literal_eval(given[0]) if given else None
    except ValueError:
        return None
    return dim % dims if type(dim) is int and dims else None


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
