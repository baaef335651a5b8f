"""A network's loss that adds its gradient to that of the network it is against, before that one's step."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.gathered_references import are_replaced, gathering_read
from gradscope.analysis.facts.leaf_gradients.left_in_judge import LeftInJudge, LeftInJudges
from gradscope.analysis.facts.leaf_gradients.raised_estimates import RaisedEstimate, RaisedEstimates
from gradscope.analysis.facts.leaf_gradients.reached_before_step import ReachedBeforeStep, ReachedBeforeSteps
from gradscope.analysis.facts.losses.factors import tracked_uses
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.recording import NONE

_CALLS = 6
"""Calls from a term back to what the network gave that are followed."""


def _find(sources: Sources) -> Iterator[Finding]:
    recorded = sources.index, sources.passes, sources.lives, sources.passes_by_step
    told = set[int]()
    index = sources.index
    for one in ReachedBeforeSteps(*recorded).found():
        if are_replaced(index, one.tensors, max(one.own, one.other), one.step):
            continue
        told.add(one.step)
        yield _finding(sources, one)
    for left in LeftInJudges(*recorded).found():
        if are_replaced(index, left.tensors, left.second, left.step):
            continue
        told.add(left.step)
        yield _of_judge(sources, left)
    for raised in RaisedEstimates(*recorded).found():
        second = max(raised.own, raised.other)
        if raised.step not in told and not are_replaced(index, raised.tensors, second, raised.step):
            yield _of_estimate(sources, raised)


def _finding(sources: Sources, found: ReachedBeforeStep) -> Finding:
    index, names = sources.index, sources.names
    reached = sources.listed([names.at(tensor, found.other) for tensor in found.tensors])
    made = _line_of_term(sources, found.term, found.other)
    root = next(iter(index.roots[found.other]), NONE)
    loss = names.at(root, found.other) if root >= 0 else "this loss"
    backward = f"line {index.op_line(found.other)} (backward)" if made else "backward"
    gathered = _gathered(sources, found.tensors, found.own, found.other, found.step)
    kept = f"; what line {gathered[0].line} gathers of that is .grad itself, without a copy" if gathered else ""
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
        f"{index.op_line(found.own)}), and the step applies the sum ({found.times:,} times){kept}",
        op=found.other,
        tensors=found.tensors,
        causes=[*gathered, *made, *sources.cause("backward", found.other)],
        evidence=[Evidence("ops", op) for op in (found.own, found.step, found.other_step)],
        advice=advice,
    )


def _of_judge(sources: Sources, found: LeftInJudge) -> Finding:
    """Of gradients in the network that judges: where its own pass adds to them, or where they are added to its own."""
    index, names = sources.index, sources.names
    judge = sources.listed([names.at(tensor, found.second) for tensor in found.tensors])
    root = next(iter(index.roots[found.second]), NONE)
    loss = names.at(root, found.second) if root >= 0 else "this loss"
    first, second = index.op_line(found.first), index.op_line(found.second)
    made = _line_of_term(sources, found.term, found.second)
    sum_of_both = f"and the step applies the sum ({found.times:,} times)"
    if made:
        makers = sources.listed([names.at(tensor, found.second) for tensor in found.makers])
        symptom = f"Line {made[0].line}: from here the gradient of {loss} flows on into {makers}"
        why = f"line {second} (backward) adds it to that of the loss against it (line {first}), as it does in {judge}, "
        why += sum_of_both
        advice = "detach() what that network made, in this loss alone, and clear the gradients of the one that judges "
        advice += "right before its backward."
    elif found.is_own_second:
        symptom = (
            f"Line {second}: backward adds to the gradients of {judge} that the pass of line {first} has left there"
        )
        why = f"that loss is against theirs, {sum_of_both}"
        advice = "Clear them right before this backward (zero_grad of the optimizer that makes their step)."
    else:
        symptom = f"Line {second}: the gradient of {loss} goes to {judge} as well"
        why = f"backward adds it to the gradient of their own loss (line {first}), {sum_of_both}"
        advice = "Make that network's step, and clear its gradients, before the other loss is computed; or give "
        advice += "backward the parameters that it is for (inputs=)."
    return sources.finding(
        symptom,
        why=why,
        op=found.second,
        tensors=found.tensors,
        causes=[*made, *sources.cause("backward", found.second)],
        evidence=[Evidence("ops", found.first), Evidence("ops", found.step)],
        advice=advice,
    )


def _of_estimate(sources: Sources, found: RaisedEstimate) -> Finding:
    """Of a loss that raises what a network says, and of that network's own, which compares what it says."""
    index, names = sources.index, sources.names
    own, other = index.op_line(found.own), index.op_line(found.other)
    second, gathered = (
        max(found.own, found.other),
        _gathered(sources, found.tensors, found.own, found.other, found.step),
    )
    critics = sources.listed([names.at(tensor, second) for tensor in found.tensors])
    makers = sources.listed([names.at(tensor, second) for tensor in found.makers])
    root = next(iter(index.roots[found.other]), NONE)
    loss = names.at(root, found.other) if root >= 0 else "this loss"
    sum_of_both = f"and line {index.op_line(found.step)} (step) applies the sum ({found.times:,} times)"
    if found.own < found.other:
        symptom = f"Line {other}: the gradient of {loss}, which trains {makers}, goes to {critics} as well"
        why = f"it takes what these give as it is; backward adds it to the gradient of their own loss (line {own}), "
        why += f"which compares what they give, {sum_of_both}"
        advice = "Make that network's step before this backward, or give it the parameters that it is for (inputs=)."
        if gathered:
            why += f"; what line {gathered[0].line} gathers of that is .grad itself, without a copy"
            advice = "Keep grad.clone() there, or give this backward the parameters that it is for (inputs=)."
    else:
        symptom = (
            f"Line {own}: backward adds to the gradients of {critics} that the pass of line {other} has left there"
        )
        why = f"{loss} trains {makers} and takes what these give as it is, their own loss compares it, {sum_of_both}"
        advice = "Clear them right before this backward (zero_grad of the optimizer that makes their step)."
    return sources.finding(
        symptom,
        why=why,
        op=second,
        tensors=found.tensors,
        causes=[*gathered, *sources.cause("backward", second), *sources.cause("step", found.step)],
        evidence=[Evidence("ops", op) for op in (found.own, found.other, found.step)],
        advice=advice,
    )


