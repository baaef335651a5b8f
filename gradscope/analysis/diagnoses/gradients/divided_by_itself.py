"""Weights that are divided by their sum over a dimension of size 1: they are 1, and no gradient comes through."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.quotients_of_one import quotients_of_one
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in quotients_of_one(index, sources.passes):
        name = sources.names.at(one.tensor, one.quotient)
        yield sources.finding(
            f"Line {index.op_line(one.quotient)}: {name} is divided by itself: {index.call_name(one.sum)} adds up "
            f"nothing, over a dimension of size 1, in each of {one.runs:,} runs",
            why="the result is 1 whatever goes in, and what it is made from learns nothing through it",
            op=one.quotient,
            tensors=[one.tensor],
            causes=[*sources.cause("used", one.quotient), *sources.cause("used", one.sum)],
            evidence=[Evidence("ops", one.sum)],
            advice="Leave the division out where there is one alone.",
        )


DIAGNOSIS = Diagnosis(
    code="divided-by-itself",
    title="a tensor that is divided by itself, so that no gradient comes through",
    severity="warning",
    explanation=Explanation(
        meaning="""A tensor was divided by its own sum or norm over a dimension of size 1, in each run of the statement,
            and backward passes went through the quotient.""",
        reason="""The sum of one number is that number. w / w is 1 for any w, and its derivative is 0: a router that
            picks one expert and normalises its weight gets no gradient from the experts' results.""",
        remedy="""Normalise only what is several (top_k > 1), or over another dimension; with one expert multiply by
            the probability itself.""",
    ),
    example=Example(
        shows="""\
import torch

router = torch.nn.Linear(3, 4)
optimizer = torch.optim.SGD(router.parameters(), lr=0.1)
for step in range(3):
    weight, index = router(torch.randn(8, 3)).softmax(-1).topk(1, dim=-1)
    weight = weight / weight.sum(-1, keepdim=True)
    optimizer.zero_grad()
    (weight * torch.randn(8, 1)).sum().backward()
    optimizer.step()
""",
        instead_of="weight = weight / weight.sum(-1, keepdim=True)",
        silent="weight = weight / weight.sum(0, keepdim=True)",
    ),
    find=_find,
)
