"""Parameters that are zero and keep one another's gradient zero."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.factors_of_zero import zero_factors
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    found = zero_factors(index, sources.looks)
    if found is None:
        return
    last = found.passes[-1].op
    written = sorted({op for op in found.written if 0 <= op < index.op_count}, reverse=True)
    lines = {line for op in written if (line := index.op_line(op))}
    where = f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: " if lines else ""
    tensors = list(dict.fromkeys([*found.leaves, *found.factors]))
    names = sources.listed([sources.names.at(one, last) for one in tensors])
    one, factor = ("the gradient of each", "another of them") if len(tensors) > 1 else ("its gradient", "itself")
    holds = "hold" if len(tensors) > 1 else "holds"
    text = f"{where}{names} {holds} zeros alone, and {one} has {factor} as a factor"
    yield sources.finding(
        text if where else f"{text[0].upper()}{text[1:]}",
        why=f"the gradient was all zeros in all {len(found.passes)} backward passes looked at, and stays so",
        op=last,
        tensors=tensors,
        causes=[cause for op in written for cause in sources.cause("write", op)],
        evidence=[Evidence("events", look.event) for look in found.passes],
        advice="Give one of the factors other values than zero." if len(tensors) > 1 else "Start from another value.",
    )


DIAGNOSIS = Diagnosis(
    code="zero-factors",
    title="parameters that are zero and keep one another's gradient zero",
    severity="warning",
    explanation=Explanation(
        meaning="""Parameters held nothing but zeros and got nothing but zeros as their gradient in every pass that was
            looked at. All ways from the loss to them lead through a product with another one of them, or with what was
            computed from it.""",
        reason="""The gradient of a factor is the other factor times what comes from above. Where both are zero, both
            gradients are zero, and no step changes that: adapters of low rank, a gate before a layer that starts at
            zero, a network whose weights are all zero.""",
        remedy="""Start one of the factors from zero, not both: the product is zero all the same, and the one that is
            zero gets a gradient.""",
    ),
    example=Example(
        shows="""\
import torch

down = torch.nn.Parameter(torch.zeros(2, 3))
up = torch.nn.Parameter(torch.zeros(3, 2))
optimizer = torch.optim.SGD([down, up], lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    (torch.ones(4, 3) @ down.T @ up.T - 1).pow(2).sum().backward()
    optimizer.step()
""",
        instead_of="down = torch.nn.Parameter(torch.zeros(2, 3))",
        silent="down = torch.nn.Parameter(torch.ones(2, 3))",
    ),
    find=_find,
)
