"""Gradients of all columns of a result at once, whose own columns a program then takes apart.

``autograd.grad(out, x, torch.ones_like(out))`` gives the gradient of the sum of all that ``out`` holds. Of a result
with one value for each row that is the derivative of each; of one with several columns it is that of their sum. That
the columns are several things shows where the program slices them too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

_ONES = re.compile(r"torch\.(ones_like|ones|full_like|full)")
_MIXES = re.compile(r"(Addmm|Mm|Bmm|Baddbmm|Addbmm|Linear|Convolution)Backward\d*")
"""Nodes that make each column of all columns that went in: where there is none, a column's gradient is its own."""


class SummedColumns(NamedTuple):
    """One call of ``autograd.grad``."""

    grad: int
    root: int
    given: int
    """The gradient that it gave."""
    columns: int
    """How many columns the root has."""
    sliced: tuple[int, ...]
    """The calls that took columns of the gradient, each another one."""
    is_of_one_too: bool
    """Whether the same call is made for one column as well: it is right there."""


def summed_columns(index: Index, passes: Passes) -> Iterator[SummedColumns]:
    """The last such pass of each call, and of each number of columns."""
    kinds, spans = (index.recording.ops.column(name) for name in ("kind", "span"))
    passes_of = {op: roots[0] for op, roots in index.roots.items() if kinds[op] == OpKind.GRAD and len(roots) == 1}
    finder = _ColumnsFinder(index, passes)
    found: dict[tuple[int, int], SummedColumns] = {}
    single = {
        spans[op] for op, root in passes_of.items() if len(finder.shape(root)) == 2 and finder.shape(root)[1] == 1
    }
    for op, root in reversed(passes_of.items()):
        shape = finder.shape(root)
        if len(shape) == 2 and shape[1] > 1 and (spans[op], shape[1]) not in found:
            one = finder.find(op, root, spans[op] in single)
            if one is not None:
                found[spans[op], shape[1]] = one
    yield from found.values()


class _ColumnsFinder:
    def __init__(self, index: Index, passes: Passes) -> None:
        self._index = index
        self._passes = passes
        aliases = index.recording.aliases
        columns = (aliases.column(name) for name in ("tensor", "base", "offset"))
        self._views: dict[int, list[tuple[int, int]]] = {}
        self._base: dict[int, tuple[int, int]] = {}
        for tensor, base, offset in zip(*columns, strict=True):
            self._views.setdefault(base, []).append((tensor, offset))
            self._base[tensor] = base, offset

    def shape(self, tensor: int) -> tuple[int, ...]:
        layout = self._index.recording.layouts[self._index.recording.tensors.column("layout")[tensor]]
        shape = ast.literal_eval(self._index.recording.text(layout.shape))
        return shape if isinstance(shape, tuple) else ()

    def find(self, op: int, root: int, is_of_one_too: bool) -> SummedColumns | None:
        index, shape = self._index, self.shape(root)
        ones = [tensor for tensor in index.uses.of(op) if tensor != root and self._are_ones(tensor, shape)]
        given = next((one for one in index.made.of(op) if len(self.shape(one)) == 2), None)
        if len(ones) != 1 or given is None or not self._has_columns_taken(root) or not self._is_mixed(root):
            return None
        taken: dict[int, int] = {}
        rows, wide = self.shape(given)
        for view, offset in self._views.get(given, ()):
            if wide > 1 and rows != wide and self.shape(view) in ((rows,), (rows, 1)):
                taken.setdefault(offset, index.recording.tensors.column("op")[view])
        if len(taken) < 2 or wide < 2:
            return None
        return SummedColumns(op, root, given, shape[1], tuple(taken.values()), is_of_one_too)

    def _are_ones(self, tensor: int, shape: tuple[int, ...]) -> bool:
        made = self._index.recording.tensors.column("op")[tensor]
        return self.shape(tensor) == shape and _ONES.fullmatch(self._index.func(made)) is not None

    def _has_columns_taken(self, root: int) -> bool:
        """Whether the program takes a column of the root by itself, from it or from what it is a part of."""
        shape = self.shape(root)
        base, begins = self._base.get(root, (root, 0))
        of_base = self._views.get(base, ()) if base != root else ()
        within = [(view, offset - begins) for view, offset in of_base if view != root]
        return any(
            self.shape(view) in ((shape[0], 1), (shape[0],)) and 0 <= column < shape[1]
            for view, column in (*self._views.get(root, ()), *within)
        )

    def _is_mixed(self, root: int) -> bool:
        names, text = self._index.recording.nodes.column("name"), self._index.recording.text
        behind = self._passes.behind(self._index.recording.tensors.column("node")[root])
        return any(_MIXES.fullmatch(text(names[node])) for node in behind)
