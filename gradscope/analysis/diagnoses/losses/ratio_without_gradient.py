"""A ratio of new and old probabilities with both in the graph: their gradients cancel."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.ratios_of_one import ratios_of_one
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in ratios_of_one(index, sources.passes):
        steps = {step for leaf in found.leaves for step in sources.lives.steps.get(leaf, ())}
        if any(found.old < step < found.op for step in steps):
            continue
        names = sources.listed([sources.names.of(leaf) for leaf in found.leaves])
        yield sources.finding(
            f"Line {index.op_line(found.old)}: the log-probability computed there is kept with its graph, and line "
            f"{index.op_line(found.op)} takes it off the one of line {index.op_line(found.new)}, of the same samples "
            f"by the same parameters ({names})",
            why="their gradients cancel, so that the ratio is 1 and gives no gradient",
            op=found.op,
            tensors=found.leaves,
            causes=[*sources.cause("made", found.old), *sources.cause("used", found.op)],
            evidence=[Evidence("ops", found.old), Evidence("ops", found.new)],
            advice="Keep log_prob.detach(), or compute the old one under no_grad: it is a constant.",
        )


DIAGNOSIS = Diagnosis(
    code="ratio-without-gradient",
    title="a ratio of two probabilities whose gradients cancel",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss has exp(new - old) of two log-probabilities. Both were computed from the same parameters and
            for the same samples, both require grad, and no step was made between them.""",
        reason="""The derivative of new - old is that of new less that of old. Where both come from the same parameters
            these are the same, and what is left is zero up to rounding: the policy is not trained. The old
            probability is meant to be a constant.""",
        remedy="""Store log_prob.detach(), or collect the samples under torch.no_grad().""",
    ),
    example=Example(
        shows="""\
import torch
from torch.distributions import Categorical

policy = torch.nn.Linear(3, 2)
states, gains = torch.rand(8, 3), torch.rand(8)
chances = Categorical(logits=policy(states))
actions = chances.sample()
old = chances.log_prob(actions)
new = Categorical(logits=policy(states)).log_prob(actions)
(-(new - old).exp() * gains).mean().backward()
""",
        instead_of="old = chances.log_prob(actions)",
        silent="old = chances.log_prob(actions).detach()",
    ),
    find=_find,
)
