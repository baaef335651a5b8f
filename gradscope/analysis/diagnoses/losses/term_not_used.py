"""A term of a loss that is computed in each round and added to nothing."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.unused_terms import unused_terms
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that computes one."""
    index = sources.index
    for one in unused_terms(index, sources.passes):
        if one.value.replaced_at:
            how = "gives the name another value before anything reads it"
            why = f"line {one.value.replaced_at} {how}"
        else:
            why = "nothing reads it"
        yield sources.finding(
            f"Line {index.op_line(one.op)}: {one.value.name} is computed with a graph, {one.rounds:,} times, and is in "
            "no loss",
            why=why,
            op=one.op,
            tensors=[one.tensor],
            causes=sources.cause("made", one.op),
            evidence=[Evidence("tensors", one.tensor)],
            advice="Add it to the loss, or leave it out.",
        )


DIAGNOSIS = Diagnosis(
    code="term-not-used",
    title="a term of the loss that is computed and not added",
    severity="warning",
    explanation=Explanation(
        meaning="""A function computes a number with a graph in each round of training and gives it a name that nothing
            reads; or the next statement with the name gives it another value. No backward pass comes to it.""",
        reason="""loss = ... twice in a row keeps the second only; a penalty that is computed and not returned trains
            nothing. The training goes on, without a term that was meant.""",
        remedy="""return loss + beta * kl; or loss += ... for the second term.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
def criterion(out):
    loss = out.pow(2).mean()
    penalty = layer.weight.abs().sum()
    return loss
for step in range(4):
    optimizer.zero_grad()
    criterion(layer(torch.randn(5, 3))).backward()
    optimizer.step()
""",
        instead_of="return loss",
        silent="return loss + 0.1 * penalty",
    ),
    find=_find,
)
