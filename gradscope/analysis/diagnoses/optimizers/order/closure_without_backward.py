"""A closure of LBFGS that computes a loss and never calls backward, or that computes nothing anew."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.passes_of_closures import idle_closures
from gradscope.analysis.facts.passes.stale_closures import StaleClosure, stale_closures
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes steps with such a closure."""
    index, said = sources.index, set[int]()
    for found in idle_closures(index):
        said.add(index.op_statement[found.step])
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

    for stale in stale_closures(index, sources.events, sources.passes):
        if index.op_statement[stale.step] not in said:
            yield _stale(sources, stale)


def _stale(sources: Sources, stale: StaleClosure) -> Finding:
    """A closure whose loss was computed before the step: wherever the step moves to, it gives what was before."""
    index, of = sources.index, stale.carried
    name, steps = sources.names.at(of, stale.step), index.times(stale.steps)
    made = sources.made_at(of)
    where = f" (line {made[0].line})" if made else ""
    step = sources.cause("step", stale.step)
    if stale.closure is None:
        what = f"goes on with {name}{where}, which was computed before the step, in all of its "
        what += f"{index.times(stale.passes):,} passes: wherever the step has moved the parameters to"
        causes = [*made, *sources.cause("backward", stale.passes[-1]), *step]
        at: int = index.op_line(stale.passes[-1])
    else:
        file = index.statements[index.op_statement[stale.step]].file
        causes = [sources.cause_of_line("made", file, *stale.closure, ""), *step, *made]
        what = f"computes nothing, it gives the loss that was computed before the step{where}: after each move"
        at = causes[0].line
    return sources.finding(
        f"Line {at}: the closure of LBFGS.step {what}, LBFGS finds the loss and the gradients of before "
        f"({steps:,} steps)",
        op=stale.step,
        tensors=[of],
        causes=causes,
        evidence=[Evidence("ops", op) for op in stale.passes[-1:]],
        advice="In the closure: clear the gradients, compute the model's output and the loss from it, call backward(), "
        "return the loss.",
    )


DIAGNOSIS = Diagnosis(
    code="closure-without-backward",
    title="a closure of LBFGS that never calls backward, or computes nothing anew",
    severity="warning",
    explanation=Explanation(
        meaning="""LBFGS.step called its closure several times, and no call ran a backward pass or set a gradient in
            another way. Or its calls did not use the parameters at all: they returned, or differentiated, what had been
            computed from them before the step.""",
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
