"""Gradients that two calls divide before each step by the same number: of one function, or of one GradScaler."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.leaf_gradients.scaled_twice import scaled_twice
from gradscope.analysis.facts.leaf_gradients.unscaled_by_two import UnscaledByTwo, unscaled_by_two
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE


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
    for two in unscaled_by_two(sources.index, sources.events, sources.lives):
        yield _of_scaler(sources, two)


def _of_scaler(sources: Sources, two: UnscaledByTwo) -> Finding:
    """What is said of a scaler that was given two objects."""
    first, again = two.first, two.again
    known = {one.made.subject for one in seen_optimizers(sources.index, sources.events)}
    lines = [sources.index.span_line(event.span) for event in (first, again)]
    strange = [line for line, one in zip(lines, (first, again), strict=True) if _optimizer(one) not in known]
    names = sources.listed([sources.names.of(leaf) for leaf in two.leaves])
    own = f" (to that of line {strange[0]} itself no parameters were given)" if len(strange) == 1 else ""
    of_it = f"it was given two objects{own}, and knows by the object alone what it has divided"
    advice = "Give unscale_() the very optimizer that step() is given."
    if not strange:
        of_it, advice = "it does so for each optimizer, and both hold them", "Let one optimizer hold each parameter."
    both = f"Lines {lines[1]} and {lines[0]} both have" if lines[0] != lines[1] else f"Line {lines[0]} twice has"
    return sources.finding(
        f"{both} a GradScaler divide the gradients of {names} by the loss scale",
        why=f"{of_it}: each gradient is too small by the scale in the step that took it ({two.times:,} times)",
        op=again.op - 1,
        tensors=list(two.leaves),
        causes=[*sources.cause_of_event("used", first), *sources.cause_of_event("used", again)],
        evidence=[Evidence("events", first.row), Evidence("events", again.row)],
        advice=advice,
    )


def _optimizer(event: Happened) -> int:
    return int(event.detail.get("optimizer", NONE))


DIAGNOSIS = Diagnosis(
    code="gradient-scaled-twice",
    title="gradients that two calls divide by the loss scale before one step",
    severity="warning",
    explanation=Explanation(
        meaning="""A line of the program multiplies or divides gradients in place by a number, and did so twice with
            the same number between the backward pass that gave them and the step that took them: two calls lead to
            it. Or a GradScaler was given two objects that have the same parameters, a wrapper by unscale_() and the
            optimizer in it by step(), and divided their gradients for each.""",
        reason="""A loss scale, or the number of batches of an accumulation, is in a gradient once. Divided out again,
            it leaves a gradient that is too small by that number, and a limit on its norm is never reached. A
            GradScaler of torch's raises where it is asked twice for one object; one of the program's own does not.""",
        remedy="""Leave one of the calls out, or let the function keep in mind that it was done (until the next step).
            Give a GradScaler the same object each time.""",
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
