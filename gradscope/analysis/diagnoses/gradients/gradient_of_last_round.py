"""A Function's backward with a loop, each round of which overwrites a gradient that all of them have a part in."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.last_rounds import LastRound, last_rounds
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    if not sources.functions.of_name:
        return
    for one in last_rounds(sources.index, sources.events, sources.functions, sources.passes):
        yield _finding(sources, one)


def _finding(sources: Sources, one: LastRound) -> Finding:
    index, found, file = sources.index, one.found, sources.index.recording.spans[one.span].file
    loop, used = (index.line(file, part.lineno) for part in (found.loop, found.used))
    line = index.line(file, found.statement.lineno)
    op = index.recording.nodes.column("op")[one.node]
    times = "once" if one.runs == 1 else f"{one.runs:,} times"
    function = index.recording.text(index.recording.spans[one.span].function)
    end = found.statement.end_lineno or found.statement.lineno
    return sources.finding(
        f"Line {used}: {one.written.name}.backward goes on with the {found.name} of the last round of the loop at line "
        f"{loop} alone",
        why=f"the backward ran {times}, its loop {one.rounds:,} rounds, and each of them puts a gradient of its own in "
        f"the place of that of the round before, which nothing added up, at line {line}",
        op=min(op, index.op_count - 1),
        tensors=[index.node_tensor[one.node]],
        causes=[sources.cause_of_line("write", file, found.statement.lineno, end, function)],
        evidence=[Evidence("nodes", one.node)],
        advice=f"Add what each round gives to {found.name}, which begins with zeros before the loop.",
    )


DIAGNOSIS = Diagnosis(
    code="gradient-of-last-round",
    title="a Function's backward that keeps the gradient of its loop's last round alone",
    severity="warning",
    explanation=Explanation(
        meaning="""The backward of a custom autograd.Function goes through steps in a loop. Each round gives a name the
            gradient of what all steps share, by a plain assignment; no round reads it, and what backward returns is
            made of it after the loop. Reported where autograd.grad was asked for what is no part of the round, or
            where the forward reads that argument in each round of its own loop, and the loop ran several rounds.""",
        reason="""What is used in each step gets a gradient from each of them: the derivative is their sum. Autograd
            adds up the gradients that several nodes give; within one backward the program has to do that.""",
        remedy="""grads = [a + b for a, b in zip(grads, autograd.grad(…))], begun with zeros before the loop. What is
            carried from step to step, the gradient of the state, is not added up: it goes into the next round.""",
    ),
    example=Example(
        shows="""\
import torch


class Repeated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        states = [x]
        for _ in range(3):
            states.append(torch.tanh(states[-1] * weight))
        ctx.save_for_backward(weight, *states)
        return states[-1]

    @staticmethod
    def backward(ctx, grad):
        weight, *states = ctx.saved_tensors
        of_weight = torch.zeros_like(weight)
        for state in reversed(states[:-1]):
            with torch.enable_grad():
                state = state.detach().requires_grad_()
                out = torch.tanh(state * weight)
            grad, own = torch.autograd.grad(out, (state, weight), grad)
            of_weight = own
        return grad, of_weight


weight = torch.rand(2, requires_grad=True)
Repeated.apply(torch.rand(2), weight).sum().backward()
""",
        instead_of="of_weight = own",
        silent="of_weight = of_weight + own",
    ),
    find=_find,
)
