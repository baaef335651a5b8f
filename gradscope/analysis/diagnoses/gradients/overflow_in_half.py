"""A norm or variance that overflows in float16: what is divided by it is zero, and so are the gradients behind it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.overflown_halves import OverflownHalf, overflown_halves
from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.report_model import Evidence

_INVERSES = ("rsqrt", "reciprocal", "pow")


def _find(sources: Sources) -> Iterator[Finding]:
    for found in overflown_halves(sources.index, sources.passes, sources.looks):
        yield _finding(sources, found)


def _finding(sources: Sources, found: OverflownHalf) -> Finding:
    index, op = sources.index, found.op
    taken = sources.names.at(found.taken, op)
    is_sum = called(index, op) in ("sum", "cumsum")
    of = f"the squares of {taken}, which goes" if is_sum else f"{taken}, which goes"
    is_inverse = called(index, found.ends) in _INVERSES
    then = "what is multiplied with its inverse" if is_inverse else "what is divided by that"
    names = sources.listed([sources.names.at(leaf, found.look.op) for leaf in found.leaves])
    gradient = f"the gradient of {names} is all zeros" if names else "so is the gradient that comes back"
    there = "" if found.is_everywhere else " there"
    return sources.finding(
        f"Line {index.op_line(op)}: {index.call_name(op)} gives an infinity in float16 (nothing is larger than 65,504) "
        f"for {of} up to {found.largest:,.5g}{'' if found.is_everywhere else ', in some places'}: {then} "
        f"is zero{there}, and {gradient}",
        op=op,
        tensors=list(found.leaves) or [found.taken],
        causes=sources.cause("used", op),
        evidence=[Evidence("events", found.look.event), Evidence("ops", found.ends)],
        advice=f"Compute it in float32: {taken}.float() …" if taken.isidentifier() else "Compute it in float32.",
    )


DIAGNOSIS = Diagnosis(
    code="overflow-in-half",
    title="squares that are too large for float16",
    severity="warning",
    explanation=Explanation(
        meaning="""A norm, a mean of squares or a variance was computed in float16 and is infinite. What is divided by
            it is zero, without an error and without a NaN, and the gradient of what lies behind is zero.""",
        reason="""The largest number in float16 is 65,504. The square of 300 is larger, and so is the sum of a thousand
            squares of 10. Under autocast, too, such sums of the program's own are computed in half precision, where
            torch's own norms go over to float32.""",
        remedy="""Compute the squares and their mean in float32 (x.float().pow(2).mean(...)), or use the layers of
            torch's own (F.rms_norm, F.layer_norm), which do so.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.full((8, 4), 50.0, dtype=torch.float16, requires_grad=True)
x = torch.full((2, 8), 2.0, dtype=torch.float16) @ w
norm = x.pow(2).mean(-1, keepdim=True).sqrt()
(x / norm)[:, 0].sum().backward()
""",
        instead_of="norm = x.pow(2).mean(-1, keepdim=True).sqrt()",
        silent="norm = x.float().pow(2).mean(-1, keepdim=True).sqrt()",
    ),
    find=_find,
)
