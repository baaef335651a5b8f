"""A loss, or a term of one, that sums up what a normalisation gave: a constant, from which no gradient comes."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.sums_of_normalized import SumOfNormalized, sums_of_normalized
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that normalises, where an optimizer steps afterwards."""
    last_step = max(all_steps(sources.index), default=-1)
    said: set[int] = set()
    for one in sums_of_normalized(sources.index, sources.passes):
        statement = sources.index.op_statement[one.normalized]
        if one.summed < last_step and statement not in said:
            said.add(statement)
            yield _finding(sources, one)


def _finding(sources: Sources, one: SumOfNormalized) -> Finding:
    index = sources.index
    call, how = index.call_name(one.normalized), index.call_name(one.summed)
    if one.is_softmax:
        why = "the weights of a softmax have the sum 1, whatever goes in"
        advice = "Sum what depends on the single weights."
    elif one.is_centred:
        why = "their mean was taken away: what is left adds up to 0, whatever goes in"
        advice = "Sum what was there before, or weight the elements (as advantages weight log-probabilities)."
    else:
        why = "the norm has taken the mean away: what is left of it is 0 (or the bias), whatever goes in"
        advice = "Leave the norm out of the last layer, or the mean to something that comes after another layer."
    what = "what is left of the values less their mean" if one.is_centred else f"what {call} gives here"
    return sources.finding(
        f"Line {index.op_line(one.normalized)}: {what} is summed up over all its elements ({how}), and "
        f"no gradient comes back to what goes into it, in {one.passes:,} passes",
        why=why,
        op=one.normalized,
        tensors=[],
        causes=[*sources.cause("made", one.normalized), *sources.cause("used", one.summed)],
        evidence=[Evidence("ops", one.summed)],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="sum-of-normalized",
    title="a sum over all that a normalisation gave, which is a constant",
    severity="warning",
    explanation=Explanation(
        meaning="""The loss, or a term of it, is the mean or the sum of all that a batch norm (or a norm without
            weights, or a softmax) gave, with nothing but other sums and changes of shape between.""",
        reason="""A norm takes the mean of its input away, so that the mean of its output is 0 for any input; the
            weights of a softmax add up to 1. What is constant has the derivative 0: the gradients of all layers before
            it are zero, or the noise of rounding (1e-9).""",
        remedy="""Leave the norm out of the last layer of a critic; to try out a layer, take a loss that weights its
            elements: (layer(x) * torch.randn(shape)).sum(), or layer(x).pow(2).sum().""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

critic = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1))
optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(4):
    loss = -critic(torch.randn(8, 3)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="critic = nn.Sequential(nn.Linear(3, 1), nn.BatchNorm1d(1))",
        silent="critic = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))",
    ),
    find=_find,
)
