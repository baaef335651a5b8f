"""A distance of weights to a copy of them that is still on their graph: the two gradients cancel."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.distances_to_copies import DistancesToCopies, DistanceToCopy
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each place of a copy and of a distance to it."""
    index = sources.index
    found: dict[tuple[int, int], list[DistanceToCopy]] = {}
    for one in DistancesToCopies(index, sources.passes).found():
        found.setdefault((index.op_statement[one.copied], index.op_statement[one.op]), []).append(one)
    yield from (_finding(sources, distances) for distances in found.values())


def _finding(sources: Sources, distances: list[DistanceToCopy]) -> Finding:
    index, last = sources.index, distances[-1]
    leaves = list(dict.fromkeys(leaf for one in distances for leaf in one.leaves))
    names = sources.listed([sources.names.of(leaf) for leaf in leaves])
    return sources.finding(
        f"Line {index.op_line(last.copied)}: {index.call_name(last.copied)} made a copy of {names} that is still on "
        "their graph",
        why=f"what line {index.op_line(last.op)} computes is a distance to it, whose gradient goes to {names} by both "
        "ways, with a plus and with a minus, and cancels: it changes the loss, and nothing that is trained",
        op=last.op,
        tensors=leaves,
        causes=[*sources.cause("made", last.copied), *sources.cause("used", last.op)],
        evidence=[Evidence("ops", last.copied)],
        advice="Take the copy off the graph: detach().clone().",
    )


DIAGNOSIS = Diagnosis(
    code="distance-to-copy-on-graph",
    title="a distance of weights to a copy of them whose gradients cancel",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss has a distance (a difference, mse_loss, dist) of weights to a copy that was made of them
            before a step. The copy was made with a graph, and leads back to the same weights.""",
        reason="""clone() has a derivative: the gradient of (w - w.clone()) goes to w once as it is and once with a
            minus. The distance grows with each step, and its gradient is exactly zero. What weights are to stay near
            is meant to be a constant.""",
        remedy="""Take the copy off the graph: w.detach().clone(), or under torch.no_grad().""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.tensor([1.0, -2.0], requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
anchor = w.clone()
for _ in range(2):
    optimizer.zero_grad()
    loss = (w * 3).sum() + 5 * (w - anchor).pow(2).sum()
    loss.backward()
    optimizer.step()
""",
        instead_of="anchor = w.clone()",
        silent="anchor = w.detach().clone()",
    ),
    find=_find,
)
