"""What ``torch.autograd.grad`` gave for a scaled loss, used as it is: in a step that the program makes itself, or in a
term of a loss. No ``GradScaler`` divides these gradients, as they are in no ``.grad``.

Where the program asks for the scale before, or names one in the call that uses them, it may have divided by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, plain_name
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, OpKind

_STILL_ONE = AS_IT_IS | {"sum", "mean", "div", "truediv"}
"""Calls between a scaled loss and what autograd.grad is given that leave it a scaled loss."""
_STILL_SCALED = AS_IT_IS | {"mul", "multiply", "neg", "sum", "mean", "stack", "cat"}
_LENGTHS = frozenset(("pow", "square", "norm", "vector_norm"))
_SUMS = frozenset(("add", "sub", "subtract"))
_NAMES_A_SCALE = re.compile(r"scale(?!r)|inv", re.IGNORECASE)
_FOLLOWED = 60
"""Calls that are followed from the gradients of one call."""


class ScaledDerivative(NamedTuple):
    """One line that uses such gradients."""

    scaled: int
    """The tensor of the scaled loss."""
    asked: int
    """The op of ``autograd.grad``."""
    used: int
    """The op that made a step of them, or took their length."""
    of: int
    """The tensor that the step changes; NONE for a length."""


def scaled_derivatives(index: Index, events: Events, passes: Passes) -> Iterator[ScaledDerivative]:
    """The first of each line."""
    calls = events.of(EventKind.GRAD_SCALER)
    scaled = {tensor for event in calls if event.detail.get("call") == "scale" for tensor in event.tensors}
    scale_known = min((event.op for event in calls if event.detail.get("call") == "get_scale"), default=index.op_count)
    seen = set[int]()
    for asked in index.of_kind(OpKind.GRAD) if scaled else ():
        roots = [below(index, one, _STILL_ONE) for one in index.roots.get(asked, ())]
        if asked >= scale_known or len(roots) != 1 or roots[0] not in scaled:
            continue
        for used, of in _uses(index, passes, asked):
            if used < scale_known and index.op_statement[used] not in seen:
                seen.add(index.op_statement[used])
                yield ScaledDerivative(roots[0], asked, used, of)


def _uses(index: Index, passes: Passes, asked: int) -> Iterator[tuple[int, int]]:
    """The steps and lengths that gradients go into while they carry the scale."""
    by = set(index.uses.of(asked)).difference(index.roots.get(asked, ()))
    todo, seen = list(index.tensors_made(asked)), set[int]()
    while todo:
        tensor = todo.pop()
        for op in index.users.of(tensor):
            if op in seen or op <= asked or len(seen) > _FOLLOWED or _NAMES_A_SCALE.search(_source(index, op)):
                continue
            seen.add(op)
            name = plain_name(index.func(op))
            others = [one for one in index.uses.of(op) if one != tensor]
            if name in _SUMS and len(others) == 1:
                of = _changed(index, others[0], by, op)
                if of >= 0:
                    yield op, of
            elif name in _LENGTHS and not others:
                if any(_is_trained(index, passes, one) for one in index.tensors_made(op)):
                    yield op, NONE
            elif name in _STILL_SCALED:
                todo += index.tensors_made(op)


def _source(index: Index, op: int) -> str:
    return index.span_source(op).replace("scaler.scale(", "")


def _changed(index: Index, tensor: int, by: set[int], op: int) -> int:
    """The tensor of some that a step changes, or the memory of which it changes; NONE where it is none of them."""
    storage = index.storage_at(tensor, op)
    same = (one for one in by if one == tensor or (storage >= 0 and index.storage_at(one, op) == storage))
    return next(same, NONE)


def _is_trained(index: Index, passes: Passes, tensor: int) -> bool:
    node = index.recording.tensors.column("node")[tensor]
    walked = passes.first_walked_at[node] if node >= 0 else NONE
    return walked >= 0 and index.recording.ops.column("kind")[walked] == OpKind.BACKWARD
