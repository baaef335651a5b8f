"""A custom Function whose backward computes with what its forward computed, where a second derivative was taken."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.constants_in_backward import ConstantsInBackward, KeptConstant
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    constants = ConstantsInBackward(sources.index, sources.flow, sources.passes, sources.functions)
    for kept in constants.found():
        yield _finding(sources, kept)


def _finding(sources: Sources, kept: KeptConstant) -> Finding:
    written = kept.written
    forward = f"{written.name}.forward"
    places = [
        written.lines_of(kept.keeping)._replace(function=forward),
        written.lines_of(kept.computed)._replace(function=forward),
        written.lines_of(kept.using),
    ]
    at = f" (line {places[1].line})" if kept.computed is not kept.keeping else ""
    return sources.finding(
        f"Line {places[0].line}: {forward} keeps {kept.name}, which it computed{at} outside of the graph, and "
        f"backward (line {places[2].line}) computes with it",
        why="a pass went on through that gradient (create_graph=True), and to it "
        f"{kept.name} is a constant: the second derivative leaves out what comes through it",
        op=kept.second_pass,
        tensors=[kept.tensor],
        causes=sources.causes_at("made", places),
        evidence=[Evidence("nodes", kept.node), Evidence("tensors", kept.tensor)],
        advice=f"Keep the arguments alone, and compute {kept.name} from them again in backward.",
    )


DIAGNOSIS = Diagnosis(
    code="constant-in-second-derivative",
    title="a second derivative through a Function that leaves out what its forward computed",
    severity="warning",
    explanation=Explanation(
        meaning="""The forward of a custom autograd.Function computed a tensor from its arguments and kept it for
            backward. A pass with create_graph=True recorded what that backward does, and a later pass went through
            the gradient.""",
        reason="""forward runs without a graph. What is kept of its arguments and of what it returns is known to
            autograd; what it computed on the way is not, and counts as a constant when backward is differentiated.
            The first gradient is right, the second one silently misses a part.""",
        remedy="""Save the arguments, and compute the tensor from them again in backward; or return it as a further
            output of forward. torch.autograd.gradgradcheck shows the difference for inputs of float64.""",
    ),
    example=Example(
        shows="""\
import torch


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        gate = torch.sigmoid(x)
        ctx.save_for_backward(x, gate)
        return x * gate

    @staticmethod
    def backward(ctx, grad):
        x, gate = ctx.saved_tensors
        gate = 1 * gate
        return grad * gate * (1 + x * (1 - gate))


w = torch.linspace(-1, 1, 5, requires_grad=True)
(slope,) = torch.autograd.grad(Swish.apply(w).sum(), w, create_graph=True)
slope.pow(2).sum().backward()
""",
        instead_of="gate = 1 * gate",
        silent="gate = torch.sigmoid(x)",
    ),
    find=_find,
)
