"""Averages of weights whose factors are the wrong way round: they are replaced in each run, or move away."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.mixed_weights import MixedWeights, mixed_weights
from gradscope.analysis.report_model import Cause, Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for mixed in mixed_weights(sources.index, sources.events, sources.lives):
        yield _moves_away(sources, mixed) if mixed.share < 0 else _finding(sources, mixed)


def _moves_away(sources: Sources, mixed: MixedWeights) -> Finding:
    """An average that the difference to the weights is added to, with the sign that makes it larger."""
    index, op = sources.index, mixed.ops[-1]
    average, weight = sources.names.at(mixed.average, op), sources.names.of(mixed.weight)
    part = f"{-mixed.share:.4g}"
    return sources.finding(
        f"Line {index.op_line(op)}: each run moves {average} away from {weight}, which an optimizer trains, by {part} "
        f"of their difference ({len(mixed.ops):,} runs were looked at)",
        why=f"it is {1 - mixed.share:.4g} of itself less {part} of the weights, so that the difference grows",
        op=op,
        tensors=[mixed.average, mixed.weight],
        causes=sources.cause("write", op),
        evidence=[Evidence("ops", one) for one in mixed.ops[-3:]],
        advice="Add the part of weight - average, or subtract that of average - weight.",
    )


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
    title="an average of weights that keeps next to nothing of itself, or moves away from them",
    severity="warning",
    explanation=Explanation(
        meaning="""A moving average of weights (EMA, a target network) was written again and again, between steps of
            their optimizer, with nine tenths or more of the new weights and the rest of itself; or with all of itself
            and some of its difference to the weights, in the direction away from them.""",
        reason="""average = decay * average + (1 - decay) * weight with a decay near 1 moves slowly. With the factors
            swapped, or with tau where 1 - tau is meant, it is the last weights but for a trace. With the sign of the
            difference swapped, average += tau * (average - weight), the distance grows by the same part each time.""",
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
