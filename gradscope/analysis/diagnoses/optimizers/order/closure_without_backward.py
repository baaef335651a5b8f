"""A closure that computes a loss for LBFGS and never calls backward."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.passes_of_closures import idle_closures
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes steps with such a closure."""
    index = sources.index
    for found in idle_closures(index):
        off = index.op_line(found.no_grad)
        under = f" under no_grad (line {off})" if off else ""
        yield sources.finding(
            f"Line {index.op_line(found.loss)}: the closure of LBFGS.step computes its loss{under} and never calls "
            f"backward ({found.calls:,} calls): the step looks for new gradients after each call, and there are none",
            op=found.step,
            tensors=[],
            causes=[
                *(sources.cause("set", found.no_grad) if found.no_grad >= 0 else []),
                *sources.cause("made", found.loss),
                *sources.cause("step", found.step),
            ],
            evidence=[Evidence("ops", found.loss)],
            advice="In the closure: clear the gradients, compute the loss with gradients, call backward(), return it.",
        )


DIAGNOSIS = Diagnosis(
    code="closure-without-backward",
    title="a closure of LBFGS that never calls backward",
    severity="warning",
    explanation=Explanation(
        meaning="""LBFGS.step called its closure several times, and no call ran a backward pass or set a gradient in
            another way.""",
        reason="""LBFGS moves the parameters and asks the closure for the loss and the gradients there, several times in
            one step. A closure that only returns the loss leaves the gradients as they were, or None: the step goes
            nowhere, or along an old direction.""",
        remedy="""def closure(): optimizer.zero_grad(); loss = …; loss.backward(); return loss. No no_grad() around the
            loss.""",
    ),
    example=Example(
        shows="""\
import torch

x, layer = torch.randn(8, 3), torch.nn.Linear(3, 1)
optimizer = torch.optim.LBFGS(layer.parameters())

def closure():
    optimizer.zero_grad()
    loss = layer(x).pow(2).mean()
    return loss

for step in range(4):
    optimizer.step(closure)
""",
        instead_of="return loss",
        silent="loss.backward()\nreturn loss",
    ),
    find=_find,
)
