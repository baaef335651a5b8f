"""A copy of a network that ``.data =`` was to bring up to date: it lies on the other's memory, and one is trained."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.assigned_memory import AssignedMemory, assigned_again, assigned_and_stepped
from gradscope.analysis.facts.memory_writes.mixed_snapshots import mixed_snapshots
from gradscope.analysis.facts.memory_writes.put_on_trained import SETS, PutOnTrained
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement."""
    index, lives, said = sources.index, sources.lives, set[int]()
    for found in (*assigned_again(index, lives), *assigned_and_stepped(index, lives)):
        said.add(index.op_statement[found.op])
        yield _put(sources, found.op, found.pairs, _again(found))
    alike: dict[int, list[PutOnTrained]] = {}
    for one in sources.put_on_trained:
        if index.func(one.op) in SETS and index.op_statement[one.op] not in said:
            alike.setdefault(index.op_statement[one.op], []).append(one)
    is_told = _mixed_with_itself(sources) if alike else frozenset[int]()
    for group in alike.values():
        if any(one.put in is_told for one in group):
            continue
        pairs = list(dict.fromkeys((one.put, one.trained) for one in group))
        yield _put(sources, group[-1].op, pairs, f"{max(one.steps for one in group):,} steps changed both since")


def _mixed_with_itself(sources: Sources) -> frozenset[int]:
    """What is mixed with that on whose memory it is: snapshot-shares-memory tells of it."""
    mixed = mixed_snapshots(sources.index, sources.names, sources.sharing)
    return frozenset(one.tensor for group in mixed.values() for one in group)


def _again(found: AssignedMemory) -> str:
    if found.stepped_at >= 0:
        return f"{found.steps:,} steps of the former changed the latter, too, before the line ran again"
    return (
        f"each step changes both since: when the line ran again, {found.steps:,} steps later, nothing was left to "
        "bring up to date"
    )


def _put(sources: Sources, op: int, pairs: list[tuple[int, int]], why: str) -> Finding:
    index = sources.index
    names = [sources.names.of(one) for one, _ in pairs if sources.names.is_named(one)]
    put = sources.listed(names) if len(names) == len(pairs) else "parameters"
    of = sources.listed([sources.names.of(other) for _, other in pairs])
    how = ".data = …" if index.func(op).endswith("__set__") else "set_()"
    return sources.finding(
        f"Line {index.op_line(op)}: {how} puts {put} on the memory of {of}, and copies nothing",
        why=why,
        op=op,
        tensors=[one for pair in pairs for one in pair],
        causes=sources.cause("write", op),
        evidence=[Evidence("ops", op)],
        advice="Copy the values: target.data.copy_(source.data), or copy_ under torch.no_grad().",
    )


DIAGNOSIS = Diagnosis(
    code="memory-assigned",
    title="a copy of a network that is put on the other's memory in place of getting its values",
    severity="warning",
    explanation=Explanation(
        meaning="""x.data = y.data was run to bring the parameters of one network up to those of another, of which an
            optimizer steps one. The other one was used when steps had changed both: it had been at work with values
            of its own, has a name for what stays behind (target, teacher, opponent), or the line ran again to bring it
            up to date. Or what the other was to start from had been changed by the steps of the one before it (clients
            of a server).""",
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
