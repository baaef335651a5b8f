"""A context manager that is made where it was to be entered."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.frames.without_effect.contexts_not_entered import contexts_not_entered


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each such statement behind which something ran in its block, itself or in what it called."""
    index = sources.index
    for number, file in enumerate(index.recording.files):
        made = contexts_not_entered(file.text) if file.is_user else []
        ran = list(_ran(sources, number)) if made else []
        for one in made:
            behind = [(line, function, op) for line, function, op in ran if one.end_line < line <= one.until]
            if not behind:
                continue
            line, function, op = min(behind)
            yield sources.finding(
                f"Line {index.line(number, one.line)}: {one.source} makes a context manager that nothing enters",
                why=f"line {line} runs as if it were not there",
                op=op,
                tensors=[],
                causes=[sources.cause_of_line("used", number, one.line, one.end_line, function)],
                advice=f"Write with {one.source}: around what is meant.",
            )


def _ran(sources: Sources, file: int) -> Iterator[tuple[int, str, int]]:
    """Lines of a file at which calls were seen, and those at which a name led to a tensor or a module that one took.

    Each with its function, and an op.
    """
    index, recording = sources.index, sources.index.recording
    for statement, op in index.last_op.items():
        place = index.statements[statement]
        if place.file == file:
            yield place.line, recording.text(place.function), op
    for span, op in zip(recording.bindings.column("span"), recording.bindings.column("op"), strict=True):
        if span >= 0 and recording.spans[span].file == file and op < index.op_count:
            yield index.line(file, recording.spans[span].stmt_line), recording.text(recording.spans[span].function), op


DIAGNOSIS = Diagnosis(
    code="context-not-entered",
    title="a context manager that is made and not entered",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement is nothing but a call that makes a context manager (torch.no_grad(), or a function of the
            program's own that is decorated with contextmanager), and what stands behind it in the same block ran.""",
        reason="""A context manager does its work when a with statement enters and leaves it. Made and dropped, it does
            nothing: of a decorated generator not even the first line runs.""",
        remedy="""with torch.no_grad(): around the statements that are meant.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
def measure():
    torch.no_grad()
    return (w * 2).sum()
print(measure())
""",
        instead_of="torch.no_grad()",
        silent="with torch.no_grad(): w.sum()",
    ),
    find=_find,
)
