"""A network's loss that adds its gradient to that of the network it is against, before that one's step."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.factors import tracked_uses
from gradscope.analysis.facts.losses.reached_before_step import ReachedBeforeStep, ReachedBeforeSteps
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.recording import NONE

_CALLS = 6
"""Calls from a term back to what the network gave that are followed."""


def _find(sources: Sources) -> Iterator[Finding]:
    found = ReachedBeforeSteps(sources.index, sources.passes, sources.lives, sources.passes_by_step)
    for one in found.found():
        yield _finding(sources, one)


def _finding(sources: Sources, found: ReachedBeforeStep) -> Finding:
    index, names = sources.index, sources.names
    reached = sources.listed([names.at(tensor, found.other) for tensor in found.tensors])
    made = _line_of_term(sources, found)
    root = next(iter(index.roots[found.other]), NONE)
    loss = names.at(root, found.other) if root >= 0 else "this loss"
    backward = f"line {index.op_line(found.other)} (backward)" if made else "backward"
    if made:
        symptom = f"Line {made[0].line}: from here the gradient of {loss} flows on into {reached}"
        advice = "detach() what that network made, in this loss alone."
    else:
        symptom = f"Line {index.op_line(found.other)}: the gradient of {loss} goes to {reached} as well"
        advice = "Make that network's step, and clear its gradients, before the other loss is computed; or give "
        advice += "backward the parameters that it is for (inputs=)."
    return sources.finding(
        symptom,
        why=f"{backward} adds it to the gradient of their own loss (line "
        f"{index.op_line(found.own)}), and the step applies the sum ({found.times:,} times)",
        op=found.other,
        tensors=found.tensors,
        causes=[*made, *sources.cause("backward", found.other)],
        evidence=[Evidence("ops", op) for op in (found.own, found.step, found.other_step)],
        advice=advice,
    )


def _line_of_term(sources: Sources, found: ReachedBeforeStep) -> list[Cause]:
    """Where the other network's loss takes what this one made: the line that stored the judgment, if it is its own."""
    if found.term < 0:
        return []
    index, walked = sources.index, sources.passes.first_walked_at
    op = index.recording.nodes.column("op")[found.term]
    lines = sources.cause("made", op)
    nodes = index.recording.tensors.column("node")
    tensor = next(iter(index.tensors_made(op)), NONE)
    for _ in range(_CALLS):
        taken = tracked_uses(index, index.made_by(tensor)) if index.made_by(tensor) >= 0 else []
        if len(taken) != 1 or walked[nodes[taken[0]]] != found.other:
            return lines
        (tensor,) = taken
        stored = sources.stored(tensor, found.other)
        if stored and lines and stored[0].function == lines[0].function:
            return stored
    return lines


DIAGNOSIS = Diagnosis(
    code="loss-reaches-other-network",
    title="a network's loss adds its gradient to that of the network it is against",
    severity="warning",
    explanation=Explanation(
        meaning="""Two networks have a loss and an optimizer each, and one judges what the other made. Both losses were
            walked before the two steps, and the second walk came to the first network as well: its step applied the
            gradient of both losses. That each is to have its own shows in that the gradients which the first walk left
            in the other network were cleared.""",
        reason="""In a GAN the two losses are against each other: what the discriminator's loss adds to the generator
            pulls it back. backward(retain_graph=True) silences the error that would have said that the same graph is
            walked a second time.""",
        remedy="""Give the discriminator's loss discriminator(fake.detach()): then no retain_graph is needed. Where it
            is the discriminator that is reached, make its step first, clear its gradients before its next loss, and
            compute the generator's loss with the weights that it has then.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

generator, critic = nn.Linear(2, 3), nn.Linear(3, 1)
g_opt = torch.optim.SGD(generator.parameters(), lr=0.1)
c_opt = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(4):
    fake = generator(torch.randn(8, 2))
    loss_g = -critic(fake).mean()
    loss_c = critic(fake).mean() - critic(torch.ones(8, 3)).mean()
    g_opt.zero_grad()
    loss_g.backward(retain_graph=True)
    c_opt.zero_grad()
    loss_c.backward()
    g_opt.step()
    c_opt.step()
""",
        instead_of="loss_c = critic(fake).mean() - critic(torch.ones(8, 3)).mean()",
        silent="loss_c = critic(fake.detach()).mean() - critic(torch.ones(8, 3)).mean()",
    ),
    find=_find,
)
