"""Tensors that a checkpointed function reads as attributes, which name others by the time backward runs it again.

``self.state * x`` in the function, and ``self.state = new`` after it: the second run computes with ``new``. What the
function stores itself is updated twice, which is another matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modules.checkpoints import reruns
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import BindingKind

_OF_SELF = "self."


class RerunTensor(NamedTuple):
    """One attribute, in the last run of which that is known."""

    name: str
    """``self.state``."""
    tensor: int
    """What the first run read."""
    read: int
    """The call that it went into."""
    stored: int
    """The span of the statement that gave the name another tensor."""
    checkpoint: int
    """The span of the call of checkpoint."""
    passed: int
    """The pass that ran the function again."""


def rerun_tensors(index: Index, events: Events, passes: Passes) -> Iterator[RerunTensor]:
    """One for each attribute and each statement that stores it."""
    known = list(reruns(index, events, passes))
    if not known:
        return
    loads: dict[int, list[tuple[int, int, int]]] = {}
    loaded: dict[int, dict[int, None]] = {}
    stores: dict[int, list[tuple[int, int, int]]] = {}
    text, bindings = index.recording.text, index.recording.bindings
    columns = (bindings.column(name) for name in ("name", "tensor", "op", "span", "kind"))
    for name, tensor, op, span, kind in zip(*columns, strict=True):
        if span < 0 or not text(name).startswith(_OF_SELF):
            continue
        if kind == BindingKind.LOAD:
            loads.setdefault(op, []).append((name, tensor, span))
            loaded.setdefault(name, {})[tensor] = None
        elif kind == BindingKind.STORE:
            stores.setdefault(name, []).append((op, tensor, span))
    flags, found = index.recording.tensors.column("flags"), dict[tuple[int, int], list[RerunTensor]]()
    for rerun in known:
        if rerun.event.span < 0 or not rerun.nodes:
            continue
        own, passed = {made for op in rerun.ops for made in index.tensors_made(op)}, min(rerun.nodes.values())
        seen: set[int] = set()
        for op in rerun.ops:
            for name, tensor, span in loads.get(op, ()):
                is_read = tensor in index.uses.of(op) and tensor not in own and not flags[tensor] & PARAMETER
                if not is_read or name in seen:
                    continue
                later = [
                    at
                    for after, other, at in (*stores.get(name, ()), *_made_for(index, text(name), loaded.get(name, ())))
                    if rerun.ops[-1] < after < passed
                    and other != tensor
                    and _class_of(index, at) == _class_of(index, span)
                ]
                if later:
                    seen.add(name)
                    one = RerunTensor(text(name), tensor, op, later[-1], rerun.event.span, passed)
                    found.setdefault((name, index.statement_of_span[later[-1]]), []).append(one)
    for several in found.values():
        yield several[-1]


def _made_for(index: Index, name: str, tensors: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Stores that are not seen, as their function made no call after them: of what the statement made that stores."""
    for tensor in tensors:
        op = index.recording.tensors.column("op")[tensor]
        if 0 <= op < index.op_count and index.op_place(op).source.lstrip().startswith(f"{name} = "):
            yield op, tensor, index.recording.ops.column("span")[op]


def _class_of(index: Index, span: int) -> tuple[int, str]:
    """The file, and the class whose method a span is in."""
    row = index.recording.spans[span]
    return row.file, index.recording.text(row.function).rpartition(".")[0]
