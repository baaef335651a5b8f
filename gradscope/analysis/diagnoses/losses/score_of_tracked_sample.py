"""A log-probability of a sample that leads back to the distribution itself: the mean gets no gradient."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.cancelled_samples import CancelledSample, cancelled_samples
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for found in cancelled_samples(sources.index, sources.passes, sources.looks):
        yield _finding(sources, found)


def _finding(sources: Sources, found: CancelledSample) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.at(leaf, found.looks[-1].op) for leaf in found.leaves])
    drawn, scored = index.op_line(found.drawn), index.op_line(found.scored)
    call = index.call_name(found.drawn).rpartition(".")[2]
    is_rsample = call == "rsample"
    how = "rsample() draws a sample" if is_rsample else "a sample is computed"
    takes = "log_prob" if scored == drawn else f"log_prob (line {scored})"
    count = len(found.looks)
    passes = "the backward pass" if count == 1 else f"all {count:,} backward passes"
    return sources.finding(
        f"Line {drawn}: {how} that leads back to what it is drawn from, and {takes} takes it: the two ways to the mean "
        f"cancel, and the gradient of {names} is zero in {passes} looked at",
        why="the sample less its mean does not depend on the mean",
        op=found.drawn,
        tensors=found.leaves,
        causes=[*sources.cause("made", found.drawn), *sources.cause("used", found.scored)],
        evidence=[Evidence("ops", found.scored), *(Evidence("events", look.event) for look in found.looks)],
        advice="Draw it with sample(), where the log-probability is what trains the distribution."
        if is_rsample
        else "Detach the sample, where the log-probability is what trains the distribution.",
    )


DIAGNOSIS = Diagnosis(
    code="score-of-tracked-sample",
    title="the log-probability of a sample that leads back to its own mean",
    severity="warning",
    explanation=Explanation(
        meaning="""A sample was drawn with a graph (rsample(), mean + std * noise), and the loss takes its
            log-probability under the same distribution. What is behind the mean got a gradient of exactly zero in every
            pass that was looked at, and no other way from the loss leads to it.""",
        reason="""log_prob(x) depends on x - mean, and x is mean + std * noise: the mean is added and taken away again.
            A score-function loss (REINFORCE, a policy gradient) needs the sample as a constant.""",
        remedy="""sample(), or log_prob(action.detach()). rsample() is for losses that are computed from the sample
            itself.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.distributions import Normal

mean = torch.zeros(3, requires_grad=True)
policy = Normal(mean, 1.0)
action = policy.rsample()
reward = -(action.detach() - 1).pow(2)
loss = -(policy.log_prob(action) * reward).sum()
loss.backward()
""",
        instead_of="action = policy.rsample()",
        silent="action = policy.sample()",
    ),
    find=_find,
)
