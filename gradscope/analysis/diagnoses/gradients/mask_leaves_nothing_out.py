"""A mask of zeros and ones that is added to the scores of attention, or multiplied with them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.reversed_masks import useless_masks
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in useless_masks(index):
        origin = found.origin
        does = "multiplies its scores by a mask" if found.is_factor else "adds its mask to the scores"
        why = "a score of 0 counts in a softmax as any other does" if found.is_factor else "1 more is not left out"
        yield sources.finding(
            f"Line {index.op_line(found.op)}: attention {does}, and that (line {index.op_line(origin.converted)}) is 0 "
            "and 1",
            why=f"{why}: values and gradients come through the items that it is to hide",
            op=found.op,
            tensors=list(index.uses.of(found.op))[-1:],
            causes=[
                *sources.cause("made", origin.converted),
                *sources.cause("used", found.op),
                *sources.cause("made", origin.op),
            ],
            evidence=[Evidence("ops", origin.op), Evidence("ops", origin.converted)],
            advice="Give it the truth values, or -inf where it is to leave out and 0 elsewhere.",
        )


DIAGNOSIS = Diagnosis(
    code="mask-leaves-nothing-out",
    title="a mask of zeros and ones that attention takes as numbers",
    severity="warning",
    explanation=Explanation(
        meaning="""The scores of attention were changed, right before their softmax, by numbers that are 0 and 1: a
            comparison with the padding or with lengths that was converted, or a triangle of ones. They were added
            (the float masks of scaled_dot_product_attention and MultiheadAttention are), or multiplied.""",
        reason="""A softmax leaves out what is -inf. With 1 more, or with a score of 0, an item is attended to nearly as
            before: the model sees the padding, or what comes later, and nothing raises.""",
        remedy="""Give the truth values themselves (no .float()), with the meaning that the call has for them; or
            scores.masked_fill(mask == 0, float("-inf")) before the softmax.""",
    ),
    example=Example(
        shows="""\
import torch
import torch.nn.functional as F

x = torch.randn(2, 5, 4, requires_grad=True)
lengths = torch.tensor([3, 5])
mask = (torch.arange(5) < lengths[:, None]).float()
F.scaled_dot_product_attention(x, x, x, attn_mask=mask[:, None]).sum().backward()
""",
        instead_of="mask = (torch.arange(5) < lengths[:, None]).float()",
        silent="mask = torch.arange(5) < lengths[:, None]",
    ),
    find=_find,
)
