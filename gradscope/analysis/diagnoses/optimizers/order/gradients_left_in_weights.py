"""Gradients that a pass for the gradient of an input left in the weights, and that the training's own pass adds to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import GradOutcome

STEPS = 2
"""Steps that applied both from which on it is reported."""


class _LeftGradients(NamedTuple):
    """A step of a parameter that applied what two passes gave it."""

    by: int
    """The pass that was made for an input's gradient."""
    input: int
    """The input."""
    own: int
    """The last pass before the step, which added to what was there."""
    step: int


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters whose passes, and whose step, are at the same lines."""
    index, lives = sources.index, sources.lives
    inputs = _InputPasses(index, lives)
    alike: dict[tuple[int, int, int], dict[int, list[_LeftGradients]]] = {}
    for tensor, steps in lives.steps.items():
        for step in steps:
            left = _left(index, lives, inputs, tensor, step)
            if left is not None:
                key = (index.op_statement[left.by], index.op_statement[left.own], index.op_statement[left.step])
                alike.setdefault(key, {}).setdefault(tensor, []).append(left)
    for group in alike.values():
        lasting = {tensor: found for tensor, found in group.items() if len(found) >= STEPS}
        if lasting:
            yield _finding(sources, list(lasting), next(iter(lasting.values())))


class _InputPasses:
    """The tensors whose gradient a pass was made for: no step writes them, and the program reads what they got."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._with_graph = index.creating_graphs
        rows, flags = index.recording.gradients, index.recording.tensors.column("flags")
        columns = (rows.column(name) for name in ("op", "tensor", "outcome", "grad"))
        self._given: dict[int, list[tuple[int, int]]] = {}
        for op, tensor, outcome, gradient in zip(*columns, strict=True):
            is_input = not flags[tensor] & PARAMETER and tensor not in lives.steps and index.is_leaf(tensor)
            if is_input and outcome in (GradOutcome.CREATED, GradOutcome.ACCUMULATED) and gradient >= 0:
                self._given.setdefault(op, []).append((tensor, gradient))

    def input_of(self, op: int, before: int) -> int | None:
        """An input whose gradient was read between a pass and a later op; None where the pass was made for no such.

        A gradient with a graph of its own is part of a loss to come: what the weights got is meant to be there.
        """
        index = self._index
        if op in self._with_graph:
            return None
        for tensor, gradient in self._given.get(op, ()):
            is_read = any(op < user < before for user in index.users.of(gradient))
            if is_read:
                return tensor
        return None

    def gave(self, op: int, tensor: int) -> bool:
        """Whether a pass gave an input a gradient."""
        return any(tensor == one for one, _ in self._given.get(op, ()))


def _left(index: Index, lives: GradientLives, inputs: _InputPasses, tensor: int, step: int) -> _LeftGradients | None:
    """Whether a step applied what a pass for an input, in a function of its own or run several times, left there.

    In one function, one pass of each: that is how people train on a batch and its disturbed copy together.
    """
    passes = lives.applied(tensor, step)
    if len(passes) < 2:
        return None
    own, others = passes[-1], passes[:-1]
    if any(index.op_statement[one] == index.op_statement[own] for one in others):
        return None
    by = others[-1]
    is_alone = len(others) == 1 and index.op_place(by).function == index.op_place(own).function
    taken = None if is_alone else inputs.input_of(by, own)
    if taken is None or inputs.gave(own, taken) or not lives.was_added(tensor, own):
        return None
    return _LeftGradients(by, taken, own, step)


def _finding(sources: Sources, tensors: list[int], found: list[_LeftGradients]) -> Finding:
    index, last = sources.index, found[-1]
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    wanted = sources.names.at(last.input, last.by)
    cleared = last_before(sources.lives.cleared.get(tensors[0], []), last.by)
    return sources.finding(
        f"Line {index.op_line(last.by)}: backward for the gradient of {wanted} leaves gradients in {names} too; "
        f"line {index.op_line(last.own)} adds to them, and line {index.op_line(last.step)} ({index.func(last.step)}) "
        f"applies the sum ({index.times(one.step for one in found):,} times)",
        why=f"line {index.op_line(cleared)} clears them before that pass, not after it" if cleared >= 0 else "",
        op=last.by,
        tensors=tensors,
        causes=[*sources.cause("backward", last.by), *sources.cause("cleared", cleared)],
        evidence=[Evidence("ops", op) for op in (last.own, last.step)],
        advice=f"Take the one gradient that is wanted: torch.autograd.grad(loss, {wanted}); or clear the gradients "
        "right before the training's own backward.",
    )


DIAGNOSIS = Diagnosis(
    code="gradients-left-in-weights",
    title="a pass for the gradient of an input leaves gradients in the weights",
    severity="warning",
    explanation=Explanation(
        meaning="""A backward pass was made for the gradient of an input: an attack, a saliency map, a search. It gave
            the weights behind it gradients too. The training's own backward added to them, and each step applied the
            sum.""",
        reason="""Backward fills .grad of all leaves behind the loss, whatever it was called for, and adds to what is
            there.""",
        remedy="""torch.autograd.grad(loss, x) gives the gradient of x and leaves .grad of all others alone;
            backward(inputs=[x]) likewise. Or call zero_grad() right before the training's own backward.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

def attacked(model, x):
    x = x.clone().requires_grad_()
    model(x).pow(2).sum().backward()
    return (x + 0.1 * x.grad.sign()).detach()

model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    x = attacked(model, torch.ones(2, 3))
    model(x).sum().backward()
    optimizer.step()
""",
        instead_of="model(x).pow(2).sum().backward()",
        silent="model(x).pow(2).sum().backward(inputs=[x])",
    ),
    find=_find,
)
