"""A write in place that reads what it has written already."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sharing.out_of_place import a_new_tensor
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.facts.memory_writes.overlapping_reads import COPIES, overlapping_reads
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    made_at = index.recording.tensors.column("op")
    for found in overlapping_reads(index, sources.sharing):
        name, read = sources.names.at(found.written, found.op), sources.names.at(found.read, found.op)
        view = made_at[found.read]
        if not sources.names.is_named(found.read) and view < index.op_count:
            read = index.span_source(view) or read
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {index.call_name(found.op)} writes {name} and takes {read} from the same "
            "memory: some elements of that have been overwritten when it comes to read them",
            why="it goes element by element and keeps no copy of what it reads; torch refuses this only where both are "
            "without gaps",
            op=found.op,
            tensors=[found.written, found.read],
            causes=sources.cause("write", found.op),
            evidence=[Evidence("ops", found.op)],
            advice=f"Take {read}.clone()."
            if called(index, found.op) in COPIES
            else f"Write {a_new_tensor(index, found.op, name)}, or take {read}.clone().",
        )


DIAGNOSIS = Diagnosis(
    code="reads-what-it-writes",
    title="a write in place that reads what it has written already",
    severity="warning",
    explanation=Explanation(
        meaning="""A call wrote a tensor in place and took another one that shares a part of its memory, other elements
            than those at the same places. In the order in which the CPU goes through them it read elements that it had
            written before. Nothing is said where it reads each before it writes it (x /= x[:, -1:]).""",
        reason="""x -= x[:, :1] makes the first column zero first, and subtracts zero from the others. torch looks for
            an overlap of both operands only where they lie dense on the memory, and raises there; a column is not
            dense.""",
        remedy="""Compute a new tensor (x = x - x[:, :1]), or take a copy of what is read: x -= x[:, :1].clone().""",
    ),
    example=Example(
        shows="""\
import torch

rewards = torch.rand(4, 6)
rewards -= rewards[:, :1]
print(rewards.mean())
""",
        instead_of="rewards -= rewards[:, :1]",
        silent="rewards = rewards - rewards[:, :1]",
    ),
    find=_find,
)