def _gathered(sources: Sources, tensors: tuple[int, ...], own: int, other: int, step: int) -> list[Cause]:
    """The line that gathers these gradients as they are, to put them back for the step."""
    return sources.cause("made", gathering_read(sources.index, tensors, own, other, step))


def _line_of_term(sources: Sources, term: int, walk: int) -> list[Cause]:
    """Where the other network's loss takes what this one made: the line that stored the judgment, if it is its own."""
    if term < 0:
        return []
    index, walked = sources.index, sources.passes.first_walked_at
    op = index.recording.nodes.column("op")[term]
    lines = sources.cause("made", op)
    nodes = index.recording.tensors.column("node")
    tensor = next(iter(index.tensors_made(op)), NONE)
    for _ in range(_CALLS):
        taken = tracked_uses(index, index.made_by(tensor)) if index.made_by(tensor) >= 0 else []
        if len(taken) != 1 or walked[nodes[taken[0]]] != walk:
            return lines
        (tensor,) = taken
        stored = sources.stored(tensor, walk)
        if stored and lines and stored[0].function == lines[0].function:
            return stored
    return lines


DIAGNOSIS = Diagnosis(
    code="loss-reaches-other-network",
    title="a network's loss adds its gradient to that of the network it is against",
    severity="warning",
    explanation=Explanation(
        meaning="""Two networks have a loss and an optimizer each, and one judges what the other made. Both losses were
            walked before the two steps, and a network had the gradients of both when its step came. That each is to
            have its own shows in what was cleared between the two, in that the losses want opposite things of the
            same judgment, or in that one loss compares what a network says with a target while the other only makes
            it larger (or smaller), without an end.""",
        reason="""In a GAN the two losses are against each other: what the discriminator's loss adds to the generator
            pulls it back. backward(retain_graph=True) silences the error that would have said that the same graph is
            walked a second time.""",
        remedy="""Give the discriminator's loss discriminator(fake.detach()): then no retain_graph is needed. Clear the
            discriminator's gradients right before its own backward: the generator's loss has left some there. Where
            its loss comes first, make its step before the generator's loss is computed.""",
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
