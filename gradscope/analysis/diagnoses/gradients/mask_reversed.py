"""A padding mask of attention the wrong way round."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.reversed_masks import reversed_masks
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in reversed_masks(index):
        compared = index.span_source(found.compared)
        does = "attends where its mask is True" if found.attends else "leaves out where the mask is True"
        says = f"line {index.op_line(found.compared)} says {compared}"
        yield sources.finding(
            f"Line {index.op_line(found.op)}: attention adds its mask, and this one leaves the items out, as {says}"
            if found.is_added
            else f"Line {index.op_line(found.op)}: attention {does}, and this one is True where {says}",
            why="what is left to attend to is the padding, and no gradient comes through it to the keys and values of "
            "the other items",
            op=found.op,
            tensors=list(index.uses.of(found.op))[-1:],
            causes=[*sources.cause("used", found.op), *sources.cause("made", found.compared)],
            evidence=[Evidence("ops", found.compared)],
            advice="Give the least numbers where the other comparison holds."
            if found.is_added
            else "Turn it round: ~mask.",
        )


DIAGNOSIS = Diagnosis(
    code="mask-reversed",
    title="a padding mask of attention the wrong way round",
    severity="warning",
    explanation=Explanation(
        meaning="""A mask that comes from a comparison of indices with the padding index, or of positions with lengths,
            was given to attention so that only the padding is left: True where there is padding to
            scaled_dot_product_attention, True where there is none to MultiheadAttention (key_padding_mask), a
            transformer layer, or masked_fill(mask, -inf), or the least numbers where there is none to what adds it.""",
        reason="""The two take masks the other way round: scaled_dot_product_attention attends where it is True,
            MultiheadAttention ignores that. Nothing raises; a row without padding gives NaN, or the mean of all.""",
        remedy="""Turn the mask round where it is handed over, ~mask, or make the other comparison.""",
    ),
    example=Example(
        shows="""\
import torch
import torch.nn.functional as F

table = torch.nn.Embedding(9, 4, padding_idx=0)
ids = torch.tensor([[3, 5, 0, 0], [2, 7, 1, 0]])
x = table(ids)[:, None]
mask = (ids == 0)[:, None, None]
F.scaled_dot_product_attention(x, x, x, attn_mask=mask).sum().backward()
""",
        instead_of="mask = (ids == 0)[:, None, None]",
        silent="mask = (ids != 0)[:, None, None]",
    ),
    find=_find,
)
