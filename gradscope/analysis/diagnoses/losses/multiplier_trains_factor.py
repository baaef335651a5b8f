"""The loss of a temperature or a Lagrange multiplier that trains what it multiplies as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.multiplier_losses import multiplier_losses
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in multiplier_losses(index, sources.passes, sources.lives):
        multiplier, factor = sources.names.of(one.multiplier), sources.names.at(one.factor, one.product)
        yield sources.finding(
            f"Line {index.op_line(one.product)}: what is made of {multiplier} is multiplied by {factor}, which is not "
            "detached there",
            why=f"another term takes {multiplier} detached and {factor} with its graph; the gradient of this one comes "
            f"to {sources.listed([sources.names.of(leaf) for leaf in one.trained])} as well, with the other's factor "
            "again, and the next step takes both",
            op=one.product,
            tensors=[one.multiplier, one.factor],
            causes=sources.cause("used", one.product),
            evidence=[Evidence("ops", one.detached), Evidence("ops", one.at)],
            advice=f"Detach {factor} here: this loss is there for {multiplier}.",
        )


DIAGNOSIS = Diagnosis(
    code="multiplier-trains-factor",
    title="the loss of a multiplier trains what it multiplies as well",
    severity="warning",
    explanation=Explanation(
        meaning="""A scalar that is trained (a temperature, a Lagrange multiplier) goes detached into one term, times
            something with a graph; and with its graph into another term, times the same thing, again with its graph.
            An optimizer's next step took the gradients of both.""",
        reason="""Each term is meant for one of the two factors. A gradient goes to both factors of a product, so the
            second term gives the network the first term's gradient once more, mostly with the other sign: the two
            cancel.""",
        remedy="""Detach the other factor in the loss of the multiplier: -(alpha * (log_pi + target).detach()).mean().
            Where the network's gradients are cleared before its next step, nothing is reported.""",
    ),
    example=Example(
        shows="""\
import torch

policy = torch.nn.Linear(3, 1)
log_alpha = torch.nn.Parameter(torch.zeros(()))
optimizer = torch.optim.SGD([*policy.parameters(), log_alpha], lr=0.1)
for step in range(2):
    log_pi = policy(torch.randn(8, 3)).squeeze(1)
    alpha = log_alpha.exp()
    entropy = log_pi + 1.0
    loss = (alpha.detach() * log_pi).mean() - (alpha * entropy).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="entropy = log_pi + 1.0",
        silent="entropy = (log_pi + 1.0).detach()",
    ),
    find=_find,
)
