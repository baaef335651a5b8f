"""Steps that found nothing but zeros, since the gradients were cleared after backward and not before it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.order.clearing_calls import call_that_clears
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before
from gradscope.analysis.report_model import Evidence

STEPS = 2
"""Steps with zeros only from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the steps of one line, where each of them with a pass before it found zeros for all it wrote."""
    index, lives = sources.index, sources.lives
    if not lives.zeroed:
        return
    written: dict[int, list[int]] = {}
    for tensor, steps in lives.steps.items():
        for step in steps:
            written.setdefault(step, []).append(tensor)
    by_line: dict[int, dict[int, list[int]]] = {}
    for step, tensors in written.items():
        by_line.setdefault(index.op_statement[step], {})[step] = tensors
    for steps_here in by_line.values():
        found = _zeroed_in_all(lives, steps_here)
        if len(found) >= STEPS:
            yield _finding(sources, lives, steps_here, found)


def _zeroed_in_all(lives: GradientLives, steps: dict[int, list[int]]) -> dict[int, int]:
    """For each step after the first pass, what had set its gradients to zero; empty where a step found others."""
    found: dict[int, int] = {}
    for step, tensors in steps.items():
        given = [tensor for tensor in tensors if lives.passes[tensor][0] < step]
        zeroed = [lives.zeroed_before(tensor, step) for tensor in given]
        if zeroed and min(zeroed) < 0:
            return {}
        if zeroed:
            found[step] = max(zeroed)
    return found


def _finding(sources: Sources, lives: GradientLives, steps: dict[int, list[int]], found: dict[int, int]) -> Finding:
    index, last = sources.index, max(found)
    tensors, cleared = steps[last], found[last]
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    first = index.op_statement.index(index.op_statement[last])
    is_first = first < lives.passes[tensors[0]][0]
    times = f"{index.times(found):,} times"
    symptom = f"Line {index.op_line(last)}: {index.func(last)} found only zeros in .grad of {names} ({times})"
    if is_first:
        why, causes = "it comes before backward, and after what clears the gradients", sources.cause("step", last)
        advice = "Step after backward."
    else:
        where, causes = call_that_clears(sources, cleared, last_before(lives.passes[tensors[0]], cleared))
        why, advice = (
            f"{where} cleared it between backward and it",
            "Clear gradients before backward or after the step.",
        )
    return sources.finding(
        symptom,
        why=why,
        op=last,
        tensors=tensors,
        causes=causes,
        evidence=[Evidence("ops", op) for op in list(found.values())[-STEPS:]],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="cleared-before-step",
    title="an optimizer step found only gradients that had been set to zero",
    severity="warning",
    explanation=Explanation(
        meaning="""In each round the gradients of all that an optimizer steps were set to zero between backward and
            the step, so that it never saw what backward computed.""",
        reason="""zero_grad(set_to_none=False) and grad.zero_() leave zeros. A step with zeros changes nothing, or only
            what momentum and weight decay do; no error is raised.""",
        remedy="""The order is: clear, forward, backward, step. Clear before backward, or after the step.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
""",
        instead_of="layer(torch.ones(2, 3)).sum().backward()",
        silent="optimizer.zero_grad()\nlayer(torch.ones(2, 3)).sum().backward()\noptimizer.step()\ncontinue",
    ),
    find=_find,
)
