"""A copy of a network that ``.data =`` was to bring up to date: it lies on the other's memory, and one is trained."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.assigned_memory import AssignedMemory, assigned_again, assigned_and_stepped
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for found in assigned_again(sources.index, sources.lives):
        yield _finding(sources, found)
    for found in assigned_and_stepped(sources.index, sources.lives):
        yield _finding(sources, found)


def _finding(sources: Sources, found: AssignedMemory) -> Finding:
    index = sources.index
    names = [sources.names.of(one) for one, _ in found.pairs if sources.names.is_named(one)]
    put = sources.listed(names) if len(names) == len(found.pairs) else "parameters"
    of = sources.listed([sources.names.of(other) for _, other in found.pairs])
    how = ".data = …" if index.func(found.op).endswith("__set__") else "set_()"
    why = (
        f"each step changes both since: when the line ran again, {found.steps:,} steps later, nothing was left to "
        "bring up to date"
    )
    if found.stepped_at >= 0:
        why = f"{found.steps:,} steps of the former changed the latter, too, before the line ran again"
    return sources.finding(
        f"Line {index.op_line(found.op)}: {how} puts {put} on the memory of {of}, and copies nothing",
        why=why,
        op=found.op,
        tensors=[one for pair in found.pairs for one in pair],
        causes=sources.cause("write", found.op),
        evidence=[Evidence("ops", found.op)],
        advice="Copy the values: target.data.copy_(source.data), or copy_ under torch.no_grad().",
    )


DIAGNOSIS = Diagnosis(
    code="memory-assigned",
    title="a copy of a network that is put on the other's memory in place of getting its values",
    severity="warning",
    explanation=Explanation(
        meaning="""x.data = y.data was run again and again to bring the parameters of one network up to those of
            another, of which an optimizer steps one. Both were on one memory already when it ran again; or what the
            other was to start from had been changed by the steps of the one before it (clients of a server).""",
        reason="""An assignment to .data makes a tensor show the memory of what it is given. Nothing is copied: from
            then on both are one, and a target network moves with each step of the network that it is the target for.
            Nothing fails.""",
        remedy="""Copy the values: x.data.copy_(y.data), with torch.no_grad(): x.copy_(y), or
            target.load_state_dict(online.state_dict()).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

online, target = nn.Linear(3, 1), nn.Linear(3, 1)
optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
for step in range(6):
    if step % 2 == 0:
        for kept, trained in zip(target.parameters(), online.parameters()):
            kept.data = trained.data
    with torch.no_grad():
        expected = target(torch.ones(4, 3)) + 1
    loss = (online(torch.ones(4, 3)) - expected).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="kept.data = trained.data",
        silent="kept.data.copy_(trained.data)",
    ),
    find=_find,
)
