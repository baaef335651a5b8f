"""Gradients that the loss of one network left in another, and that are added to those of the other's own loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.pass_order import PassOrder
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE

STEPS = 2
"""Steps with gradients of another loss from which on it is reported."""


class _Mixed(NamedTuple):
    """A step of a parameter that applied gradients of two losses."""

    left_by: int
    """The pass that left gradients there."""
    other_step: int
    """The step for which that one was: it wrote others that the pass had given gradients."""
    own: int
    """The last pass before the step, which added to them."""
    step: int
    is_through: bool
    """The last pass gave gradients to those others as well, which nothing used."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters whose own pass, and whose step, are at one line each."""
    index, lives = sources.index, sources.lives
    written = _written_by_step(lives)
    if len(set(map(frozenset, written.values()))) < 2:
        return
    alike: dict[tuple[int, int, int], list[tuple[int, list[_Mixed]]]] = {}
    for tensor, steps in lives.steps.items():
        if tensor not in lives.cleared:  # its own gradients are there as well: see gradients-applied-again
            continue
        found = [one for step in steps if (one := _mixed(index, lives, written, tensor, step)) is not None]
        if len(found) >= STEPS:
            places = (found[-1].left_by, found[-1].own, found[-1].step)
            first, second, third = (index.op_statement[op] for op in places)
            alike.setdefault((first, second, third), []).append((tensor, found))
    for group in alike.values():
        tensors, last = [tensor for tensor, _ in group], group[0][1][-1]
        order = PassOrder(index, sources.passes, last.left_by)
        others = written[last.other_step] & _given(lives, last.left_by)
        near, far = (others, set(tensors)) if last.is_through else (set(tensors), others)
        if order.came_through(near, to=far) and not order.came_through(far, to=near):
            yield _finding(sources, tensors, group[0][1])


def _finding(sources: Sources, tensors: list[int], found: list[_Mixed]) -> Finding:
    index, last = sources.index, found[-1]
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    function = index.op_place(last.left_by).function
    where = f" in {function}" if function not in ("<module>", index.op_place(last.own).function) else ""
    cleared = last_before(sources.lives.cleared.get(tensors[0], []), last.left_by)
    early = f"line {index.op_line(cleared)} clears them too early, before that pass" if cleared >= 0 else ""
    return sources.finding(
        f"Line {index.op_line(last.own)}: backward adds to gradients of {names} that the pass for another step{where} "
        f"had left there, and line {index.op_line(last.step)} ({index.func(last.step)}) applies the sum "
        f"({index.times(one.step for one in found):,} times)",
        why=early,
        op=last.own,
        tensors=tensors,
        causes=[
            *sources.cause("cleared", cleared),
            *sources.cause("backward", last.own),
            *sources.cause("step", last.step),
        ],
        evidence=[Evidence("ops", op) for op in last],
        advice="Clear them right before this backward (zero_grad of the optimizer that makes the step)"
        + (", or detach() what they made where that other loss is computed." if last.is_through else "."),
    )


def _written_by_step(lives: GradientLives) -> dict[int, set[int]]:
    written: dict[int, set[int]] = {}
    for tensor, steps in lives.steps.items():
        for step in steps:
            written.setdefault(step, set()).add(tensor)
    return written


def _given(lives: GradientLives, op: int) -> set[int]:
    """The parameters to which a pass gave gradients."""
    return {tensor for tensor, passes in lives.passes.items() if op in passes}


def _mixed(index: Index, lives: GradientLives, written: dict[int, set[int]], tensor: int, step: int) -> _Mixed | None:
    """Whether a step applied what two passes gave a parameter, with a step of others for the first one between."""
    passes = lives.applied(tensor, step)
    if len(passes) < 2:
        return None
    own = passes[-1]
    for left_by in passes[:-1]:
        is_one_line = index.op_statement[left_by] == index.op_statement[own]
        if is_one_line and _given(lives, left_by) == _given(lives, own):
            continue  # (parts of a batch, whose gradients are meant to be added up)
        between = (other for other in written if left_by < other < own and tensor not in written[other])
        given = _given(lives, left_by)
        for_it = next((other for other in between if not written[other].isdisjoint(given)), NONE)
        both = written[for_it] & _given(lives, own) if for_it >= 0 else set()
        if for_it >= 0 and all(_is_unused(lives, other, own) for other in both):
            return _Mixed(left_by, for_it, own, step, bool(both))
    return None


def _is_unused(lives: GradientLives, tensor: int, op: int) -> bool:
    """Whether what a pass gave a parameter was cleared before a step of it."""
    gone, used = first_after(lives.cleared.get(tensor, []), op), first_after(lives.steps.get(tensor, []), op)
    return used < 0 or op < gone < used


DIAGNOSIS = Diagnosis(
    code="gradients-of-another-loss",
    title="gradients of another network's loss are added to a network's own",
    severity="warning",
    explanation=Explanation(
        meaning="""A backward pass went through one network to train another, whose optimizer made its step. It left
            gradients in the first one too. The first one's own backward added to them, and its step applied the
            sum, each time.""",
        reason="""Backward gives gradients to all leaves behind the loss, not only to those of the optimizer that steps
            next: the loss of a generator fills .grad of the discriminator, that of an actor fills the critic's. The
            other way round, a discriminator's loss on what was not detached fills .grad of the generator.""",
        remedy="""Call zero_grad() of each optimizer right before its own backward. Or keep the gradients from coming
            about: requires_grad_(False) on the network that is only passed through, or backward(inputs=[...]).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

actor, critic = nn.Linear(2, 1), nn.Linear(3, 1)
of_actor = torch.optim.SGD(actor.parameters(), lr=0.1)
of_critic = torch.optim.SGD(critic.parameters(), lr=0.1)
state = torch.ones(4, 2)
for step in range(4):
    of_actor.zero_grad()
    of_critic.zero_grad()
    (-critic(torch.cat([state, actor(state)], 1)).mean()).backward()
    of_actor.step()
    target = torch.ones(4, 1)
    (critic(torch.cat([state, actor(state).detach()], 1)) - target).pow(2).mean().backward()
    of_critic.step()
""",
        instead_of="target = torch.ones(4, 1)",
        silent="target = torch.ones(4, 1)\nof_critic.zero_grad()",
    ),
    find=_find,
)
