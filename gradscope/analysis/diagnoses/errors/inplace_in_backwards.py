"""``modified by an inplace operation`` where the backward of a Function wrote what others had saved as well."""

from __future__ import annotations

from collections.abc import Container, Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.writes_to_saved import SharedWithSaver, WritesOfBackwards, WrittenAgain
from gradscope.analysis.report_model import Evidence, Severity
from gradscope.analysis.worded_lines import numbers
from gradscope.recording import NONE

_REPORTED = "modified by an inplace operation"


def found_in_backwards(sources: Sources, explained: Container[int]) -> Iterator[Finding]:
    """One finding for each pass (an op) that failed and that no write which was seen explains."""
    writes = WritesOfBackwards(sources.index, sources.events, sources.passes, sources.functions.of_name)
    for op, _, severity in sources.raised(_REPORTED):
        found = writes.needed_by(op) if op not in explained else None
        if found is not None:
            yield _finding(sources, found, op, severity)
        elif op not in explained and (again := writes.needed_again(op)) is not None:
            yield _of_second_pass(sources, again, op, severity)


def _of_second_pass(sources: Sources, found: WrittenAgain, failed: int, severity: Severity | None) -> Finding:
    index, shown = sources.index, numbers(one.line for one in found.writes)
    return sources.finding(
        f"Line{'s' * (' and ' in shown)} {shown}: the backward of {found.written.name} writes in place into what its "
        f"forward had saved (line {found.saves[0].line}); the pass of line {index.op_line(found.wrote_in)} came there "
        f"first, and therefore the second one, backward at line {index.op_line(failed)}, failed",
        why="a backward is given what was saved itself, not a copy",
        op=failed,
        tensors=[],
        causes=[*sources.causes_at("write", found.writes), *sources.causes_at("saved", found.saves)],
        evidence=[Evidence("nodes", found.node), Evidence("ops", failed)],
        advice="Compute new tensors there, or write into a clone().",
        severity=severity,
    )


def _finding(sources: Sources, found: SharedWithSaver, failed: int, severity: Severity | None) -> Finding:
    index = sources.index
    saved = index.recording.saved[found.saved_row]
    at, kept = index.recording.nodes.column("op")[saved.node], _kept(sources, found)
    named = sources.names.of(kept) if kept >= 0 and sources.names.is_named(kept) else ""
    owner = index.recording.text(index.recording.nodes.column("name")[saved.node])
    again = f", in the pass of line {index.op_line(found.wrote_in)}," if found.wrote_in != failed else ""
    whose = "it had itself" if saved.node == found.writer else f"line {index.op_line(at)} had"
    what = f"{named}, which" if named else "memory that"
    return sources.finding(
        f"Line {found.lines.line}: the backward of {found.written.name}{again} writes in place into {what} {whose} "
        f"saved for backward ({index.recording.text(saved.attr)} of {owner}); therefore backward at line "
        f"{index.op_line(failed)} failed",
        why="a backward is given what was saved itself, not a copy",
        op=failed,
        tensors=[kept] if kept >= 0 else [],
        causes=[*sources.causes_at("write", [found.lines]), *sources.cause("saved", at)],
        evidence=[Evidence("saved", found.saved_row), Evidence("ops", failed)],
        advice="Compute a new tensor there, or write into a clone().",
        severity=severity,
    )


def _kept(sources: Sources, found: SharedWithSaver) -> int:
    """A tensor on the memory: as it was saved, or the result of the node that had saved it."""
    index, saved = sources.index, sources.index.recording.saved
    rows = [found.saved_row, *index.saved.of(found.writer)]
    tensors = [saved[row].tensor for row in rows if saved[row].storage == found.storage and saved[row].tensor >= 0]
    named = [one for one in tensors if sources.names.is_named(one)]
    return next(iter((*named, *tensors)), NONE)
