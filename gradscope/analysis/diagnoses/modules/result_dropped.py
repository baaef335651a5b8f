"""A method that gives a new tensor, called as if it changed its own."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.results_dropped import results_dropped


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in results_dropped(index):
        method = index.func(found.op).rpartition(".")[2]
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {found.owner}.{method}() gives a new tensor, which nothing takes, and "
            f"{found.owner} stays as it is",
            op=found.op,
            tensors=[found.taken],
            causes=sources.cause("used", found.op),
            advice=f"Write {found.owner} = {found.owner}.{method}(…)"
            + (f", or {found.owner}.{method}_(…)." if method in ("detach", "clamp", "clip", "masked_fill") else "."),
        )


DIAGNOSIS = Diagnosis(
    code="result-dropped",
    title="a method that gives a new tensor, which nothing takes",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement in a loop or a function is nothing but a call like hidden.detach() or w.clamp(0, 1), and
            nothing took the tensor that it gave.""",
        reason="""Methods without an underscore at their end leave their tensor as it is and give a new one. A hidden
            state keeps its graph, a weight its values.""",
        remedy="""hidden = hidden.detach(), or the method that changes the tensor in place: w.clamp_(0, 1) under
            no_grad.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
for step in range(3):
    hidden = w * 2
    hidden.detach()
    print(hidden.requires_grad)
""",
        instead_of="hidden.detach()",
        silent="hidden = hidden.detach()",
    ),
    find=_find,
)
