"""A derivative without a graph that is added to what the same parameters are trained by."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.constant_derivatives import ConstantDerivative, constant_derivatives
from gradscope.analysis.facts.graphs.loss_terms import terms_without_gradient
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each place that computes one; a term of a loss by itself is told by another diagnosis."""
    index = sources.index
    for found in constant_derivatives(index, sources.passes, sources.events.in_optimizers):
        after = min((op for op in index.roots if op > found.summed), default=NONE)
        terms = [term for root in index.roots.get(after, ()) for term in terms_without_gradient(index, root, after)[0]]
        if all(index.op_statement[at] != index.op_statement[found.summed] for _, at in terms):
            yield _finding(sources, found)


def _finding(sources: Sources, found: ConstantDerivative) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.of(leaf) for leaf in found.leaves])
    line, summed = index.op_line(found.op), index.op_line(found.summed)
    where = "the sum there" if summed == line else f"the sum of line {summed}"
    return sources.finding(
        f"Line {line}: {index.call_name(found.op)} computed a derivative without create_graph=True",
        why=f"it is a constant, though it depends on {names}, so that of {where} a gradient goes back through the "
        "other part alone",
        op=found.summed,
        tensors=found.leaves,
        causes=[*sources.cause("cut", found.op), *sources.cause("used", found.summed)],
        evidence=[Evidence("ops", found.op)],
        advice="With create_graph=True the derivative has a gradient of its own.",
    )


DIAGNOSIS = Diagnosis(
    code="derivative-without-graph",
    title="a derivative that is a constant where it is added to what is trained",
    severity="warning",
    explanation=Explanation(
        meaning="""torch.autograd.grad, or a function of torch.autograd.functional (jacobian, hessian, jvp, vjp …), gave
            the derivative of a function by its input, without create_graph=True. It was added to, or taken off, what
            the same parameters gave, and a backward pass went through the sum.""",
        reason="""Without create_graph=True the result has no graph: it is a constant, whatever it was computed from. In
            a residual such as du/dt + k * u the parameters are trained by k * u alone, towards something else.""",
        remedy="""Pass create_graph=True. Where it is meant to be a constant, detach() says so.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.autograd.functional import jacobian

net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
t = torch.rand(5, 1)
slope = jacobian(lambda s: net(s).sum(), t)
residual = slope + 2 * net(t)
residual.pow(2).mean().backward()
optimizer.step()
""",
        instead_of="slope = jacobian(lambda s: net(s).sum(), t)",
        silent="slope = jacobian(lambda s: net(s).sum(), t, create_graph=True)",
    ),
    find=_find,
)
