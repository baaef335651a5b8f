"""A custom Function whose backward writes something, applied to nothing that requires grad: it never runs."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.functions_without_node import without_node


def _find(sources: Sources) -> Iterator[Finding]:
    for found in without_node(sources.index, sources.passes):
        symptom = f"Line {found.call.line}: {found.function} was given no tensor that requires grad"
        yield sources.finding(
            f"{symptom}, so its backward does not run, and line {found.writes.line} writes nothing"
            if found.is_always
            else f"{symptom} in some of its calls: for these its backward does not run, and line {found.writes.line} "
            "writes nothing",
            op=found.op,
            tensors=[found.result],
            causes=sources.causes_at("made", [found.call]),
            advice="Give it a tensor that requires grad: its input, or a parameter (a dummy will do).",
        )


DIAGNOSIS = Diagnosis(
    code="function-without-node",
    title="a Function's backward that writes something never runs",
    severity="warning",
    explanation=Explanation(
        meaning="""A custom Function was applied while grad mode was on, to nothing that requires grad. By its source
            its backward writes into an object that ctx holds (a gradient kept on the side, a list), and what it
            returned went into a loss that backward was called on.""",
        reason="""A Function gets a node in the graph only if a tensor among its own arguments requires grad. Tensors
            within other objects do not count, and an input of the first layer requires none as a rule.""",
        remedy="""Pass a tensor that requires grad as an argument: the parameter itself, or a dummy of one element, for
            which backward returns None. Nothing is to be done where this layer is meant to stay as it is.""",
    ),
    example=Example(
        shows="""\
import torch

class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, store):
        ctx.store = store
        return x * store["scale"]

    @staticmethod
    def backward(ctx, grad):
        ctx.store["grad"] = grad.sum()
        return grad * ctx.store["scale"], None

store, bias = {"scale": 2.0}, torch.zeros(3, requires_grad=True)
x = torch.ones(3)
y = Scale.apply(x, store) + bias
y.sum().backward()
""",
        instead_of="x = torch.ones(3)",
        silent="x = torch.ones(3, requires_grad=True)",
    ),
    find=_find,
)
