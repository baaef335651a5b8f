"""Tensors that were built from values which left torch further away: by names and functions that the text connects."""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import NamedLine
from gradscope.frames.syntax_trees import last_name
from gradscope.frames.values.value_slices import calls_behind
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

_BUILD = frozenset(
    """
    tensor as_tensor asarray from_numpy from_dlpack Tensor FloatTensor DoubleTensor HalfTensor LongTensor IntTensor
    BoolTensor ByteTensor
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions that build a tensor from plain values; the classes among them are called unseen by torch's modes."""

_FAR = 4_000
"""Calls that took values out of torch that are looked at, from one on which a tensor was built backwards."""


class Built(NamedTuple):
    """A call that built a tensor."""

    line: NamedLine
    op: int
    """What first saw the tensor."""
    file: int
    behind: frozenset[int]
    """The lines of the file that its arguments may come from."""


class BuiltByText:
    """Looks for the call that built a tensor, and for the calls whose values it was given."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._known: dict[tuple[int, int, str], Built | None] = {}

    def of(self, tensor: int) -> Built | None:
        """The call that built a tensor from plain values, itself or in a function of the same file; or None."""
        index = self._index
        op, flags = (index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
        if not 0 <= op < index.op_count or flags & REQUIRES_GRAD:
            return None
        taken = index.uses.of(op)
        if flags & EXTERNAL:
            is_built, source = True, self._name_at(tensor, op) or _one_call(index.span_source(op, exact=True))
        else:
            name = index.func(op)
            is_of_torch = name.startswith(("torch.", "Tensor."))
            is_built = not len(taken) and (not is_of_torch or name.rpartition(".")[2] in _BUILD)
            source = index.span_source(op, exact=True)
        return self._built(op, source) if is_built and source else None

    def exports(self, built: Built) -> Iterator[int]:
        """The calls since the pass before that took values out at lines which it was given them from, last first.

        Of many at one place that take their values the same way only the last one.
        """
        index, seen = self._index, set[tuple[int, int]]()
        spans, funcs = (index.recording.ops.column(name) for name in ("span", "func"))
        before = bisect_left(self._passes, built.op)
        since = self._passes[before - 1] if before else NONE
        for op in reversed(self._exports[: bisect_left(self._exports, built.op)][-_FAR:]):
            if op < since:
                return
            place = (spans[op], funcs[op])
            where = index.statements[index.op_statement[op]]
            if place in seen or where.file != built.file or not len(index.uses.of(op)):
                continue
            seen.add(place)
            if index.op_line(op) in built.behind:
                yield op

    def _built(self, op: int, source: str) -> Built | None:
        index = self._index
        where, line = index.statements[index.op_statement[op]], index.op_line(op)
        key = (where.file, line, source)
        if where.file < 0 or not index.recording.files[where.file].is_user:
            return None
        if key not in self._known:
            text = index.recording.files[where.file].text
            calls = calls_behind(text, line, source, _BUILD)
            lines = frozenset(at for _, one in calls for at in one)
            found = Built(index.line(where.file, calls[-1][0].lineno), op, where.file, lines) if calls else None
            self._known[key] = found
        known = self._known[key]
        return None if known is None else known._replace(op=op)

    def _name_at(self, tensor: int, op: int) -> str:
        """The name that a call read a tensor by."""
        return next((name for name in self._names.get((tensor, op), ()) if name.isidentifier()), "")

    @cached_property
    def _names(self) -> dict[tuple[int, int], list[str]]:
        found: dict[tuple[int, int], list[str]] = {}
        for one in self._index.recording.bindings:
            found.setdefault((one.tensor, one.op), []).append(self._index.recording.text(one.name))
        return found

    @cached_property
    def _passes(self) -> list[int]:
        return self._index.of_kind(OpKind.BACKWARD)

    @cached_property
    def _exports(self) -> list[int]:
        return self._index.of_kind(OpKind.EXPORT)


def _one_call(source: str) -> str:
    """The one call that builds a tensor in what a statement computes: of ``torch.from_numpy(a).float()``, the first."""
    try:
        parts = list(ast.walk(ast.parse(source, mode="eval")))
    except (SyntaxError, ValueError):
        return ""
    found = [one for one in parts if isinstance(one, ast.Call) and last_name(one.func) in _BUILD]
    return ast.unparse(found[0]) if len(found) == 1 else ""
