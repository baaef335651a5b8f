"""A step of meta-learning that is computed from weights that are cut off from the parameters."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.detached_starts import DetachedStart, detached_starts
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the weights that one statement steps."""
    index, groups = sources.index, dict[int, list[DetachedStart]]()
    for one in detached_starts(index, sources.passes, sources.lives):
        groups.setdefault(index.op_statement[one.step], []).append(one)
    made_at = index.recording.tensors.column("op")
    for group in groups.values():
        first = group[0]
        weights = [one.weight for one in group]
        names = sources.listed([sources.names.of(weight) for weight in weights])
        cut = made_at[first.detached]
        yield sources.finding(
            f"Line {index.op_line(cut)}: {index.call_name(cut)} gives {names} cut off from the graph, and line "
            f"{index.op_line(first.step)} computes a step from that, with gradients that have a graph",
            why="a later pass through the step comes to the weights by the second derivative alone: the direct way, "
            "from the weights before the step to those after it, is left out of their gradient",
            op=min(first.outer, index.op_count - 1),
            tensors=weights,
            causes=[*sources.cause("cut", cut), *sources.cause("used", first.step)],
            evidence=[Evidence("ops", first.step), Evidence("ops", first.asked)],
            advice="Begin the step at the parameters: dict(model.named_parameters()), clone() without detach().",
        )


DIAGNOSIS = Diagnosis(
    code="step-from-detached-weights",
    title="a step of meta-learning that begins at weights cut off from the parameters",
    severity="warning",
    explanation=Explanation(
        meaning="""autograd.grad gave gradients with a graph (create_graph=True), a step was computed from them and
            from values of the parameters that do not require grad, a later pass went through the step, and an
            optimizer then stepped the parameters.""",
        reason="""The weights after an inner step depend on those before it directly and through the gradient.
            state_dict(), .data and detach() cut the direct way off; what is left is the part that only the second
            derivative brings, often of the wrong sign and size. No error is raised.""",
        remedy="""Take the parameters themselves: dict(model.named_parameters()) for functional_call, p.clone() for a
            copy that stays in the graph. For first-order methods leave out create_graph.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
x = torch.ones(2, 3)
for task in range(2):
    loss = layer(x).pow(2).sum()
    grads = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
    start = layer.state_dict()
    fast = {name: w - 0.1 * g for (name, w), g in zip(start.items(), grads)}
    optimizer.zero_grad()
    torch.func.functional_call(layer, fast, (x,)).pow(2).sum().backward()
    optimizer.step()
""",
        instead_of="start = layer.state_dict()",
        silent="start = dict(layer.named_parameters())",
    ),
    find=_find,
)
