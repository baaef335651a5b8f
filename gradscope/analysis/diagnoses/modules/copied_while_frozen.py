"""A deep copy of a frozen part that is to be trained, and is frozen as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.frozen_copies import FrozenCopy, frozen_copies
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that copies."""
    index, by_line = sources.index, dict[int, list[FrozenCopy]]()
    for found in frozen_copies(index, sources.events, sources.flow, sources.lives):
        by_line.setdefault(index.op_statement[found.op], []).append(found)
    for several in by_line.values():
        last = several[-1]
        originals = sources.listed([sources.names.at(one, last.op) for one in last.originals])
        what = f"{last.of} (its parameters: {originals})" if last.of else originals
        given = (
            "" if last.optimizer is None else f"no step of the {last.optimizer.name} that was given it changes it, and "
        )
        yield sources.finding(
            f"Line {index.op_line(last.op)}: copy.deepcopy copies {what} while it is frozen, and the copy does not "
            "require grad either",
            why=f"{given}backward passes go by it and train others",
            op=last.passes[-1],
            tensors=last.copies,
            causes=sources.cause("made", last.op),
            evidence=[Evidence("ops", found.op) for found in several],
            advice="Set requires_grad_(True) on the copy, or copy before freezing.",
        )


DIAGNOSIS = Diagnosis(
    code="copied-while-frozen",
    title="a copy of a frozen part that is to be trained is frozen, too",
    severity="warning",
    explanation=Explanation(
        meaning="""Parameters that did not require grad were copied by copy.deepcopy, and nothing set requires_grad of
            the copies, which losses are computed with. They are to be trained: an optimizer has a group of nothing
            else, while the originals are in use beside them, or the copy was put where the original was, or beside it
            in one list, which had been trained until it was frozen.""",
        reason="""A deep copy of a parameter has its requires_grad. An optimizer takes parameters without it and skips
            them; where the parameters are chosen by requires_grad, the copy is not even among them.""",
        remedy="""new = copy.deepcopy(old).requires_grad_(True), or copy first and freeze the old one after that.""",
    ),
    example=Example(
        shows="""\
import copy

import torch
from torch import nn

teacher = nn.Linear(3, 3).requires_grad_(False)
student = copy.deepcopy(teacher)
head = nn.Linear(3, 1)
optimizer = torch.optim.SGD([{"params": student.parameters(), "lr": 0.01}, {"params": head.parameters()}], lr=0.1)
for step in range(4):
    x = torch.rand(5, 3)
    optimizer.zero_grad()
    loss = head(student(x)).pow(2).mean() + (student(x) - teacher(x)).pow(2).mean()
    loss.backward()
    optimizer.step()
""",
        instead_of="student = copy.deepcopy(teacher)",
        silent="student = copy.deepcopy(teacher).requires_grad_(True)",
    ),
    find=_find,
)
