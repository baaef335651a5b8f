"""Weights that ``torch.nn.utils.parametrize.cached()`` keeps: the line that opens it."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.parametrized_weights import by_parametrization
from gradscope.analysis.report_model import Cause
from gradscope.frames.blocks.cached_parametrizations import cached_around

OF_CACHED = "Open it anew in each step, around what one backward pass is for: its cache is empty then."


def cached_at(sources: Sources, tensors: Collection[int], op: int) -> list[Cause]:
    """The statement that opens it around an op, where a parametrization computed one of some tensors; else nothing."""
    index = sources.index
    statement = index.op_statement[op]
    if statement < 0 or not any(tensor >= 0 and by_parametrization(index, tensor) for tensor in tensors):
        return []
    file, line = index.statements[statement].file, int(index.statements[statement].line)
    for number, one in enumerate(index.recording.files):
        found = cached_around(one.text, line) if number == file else None
        if found is not None:
            return [sources.cause_of_line("saved", number, *found)]
    return []
