"""Writes to one row of an expanded tensor, all of whose rows are one memory."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.expanded_writes import expanded_writes
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that writes to what another one expanded."""
    index = sources.index
    for write in expanded_writes(index, sources.sharing):
        made_at = index.recording.tensors.column("op")[write.expanded]
        name = sources.names.at(write.expanded, write.op)
        yield sources.finding(
            f"Line {index.op_line(write.op)}: {index.call_name(write.op)} wrote a part of {name}, and {write.times} "
            "parts of it changed",
            why=f"{index.call_name(made_at)} of line {index.op_line(made_at)} made no copy: they are one memory",
            op=write.op,
            tensors=[write.expanded],
            causes=[*sources.cause("made", made_at), *sources.cause("write", write.op)],
            evidence=[Evidence("ops", made_at)],
            advice="expand(…).clone(), or repeat(), gives each its own memory.",
        )


DIAGNOSIS = Diagnosis(
    code="write-into-expanded",
    title="a write to one row of an expanded tensor that changes all of them",
    severity="warning",
    explanation=Explanation(
        meaning="""A part of a tensor that expand() or broadcast_to() gave was written in place. Other parts are the
            same memory and changed with it.""",
        reason="""expand() repeats what it is given without a copy: the rows of mask.expand(8, 4) are one row that is
            seen eight times. torch refuses to write the whole of it in place, but not one row.""",
        remedy="""Give each row its own memory before it is written: mask.expand(8, 4).clone(), or mask.repeat(8,
            1).""",
    ),
    example=Example(
        shows="""\
import torch

mask = torch.zeros(1, 4).expand(3, 4)
mask[0] = 1
print(mask.sum())
""",
        instead_of="mask = torch.zeros(1, 4).expand(3, 4)",
        silent="mask = torch.zeros(1, 4).repeat(3, 1)",
    ),
    find=_find,
)
