"""A backward pass that stands after the loop over the batches, and gets the last batch's loss alone."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.losses_of_last_rounds import (
    ReturnedLoss,
    losses_of_last_rounds,
    losses_of_returned_rounds,
)
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in losses_of_last_rounds(index, sources.passes):
        op, loop, lost = one.passes[-1], one.loop, len(one.losses)
        file = index.statements[index.op_statement[op]].file
        yield sources.finding(
            f"Line {index.op_line(op)}: backward comes after the loop of line {index.line(file, loop.line)}, with "
            f"{loop.name} as its last round left it",
            why=f"{lost:,} losses of the rounds before were computed with a graph, and no pass came to any of them",
            op=op,
            tensors=index.roots.get(op, [])[:1],
            causes=[*sources.cause("backward", op), *sources.cause("step", one.step)],
            evidence=[Evidence("ops", loss) for loss in one.losses[-3:]],
            advice="Put backward() and step() into the loop, or add the losses up in it.",
        )
    for returned in losses_of_returned_rounds(index, sources.passes):
        yield _of_returned(sources, returned)


def _of_returned(sources: Sources, found: ReturnedLoss) -> Finding:
    """A function that goes through scales, heads or parts, and returns the loss of the last one."""
    index, op, returned = sources.index, found.passes[-1], found.returned
    line = index.line(found.file, returned.line)
    given = sources.cause_of_line("made", found.file, returned.line, returned.end_line, returned.function)
    return sources.finding(
        f"Line {line} gives {returned.loop.name} another value in each round of the loop of line "
        f"{index.line(found.file, returned.loop.line)}, and {returned.function} returns that of the last one",
        why=f"{len(found.losses):,} losses of the rounds before were computed with a graph, and backward (line "
        f"{index.op_line(op)}) came to none of them",
        op=op,
        tensors=index.roots.get(op, [])[:1],
        causes=[given],
        evidence=[Evidence("ops", loss) for loss in found.losses[-3:]],
        advice="Add the losses up in the loop.",
    )


DIAGNOSIS = Diagnosis(
    code="loss-of-last-round",
    title="a backward pass after a loop, with the loss of its last round alone",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop gave one name another loss in each round, and backward was called after the loop. It got the
            loss of the last round. The others had been computed with a graph, and no pass came to them; no round was
            computed of what another one gave. Or a function returned the loss of the last round of its own loop.""",
        reason="""loss = ... in a loop replaces what the round before put there. Where backward() and step() stand one
            indent too far to the left, an epoch is one step, made for its last batch.""",
        remedy="""Put zero_grad(), backward() and step() into the loop; or sum the losses: total = total + loss.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
data = torch.ones(12, 3)
for epoch in range(2):
    loss = 0
    for batch in data.split(3):
        loss = layer(batch).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="loss = layer(batch).pow(2).mean()",
        silent="loss = loss + layer(batch).pow(2).mean()",
    ),
    find=_find,
)
