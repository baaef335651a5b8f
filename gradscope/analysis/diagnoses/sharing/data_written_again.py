"""Stored data that is changed in place each time that it is given out."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.data_written_again import data_written_again
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in data_written_again(index, sources.sharing):
        view, base = (sources.names.at(one, found.op) for one in (found.view, found.base))
        made = index.made_by(found.view)
        what = (
            "what it adds is added to the noise of the times before" if found.is_random else "the factor counts again"
        )
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {index.call_name(found.op)} changes {base} itself, of which {view} is a "
            f"view, {found.times:,} times at the same place",
            why=f"each time {what}",
            op=found.op,
            tensors=[found.base, found.view],
            causes=[*sources.cause("write", found.op), *(sources.cause("made", made) if made >= 0 else [])],
            evidence=[Evidence("ops", made)] if made >= 0 else [],
            advice=f"Compute a new tensor there ({view} = {view} + …), or take {view} with clone().",
        )


DIAGNOSIS = Diagnosis(
    code="data-written-again",
    title="stored data that is changed each time that it is given out",
    severity="warning",
    explanation=Explanation(
        meaning="""A function that prepares data (__getitem__, forward, augment …) took a view of stored values and
            added noise to it, or multiplied it, in place. It did so several times at the same place, and nothing else
            writes there.""",
        reason="""An index, a slice or a row is a view of what is stored. x += noise on it changes the data set, so that
            the noise of all epochs adds up, and a factor is applied once more in each.""",
        remedy="""x = x + noise in place of x += noise, or x = self.data[i].clone().""",
    ),
    example=Example(
        shows="""\
import torch

data = torch.ones(4, 3)


def noisy(i):
    x = data[i]
    x += torch.randn(3)
    return x


for epoch in range(3):
    print(torch.stack([noisy(i) for i in range(4)]).mean())
""",
        instead_of="x = data[i]",
        silent="x = data[i].clone()",
    ),
    find=_find,
)
