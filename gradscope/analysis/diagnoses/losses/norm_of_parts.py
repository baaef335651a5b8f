"""A gradient penalty that takes norms of parts of each sample's gradient."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.norms_of_parts import norms_of_parts
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in norms_of_parts(index, sources.passes):
        norms, given = (shape_of(index, one) for one in (found.norms, found.given))
        each = prod(norms) // found.samples
        line, held = index.op_line(found.norm), index.op_line(found.held)
        there = "which the same line sets" if line == held else f"which line {held} sets"
        scores = sources.names.at(found.scores, found.grad)
        yield sources.finding(
            f"Line {line}: of the gradient of {scores}, of the shape {given}, {index.call_name(found.norm)} makes "
            f"{each:,} norms for each of {found.samples:,} samples, {there} against a number one by one",
            why=f"{scores} has one value a sample, and its slope is the norm of all of the sample's gradient, which "
            "may be much larger than that of each part",
            op=found.norm,
            tensors=[found.given, found.scores],
            causes=sources.cause("used", found.norm),
            evidence=[Evidence("ops", found.grad), Evidence("ops", found.held)],
            advice="Take the norm over all dimensions but the first: gradient.flatten(1).norm(2, dim=1).",
        )


DIAGNOSIS = Diagnosis(
    code="norm-of-parts",
    title="a gradient penalty on the norms of parts of each sample's gradient",
    severity="warning",
    explanation=Explanation(
        meaning="""autograd.grad gave the gradient of one score for each sample. The program took norms of it that leave
            several for each sample, as over the channels of an image, and compared each of these with a number.""",
        reason="""norm(2, dim=1) of (N, C, H, W) is (N, H, W): one norm for each pixel. To hold the slope of the score
            to 1, as a gradient penalty does, is to hold the norm over all of C, H and W. With each pixel's norm at 1
            that is the root of H * W.""",
        remedy="""slope.flatten(1).norm(2, dim=1), or slope.norm(2, dim=(1, 2, 3)).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

critic = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
images = torch.rand(5, 1, 4, 4, requires_grad=True)
(slope,) = torch.autograd.grad(critic(images).sum(), images, create_graph=True)
pass
norm = slope.norm(2, dim=1)
((norm - 1) ** 2).mean().backward()
""",
        instead_of="pass",
        silent="slope = slope.flatten(1)",
    ),
    find=_find,
)
