"""Averages of weights whose factors are the wrong way round: each run replaces nearly all of the average."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.mixed_weights import MixedWeights, mixed_weights
from gradscope.analysis.report_model import Cause, Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for mixed in mixed_weights(sources.index, sources.events, sources.lives):
        yield _finding(sources, mixed)


def _finding(sources: Sources, mixed: MixedWeights) -> Finding:
    index, op = sources.index, mixed.ops[-1]
    average, weight = sources.names.at(mixed.average, op), sources.names.of(mixed.weight)
    causes: list[Cause] = sources.cause("write", op)
    is_lerp = "lerp" in index.func(op)
    return sources.finding(
        f"Line {index.op_line(op)}: each run takes {mixed.share:.4g} of {weight}, which an optimizer trains, and keeps "
        f"{1 - mixed.share:.2g} of {average} ({len(mixed.ops):,} runs were looked at)",
        why="this follows the weights from step to step, and is no average of them",
        op=op,
        tensors=[mixed.average, mixed.weight],
        causes=causes,
        evidence=[Evidence("ops", one) for one in mixed.ops[-3:]],
        advice="The weight of lerp is the part of the second tensor: 1 - decay."
        if is_lerp
        else "Multiply the average by the large factor, and the new weights by the small one.",
    )


DIAGNOSIS = Diagnosis(
    code="average-reversed",
    title="an average of weights that keeps next to nothing of itself",
    severity="warning",
    explanation=Explanation(
        meaning="""A moving average of weights (EMA, a target network) was written again and again, between steps of
            their optimizer, with nine tenths or more of the new weights and the rest of itself.""",
        reason="""average = decay * average + (1 - decay) * weight with a decay near 1 moves slowly. With the factors
            swapped, or with tau where 1 - tau is meant, it is the last weights but for a trace.""",
        remedy="""average.lerp_(weight, 1 - decay), or average.mul_(decay).add_(weight, alpha=1 - decay).""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
average = layer.weight.detach().clone()
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    average.lerp_(layer.weight.detach(), 0.99)
""",
        instead_of="average.lerp_(layer.weight.detach(), 0.99)",
        silent="average.lerp_(layer.weight.detach(), 0.01)",
    ),
    find=_find,
)
