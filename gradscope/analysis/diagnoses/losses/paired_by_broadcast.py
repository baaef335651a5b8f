"""A loss over all pairs, where one tensor is a column and the other a row: the error of each with every other one."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.outer_broadcasts import outer_broadcasts
from gradscope.analysis.facts.losses.pairs_meant import is_of_distribution
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in outer_broadcasts(index, sources.passes):
        column, row = (sources.names.at(one, found.op) for one in (found.column, found.row))
        row = "the distribution" if is_of_distribution(index, found.row) else row
        shape = shape_of(index, found.row)
        n, line, reduced = found.size, index.op_line(found.op), index.op_line(found.reduced)
        said = f"({n},)" if len(shape) == 1 else f"one row of {shape[1]} for each of {n}"
        there = "there" if reduced == line else f"at line {reduced}"
        summed = any(shape_of(index, one) for one in index.tensors_made(found.reduced)[-1:])
        sums = f"{n} numbers" if summed and found.reduced != found.op else "one number"
        yield sources.finding(
            f"Line {line}: {column} has the shape ({n}, 1) and {row} {said}, and {index.call_name(found.op)} pairs "
            "each element with every other one",
            why=f"the {n * n} pairs go into {sums} {there} ({index.call_name(found.reduced)}), not {n} elements",
            op=found.op,
            tensors=[found.column, found.row],
            causes=[*sources.cause("used", found.op), *sources.cause("made", found.shaped)],
            evidence=[Evidence("ops", found.reduced)],
            advice=f"Give both the same shape: squeeze(1) on {column}"
            + (f", or unsqueeze(1) on {row}." if len(shape) == 1 else "."),
        )


DIAGNOSIS = Diagnosis(
    code="paired-by-broadcast",
    title="a loss over all pairs of two tensors, by their shapes alone",
    severity="warning",
    explanation=Explanation(
        meaning="""A difference, a product or a log_prob in a loss took a tensor of shape (N, 1) and one of shape (N,),
            and gave (N, N): each element with every other one. All of that went into one mean or sum. It is not
            reported where a column was made on purpose (None, unsqueeze, view, keepdim), where the pairs are used as
            pairs (masks, a kernel of their distances), or where the same tensor is paired with itself, too.""",
        reason="""Shapes are aligned from the right: (N,) stands for (1, N), and both are stretched to (N, N). A layer
            with one output gives (N, 1), targets are often (N,). Nothing fails, and the loss falls to what predicts
            the mean of all targets for each.""",
        remedy="""Give both tensors the same shape before: prediction.squeeze(1), or target.unsqueeze(1).""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
inputs, targets = torch.rand(8, 3), torch.rand(8)
values = layer(inputs)
(values - targets).pow(2).mean().backward()
""",
        instead_of="values = layer(inputs)",
        silent="values = layer(inputs).squeeze(1)",
    ),
    find=_find,
)
