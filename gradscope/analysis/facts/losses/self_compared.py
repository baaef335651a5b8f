"""Terms of a loss that compare a tensor with itself, by two expressions: they are zero, and so are their gradients."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.names.one_store import OneStore, one_store, two_sides
from gradscope.recording.flags import EXTERNAL

_LOSSES = re.compile(r"F\.(mse_loss|l1_loss|smooth_l1_loss|huber_loss)")
_DIFFERENCES = re.compile(r"(Tensor|torch)\.(sub|rsub|subtract)")
_CUTS = frozenset(("Tensor.detach", "Tensor.data.__get__"))
_STEPS = 8
"""Calls from a difference without a graph to the loss that it is a part of."""
_RUNS = 2
"""Differences from which on all of one place count: the first one of an iteration may be with what it began with."""


class SelfCompared(NamedTuple):
    """One call of the program's, each run of which did that."""

    op: int
    """The last run that went into a loss."""
    tensor: int
    texts: tuple[str, str]
    runs: int
    file: int
    store: OneStore | None
    """By what both expressions come to the one tensor, where the text shows it."""
    has_graph: bool
    """Else it is a part of a loss by what was computed from it: that both are one may be meant then."""


def self_compared(index: Index, passes: Passes) -> Iterator[SelfCompared]:
    """Those whose two expressions are not the same text: then the program says itself that it means one thing."""
    ops, recording = index.recording.ops, index.recording
    for span, those in _by_span(index).items():
        walked = [op for op in those if _is_walked(index, passes, op)]
        if span < 0 or not walked or not all(_is_of_one(index, op) for op in those):
            continue
        if _DIFFERENCES.fullmatch(index.func(those[0])) and index.times(those) < _RUNS:
            continue
        sides = two_sides(index.span_source(walked[-1], exact=True))
        if sides is None:
            continue
        row = recording.spans[ops.column("span")[walked[-1]]]
        text = recording.files[row.file].text
        store, tensor = one_store(text, row.line, sides), index.uses.of(walked[-1])[0]
        one, other = map(ast.unparse, sides)
        has_graph = any(_is_in_pass(index, passes, made) for made in index.tensors_made(walked[-1]))
        yield SelfCompared(walked[-1], tensor, (one, other), index.times(those), row.file, store, has_graph)


def _by_span(index: Index) -> dict[int, list[int]]:
    """The calls that compare, by their place."""
    spans, found = index.recording.ops.column("span"), dict[int, list[int]]()
    for op in index.calls_of(lambda func: _LOSSES.fullmatch(func) or _DIFFERENCES.fullmatch(func)):
        found.setdefault(spans[op], []).append(op)
    return found


def _is_of_one(index: Index, op: int) -> bool:
    """Whether a call was given one tensor twice; of a loss it may be cut off from its graph the one time."""
    taken = list(index.uses.of(op))
    if len(taken) < 2:
        return False
    if _DIFFERENCES.fullmatch(index.func(op)):
        return taken[0] == taken[1]
    return _uncut(index, taken[0]) == _uncut(index, taken[1])


def _uncut(index: Index, tensor: int) -> int:
    tensors = index.recording.tensors
    made = tensors.column("op")[tensor]
    is_cut = not tensors.column("flags")[tensor] & EXTERNAL and made < index.op_count and index.func(made) in _CUTS
    return _uncut(index, index.uses.of(made)[0]) if is_cut and len(index.uses.of(made)) else tensor


def _is_walked(index: Index, passes: Passes, op: int) -> bool:
    """Whether a pass went through what a call gave, or through what was computed from that: it has no graph itself."""
    made, steps = index.tensors_made(op), _STEPS
    while made and steps:
        if any(_is_in_pass(index, passes, one) for one in made):
            return True
        made = [one for tensor in made for user in index.users.of(tensor) for one in index.tensors_made(user)][:_STEPS]
        steps -= 1
    return False


def _is_in_pass(index: Index, passes: Passes, tensor: int) -> bool:
    node = index.recording.tensors.column("node")[tensor]
    return node >= 0 and passes.first_walked_at[node] >= 0
