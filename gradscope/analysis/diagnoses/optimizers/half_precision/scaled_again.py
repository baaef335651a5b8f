"""Gradients that two calls of one function divide before each step, by the same number."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.scaled_twice import scaled_twice
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that divides."""
    for found in scaled_twice(sources.index, sources.events, sources.lives):
        causes = [
            sources.cause_of_line("used", found.file, site.line, site.end_line, site.function or "<module>")
            for site in reversed(found.called.sites)
        ]
        names = sources.listed([sources.names.of(leaf) for leaf in found.leaves])
        yield sources.finding(
            f"Lines {causes[1].line} and {causes[0].line} both call {found.called.function}, which {found.does} the "
            f"gradients of {names} by {found.by:.6g}",
            why=f"one gradient was scaled so twice before the step that took it ({found.times:,} times)",
            op=found.op,
            tensors=list(found.leaves),
            causes=causes,
            evidence=[Evidence("ops", found.op)],
            advice="Call it once for each gradient.",
        )


DIAGNOSIS = Diagnosis(
    code="gradient-scaled-twice",
    title="gradients that two calls divide by the loss scale before one step",
    severity="warning",
    explanation=Explanation(
        meaning="""A line of the program multiplies or divides gradients in place by a number, and did so twice with
            the same number between the backward pass that gave them and the step that took them: two calls lead to
            it.""",
        reason="""A loss scale, or the number of batches of an accumulation, is in a gradient once. Divided out again,
            it leaves a gradient that is too small by that number, and a limit on its norm is never reached. A
            GradScaler of torch's raises where it is asked twice; one of the program's own does not.""",
        remedy="""Leave one of the calls out, or let the function keep in mind that it was done (until the next
            step).""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
scale = 1024.0


def unscale():
    for p in net.parameters():
        p.grad.div_(scale)


def step():
    unscale()
    optimizer.step()


for _ in range(4):
    optimizer.zero_grad()
    (net(torch.rand(5, 3)).pow(2).mean() * scale).backward()
    unscale(), step()
""",
        instead_of="unscale(), step()",
        silent="step()",
    ),
    find=_find,
)
