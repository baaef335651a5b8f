"""A number that a sum adds, and the call that took it out of a tensor, as text and recording together say."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.lost_terms import LostTerms
from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import NamedLine
from gradscope.frames.values.number_terms import taken_out_at
from gradscope.recording.rows import BindingKind, OpKind


class NumberAdded(NamedTuple):
    """A term of a sum that is a plain number."""

    term: str
    """In words."""
    line: NamedLine
    """Where it was taken out."""
    export: int
    """The call that took it out."""


def number_added(sources: Sources, lost: LostTerms, at: int) -> NumberAdded | None:
    """The number that an op added, which the text takes out of what required grad; None where it does not say so.

    Args:
        sources: Of the recording.
        lost: Where values were cut off leaves.
        at: The op of a sum, which took one tensor.
    """
    index = sources.index
    statement = index.statements[index.op_statement[at]]
    if statement.file < 0 or not index.recording.files[statement.file].is_user:
        return None
    text = index.recording.files[statement.file].text
    made = index.recording.tensors.column("op")[index.uses.of(at)[0]]
    is_made_there = made < at and index.op_statement[made] == index.op_statement[at]
    tensor_source = index.span_source(made, exact=True) if is_made_there else ""
    line, source = index.op_line(at), index.span_source(at, exact=True)
    found = taken_out_at(text, line, source, tensor_source, _names_of_tensors(index, statement.file, line))
    export = _export(index, lost, statement.file, found[1], at) if found is not None else -1
    if found is None or export < 0:
        return None
    return NumberAdded(found[0], index.line(statement.file, found[1]), export)


def _names_of_tensors(index: Index, file: int, line: int) -> frozenset[str]:
    """The names that held tensors, if at times only, where a line read them."""
    spans = index.recording.spans
    read = (one for one in index.recording.bindings if one.span >= 0 and one.kind == BindingKind.LOAD)
    return frozenset(
        index.recording.text(one.name) for one in read if (spans[one.span].file, spans[one.span].line) == (file, line)
    )


def _export(index: Index, lost: LostTerms, file: int, line: int, before: int) -> int:
    """The last call of a line that took a value out of what leads to leaves and was not cut off on purpose, or -1."""
    kinds = index.recording.ops.column("kind")
    for op in range(before - 1, -1, -1):
        where = index.statements[index.op_statement[op]]
        if kinds[op] == OpKind.EXPORT and where.file == file and index.op_line(op) == line:
            return op if len(index.uses.of(op)) and lost.is_lost_at(op) else -1
    return -1
