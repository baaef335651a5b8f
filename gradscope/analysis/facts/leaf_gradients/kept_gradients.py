"""Gradients that were kept by reference, overwritten by the next pass, and then taken together as two.

``first = [p.grad for p in ps]``, another pass, ``second = [p.grad for p in ps]``: where ``.grad`` is cleared in place,
or not at all, both lists hold the same tensors. That two were meant shows where one call takes both.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.values.gradient_keeping import keeps_gradient, names_one_twice
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import BindingKind

_READ = "Tensor.grad.__get__"
_JOINS = (
    "Tensor.cat",
    "Tensor.stack",
    "Tensor.flatten",
    "Tensor.reshape",
    "Tensor.view",
    "Tensor.ravel",
)
_DEPTH = 3
"""Calls that join or reshape between a gradient and the call that takes it twice."""

_Key = tuple[object, ...] | int


class KeptGradient(NamedTuple):
    """A gradient that one call took as two."""

    parameter: int
    gradient: int
    kept: int
    """The last read of ``.grad`` that kept it."""
    written: int
    """The pass, or the call that cleared it, that changed it after an earlier read."""
    used: int
    """The call that took it twice, or one of a statement that reads it under two names."""
    names: tuple[str, ...]
    """These names."""


def kept_gradients(index: Index, lives: GradientLives) -> Iterator[KeptGradient]:
    """The last one for each statement that keeps."""
    reads = _keeping_reads(index)
    if not reads:
        return
    found: dict[int, KeptGradient] = {}
    keys, under_two_names = _Keys(index, set(reads)), _under_two_names(index, set(reads))
    for op in range(index.op_count):
        gradient, names = under_two_names.get(op, (NONE, ()))
        if (twice := keys.taken_twice(op)) >= 0:
            gradient, names = twice, ()
        if gradient < 0 or index.op_statement[op] == NOWHERE:
            continue
        owner = lives.owners.get(gradient, NONE)
        writes = sorted({*lives.passes.get(owner, ()), *lives.zeroed.get(owner, ())})
        before = [read for read in reads[gradient] if read < op]
        written = writes[bisect_left(writes, op) - 1] if writes and writes[0] < op else NONE
        statement = index.statements[index.op_statement[op]]
        text = index.recording.files[statement.file].text
        if before and before[0] < written and not names_one_twice(text, index.op_line(op)):
            found[index.op_statement[before[-1]]] = KeptGradient(owner, gradient, before[-1], written, op, names)
    yield from found.values()


def _under_two_names(index: Index, gradients: set[int]) -> dict[int, tuple[int, tuple[str, ...]]]:
    """By op: a gradient that its statement reads under two names, and these: ``a - b + m``, taken from two lists.

    None that says that it is ``.grad`` itself. Where the two are different gradients in other runs of the statement,
    they go through one list (all pairs of it), and being one is no mistake.
    """
    bindings, text = index.recording.bindings, index.recording.text
    columns = (bindings.column(name) for name in ("tensor", "op", "name", "span", "kind"))
    held: dict[int, dict[str, int]] = {}
    for tensor, op, name, span, kind in zip(*columns, strict=True):
        is_read = (
            kind == BindingKind.LOAD and op < index.op_count and index.statement_of_span[span] == index.op_statement[op]
        )
        if is_read and tensor in gradients and text(name).isidentifier():
            held.setdefault(op, {})[text(name)] = tensor
    found: dict[int, tuple[int, tuple[str, ...]]] = {}
    apart: set[tuple[int, str, str]] = set()
    for op, names in held.items():
        for one, other in combinations(sorted(names), 2):
            if names[one] == names[other]:
                found[op] = names[one], (one, other)
            else:
                apart.add((index.op_statement[op], one, other))
    return {op: at for op, at in found.items() if (index.op_statement[op], *at[1]) not in apart}


def owners_kept(index: Index, lives: GradientLives) -> set[int]:
    """The parameters whose gradients were kept so, with all others that the same statements keep."""
    if not any(kept_gradients(index, lives)):
        return set()
    return {lives.owners[gradient] for gradient in _keeping_reads(index) if gradient in lives.owners}


def _keeping_reads(index: Index) -> dict[int, list[int]]:
    """For each gradient the reads of ``.grad`` that kept it."""
    known: dict[int, bool] = {}
    found: dict[int, list[int]] = {}
    for op in index.calls_of(_READ.__eq__):
        if index.op_statement[op] == NOWHERE:
            continue
        number = index.op_statement[op]
        statement = index.statements[number]
        if number not in known:
            known[number] = keeps_gradient(index.recording.files[statement.file].text, index.op_line(op))
        for gradient in index.results.of(op) if known[number] else ():
            found.setdefault(gradient, []).append(op)
    return found


class _Keys:
    """What tensors are, where they are gradients, or joined or reshaped from gradients alone."""

    def __init__(self, index: Index, gradients: set[int]) -> None:
        self._index = index
        self._gradients = gradients
        columns = (index.recording.tensors.column(name) for name in ("op", "flags", "storage"))
        self._made_at, self._flags, self._storage = columns
        self._known: dict[int, tuple[_Key, int] | None] = {}

    def taken_twice(self, op: int) -> int:
        """A gradient that two arguments of a call are, or are joined from; NONE where there is none."""
        seen: set[_Key] = set()
        uses = self._index.uses.of(op)
        if len(uses) < 2 or self._index.method(op) in _JOINS:
            return NONE
        for tensor in uses:
            key = self._key(tensor, _DEPTH)
            if key is not None and key[0] in seen:
                return key[1]
            if key is not None:
                seen.add(key[0])
        return NONE

    def _key(self, tensor: int, depth: int) -> tuple[_Key, int] | None:
        """What a tensor is, and one of its gradients."""
        if tensor in self._gradients:
            return tensor, tensor
        if tensor not in self._known:
            self._known[tensor] = self._made_from(tensor, depth)
        return self._known[tensor]

    def _made_from(self, tensor: int, depth: int) -> tuple[_Key, int] | None:
        op = self._made_at[tensor]
        if depth == 0 or self._flags[tensor] & EXTERNAL or op >= self._index.op_count:
            return None
        if self._index.method(op) not in _JOINS:
            return None
        parts = [self._key(use, depth - 1) for use in self._index.uses.of(op)]
        whole = [part for part in parts if part is not None]
        if not whole or len(whole) < len(parts):
            return None
        return (self._index.func(op), *(part[0] for part in whole)), whole[0][1]
