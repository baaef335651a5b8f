"""Gradients that are gathered as they are, put back as ``.grad`` for a step, and added to by a pass in between."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.values.gradient_keeping import keeps_gradient
from gradscope.recording import NONE
from gradscope.recording.rows import Field

_READ = "Tensor.grad.__get__"
_SETS = "Tensor.grad.__set__"


def gathering_read(index: Index, tensors: Iterable[int], own: int, other: int, step: int) -> int:
    """The last read of ``.grad`` that keeps, without a copy, what a later pass adds to; NONE where none does.

    Args:
        index: The recording.
        tensors: Parameters.
        own: The pass that gave them these gradients.
        other: The pass that added to them.
        step: The step that applied them.

    Each of the tensors that were read is put back as ``.grad`` between the other pass and the step.
    """
    parameters, found = set(tensors), list[tuple[int, int]]()
    for op in index.calls_of(_READ.__eq__):
        if own < op < other and not parameters.isdisjoint(index.uses.of(op)) and index.op_statement[op] != NOWHERE:
            statement = index.statements[index.op_statement[op]]
            if keeps_gradient(index.recording.files[statement.file].text, index.op_line(op)):
                found += [(op, gradient) for gradient in index.results.of(op)]
    put_back = {
        gradient
        for op in index.calls_of(_SETS.__eq__)
        if other < op < step and not parameters.isdisjoint(index.uses.of(op))
        for gradient in index.uses.of(op)
    }
    is_put_back = bool(found) and all(gradient in put_back for _, gradient in found)
    return max(op for op, _ in found) if is_put_back else NONE


def are_replaced(index: Index, tensors: Iterable[int], since: int, step: int) -> bool:
    """Whether the program gave each parameter another tensor as ``.grad`` before a step: that is what was applied."""
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "tensor", "field", "before", "after"))
    replaced = {
        tensor
        for op, tensor, field, before, after in zip(*columns, strict=True)
        if field == Field.GRAD and since < op < step and index.func(op) == _SETS and after not in (before, NONE)
    }
    return replaced.issuperset(tensors)
