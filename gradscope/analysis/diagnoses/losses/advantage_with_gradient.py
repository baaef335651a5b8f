"""An advantage in a policy's loss through which gradients flow into the critic."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.tracked_advantages import tracked_advantages
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in tracked_advantages(index, sources.passes, sources.lives):
        product, difference = index.op_line(found.product), index.op_line(found.difference)
        names = sources.listed([sources.names.at(leaf, found.product) for leaf in found.leaves])
        there = "" if difference == product else f" (line {difference})"
        yield sources.finding(
            f"Line {product}: {sources.names.at(found.advantage, found.product)}{there} is a factor of the "
            f"log-probability, and has a gradient to {names}",
            why="what it is multiplied with is to be a constant there; so the policy's loss changes the critic, beside "
            "its own squared error",
            op=found.product,
            tensors=[found.advantage],
            causes=[*sources.cause("used", found.product), *sources.cause("made", found.difference)],
            evidence=[Evidence("ops", found.difference), Evidence("ops", found.squared)],
            advice="Multiply with advantage.detach().",
        )


DIAGNOSIS = Diagnosis(
    code="advantage-with-gradient",
    title="an advantage in a policy's loss that gradients flow through",
    severity="warning",
    explanation=Explanation(
        meaning="""The logarithm of a sampled action's probability was multiplied with an advantage, a return less the
            value that a critic gave, and gradients flow through both factors. The same value is trained by a squared
            error.""",
        reason="""The policy gradient has the advantage as a constant weight. With a gradient of its own, the policy's
            loss falls also by a critic that gives other values: it learns what makes that loss small, not what comes
            back.""",
        remedy="""-(log_prob * advantage.detach()).mean(); the critic's own loss takes the advantage as it is.""",
    ),
    example=Example(
        shows="""\
import torch

policy, critic = torch.nn.Linear(4, 2), torch.nn.Linear(4, 1)
states, returns = torch.rand(8, 4), torch.rand(8)
choice = torch.distributions.Categorical(logits=policy(states))
advantage = returns - critic(states).squeeze(1)
actor_loss = -(choice.log_prob(choice.sample()) * advantage).mean()
(actor_loss + advantage.pow(2).mean()).backward()
""",
        instead_of="actor_loss = -(choice.log_prob(choice.sample()) * advantage).mean()",
        silent="actor_loss = -(choice.log_prob(choice.sample()) * advantage.detach()).mean()",
    ),
    find=_find,
)
