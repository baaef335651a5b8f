"""Steps that are not made since a norm of gradients that still carry the loss scale is compared with a limit."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.passes.gradient_lives import first_after, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.steps_decided import decided_step
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, OpKind

PASSES = 3
"""Passes whose gradients were looked at, from which on it is told."""
_ONE_IN = 10
"""At most one step in so many of these passes is rare."""
_COMPUTE = (OpKind.CALL, OpKind.GROUP, OpKind.EXPORT)
_CLIPS = "nn.utils.clip_grad"


def steps_withheld(sources: Sources, passes: dict[int, Happened]) -> Iterator[Finding]:
    """One finding for all passes from scaled losses, if hardly any led to a step.

    Args:
        sources: What is known.
        passes: The passes from scaled losses, with how these were scaled.
    """
    if len(passes) < PASSES:
        return
    windows = _Windows(sources)
    looked = {op: ops for op in sorted(passes) if (ops := windows.looked_at(op))}
    stepped = sum(map(windows.is_stepped, looked))
    if len(looked) < PASSES or stepped * _ONE_IN > len(looked):
        return
    index, last = sources.index, max(looked)
    statements = {index.op_statement[op] for ops in looked.values() for op in ops}
    places = [index.statements[one] for one in statements]
    for file in {place.file for place in places if place.file >= 0}:
        if not index.recording.files[file].is_user:
            continue
        lines = {place.line for place in places if place.file == file}
        functions = {_function_of(index, op) for ops in looked.values() for op in ops} - {_function_of(index, last)}
        found = decided_step(index.recording.files[file].text, lines, functions)
        if found is None:
            continue
        line, how = index.line(file, found.line), "no step was" if not stepped else f"{stepped:,} steps were"
        yield sources.finding(
            f"Line {line}: this is computed of gradients that are still multiplied by the loss scale, and decides "
            "whether a step is made",
            why=f"{how} made after {len(looked):,} passes, as the limit is too small by the scale",
            op=max(looked[last]),
            tensors=[sources.lives.owners[one] for one in sources.lives.given[last]],
            causes=[sources.cause_of_line("made", file, found.line, found.end_line, "")],
            evidence=[Evidence("ops", last), Evidence("events", passes[last].row)],
            advice="Call scaler.unscale_(optimizer) before it.",
        )
        return


def _function_of(index: Index, op: int) -> str:
    """The name of the function that an op was called in; empty where it is not known."""
    span = index.recording.ops.column("span")[op]
    return "" if span < 0 else index.recording.text(index.recording.spans[span].function).rpartition(".")[2]


class _Windows:
    """What happened between each pass and the next."""

    def __init__(self, sources: Sources) -> None:
        self._sources, self._index = sources, sources.index
        self._passes = self._index.of_kind(OpKind.BACKWARD)
        events = sources.events.of(EventKind.GRAD_SCALER)
        self._divided = sorted(one.op for one in events if one.detail.get("call") == "unscale_")
        asked = {one.op for one in events if one.detail.get("call") == "step"}
        self._steps = sorted(asked.union(*sources.lives.steps.values()))
        self._written: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            if op < self._index.op_count and not self._index.func(op).startswith(_CLIPS):
                self._written.setdefault(self._index.storage_at(tensor, op), []).append(op)

    def looked_at(self, backward: int) -> list[int]:
        """The calls that computed something of the gradients of a pass before anything may have divided them."""
        index, end = self._index, self._end(backward)
        if ops_between(self._divided, backward, end + 1):
            return []
        derived = set(self._sources.lives.given.get(backward, ()))
        storages, found = {index.storage_at(one, backward) for one in derived}, list[int]()
        kinds = index.recording.ops.column("kind")
        for op in range(backward + 1, end):
            if kinds[op] in _COMPUTE and not derived.isdisjoint(index.uses.of(op)):
                found.append(op)
                derived.update(index.tensors_made(op))
        if all(kinds[op] == OpKind.EXPORT for op in found):
            return []
        if any(ops_between(self._written.get(one, []), backward, found[-1]) for one in storages):
            return []
        return [] if any(index.func(op) == "Tensor.grad.__set__" for op in range(backward + 1, found[-1])) else found

    def is_stepped(self, backward: int) -> bool:
        """Whether a scaler or an optimizer made a step before the next pass."""
        return bool(ops_between(self._steps, backward, self._end(backward) + 1))

    def _end(self, backward: int) -> int:
        after = first_after(self._passes, backward)
        return after if after != NONE else self._index.op_count
