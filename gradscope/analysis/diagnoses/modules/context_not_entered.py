"""A context manager that is made where it was to be entered."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.frames.without_effect.contexts_not_entered import contexts_not_entered


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each such statement behind which something ran in its block."""
    index = sources.index
    for number, file in enumerate(index.recording.files):
        made = contexts_not_entered(file.text) if file.is_user else []
        ran = [(one.line, at) for at, one in enumerate(index.statements) if one.file == number] if made else []
        for one in made:
            behind = [(line, at) for line, at in ran if one.end_line < line <= one.until and at in index.last_op]
            if not behind:
                continue
            line, statement = min(behind)
            function = index.recording.text(index.statements[statement].function)
            yield sources.finding(
                f"Line {index.line(number, one.line)}: {one.source} makes a context manager that nothing enters",
                why=f"line {line} runs as if it were not there",
                op=index.last_op[statement],
                tensors=[],
                causes=[sources.cause_of_line("used", number, one.line, one.end_line, function)],
                advice=f"Write with {one.source}: around what is meant.",
            )


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
