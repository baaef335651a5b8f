"""A method that is named where it was to be called."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.methods_not_called import methods_not_called

_SO = {
    "zero_grad": "gradients of earlier passes stay, and the next pass adds to them",
    "step": "nothing is updated",
    "backward": "no gradient is computed",
    "eval": "dropout and batch norm go on as in training",
    "train": "dropout and batch norm go on as they were",
    "detach_": "the graph stays",
    "requires_grad_": "what requires grad stays as it was",
}


def _find(sources: Sources) -> Iterator[Finding]:
    for found in methods_not_called(sources.index):
        one, line = found.statement, sources.index.line(found.file, found.statement.line)
        yield sources.finding(
            f"Line {line}: {one.source} is not called, as the parentheses are missing",
            why=_SO[one.method],
            op=found.op,
            tensors=[],
            causes=[sources.cause_of_line("used", found.file, one.line, one.end_line, found.function)],
            advice=f"Write {one.source}().",
        )


DIAGNOSIS = Diagnosis(
    code="method-not-called",
    title="a method that is named and not called",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement is nothing but the name of a method that changes something when it is called
            (optimizer.zero_grad, optimizer.step, model.eval), in code that ran.""",
        reason="""To name a method without parentheses is an expression like any other: Python looks it up and drops
            it, without a word.""",
        remedy="""Add the parentheses that make it a call.""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout())
net.eval
print(net(torch.ones(2, 3)))
""",
        instead_of="net.eval",
        silent="net.eval()",
    ),
    find=_find,
)
