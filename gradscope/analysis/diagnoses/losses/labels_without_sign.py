"""A loss of labels 1 and -1 that is given 0 and 1: of what is labelled 0 nothing is learned."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.signed_labels import labels_without_sign

_FOR_ZERO = {
    "F.margin_ranking_loss": "the loss is the margin, whatever goes in",
    "F.cosine_embedding_loss": "the loss is 0, whatever goes in",
    "F.soft_margin_loss": "the loss is one number, whatever goes in",
    "F.hinge_embedding_loss": "the loss adds what is for 1 and what is for -1",
}


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in labels_without_sign(index, sources.passes):
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {index.call_name(found.op)} takes labels of 1 and -1, and is given such "
            f"that are 0 or 1 (line {index.op_line(found.made)}): for 0 {_FOR_ZERO[index.func(found.op)]}",
            op=found.op,
            tensors=[index.uses.of(found.op)[-1]],
            causes=[*sources.cause("made", found.made), *sources.cause("used", found.op)],
            advice="Make the labels 2 * y - 1.",
        )


DIAGNOSIS = Diagnosis(
    code="labels-without-sign",
    title="labels of 0 and 1 for a loss that takes 1 and -1",
    severity="warning",
    explanation=Explanation(
        meaning="""margin_ranking_loss, cosine_embedding_loss, hinge_embedding_loss or soft_margin_loss was given labels
            of 0 and 1: converted from a comparison, a remainder of 2, a draw of two numbers, ones and zeros put
            together.""",
        reason="""These losses multiply with the label, or choose by it: 1 and -1 pull to one side and to the other. A
            label of 0 does neither, so that half of the pairs get no gradient. Nothing fails.""",
        remedy="""Map the labels to 1 and -1: 2 * y - 1.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

score = nn.Linear(3, 1)
label = (torch.arange(8) > 3).float()
first, second = score(torch.rand(8, 3)).squeeze(1), score(torch.rand(8, 3)).squeeze(1)
nn.functional.margin_ranking_loss(first, second, label).backward()
""",
        instead_of="label = (torch.arange(8) > 3).float()",
        silent="label = (torch.arange(8) > 3).float() * 2 - 1",
    ),
    find=_find,
)
