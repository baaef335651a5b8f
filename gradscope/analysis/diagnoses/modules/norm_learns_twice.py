"""Batch norms that learn from a batch twice, the second time at weights that are put back at once."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.run_of_model import run_of_model
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.norms_at_moved_weights import LearnedAtMovedWeights, learned_at_moved_weights
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for all norms of a line that runs the model."""
    by_line: dict[int, list[LearnedAtMovedWeights]] = {}
    for one in learned_at_moved_weights(sources.index, sources.lives):
        by_line.setdefault(sources.index.op_statement[one.passed], []).append(one)
    for several in by_line.values():
        yield _finding(sources, several)


def _finding(sources: Sources, several: list[LearnedAtMovedWeights]) -> Finding:
    one = several[-1]
    causes = run_of_model(sources, one.normalized, one.passed, one.passed)
    norms = sources.listed([sources.names.of(each.weight).rpartition(".")[0] or "a batch norm" for each in several])
    return sources.finding(
        f"Line {causes[0].line}: the model runs a second time on the same batch here, at weights that are put back "
        f"before the step, and {norms} learn{'s' * (len(several) == 1)} running statistics from both runs",
        why=f"in {one.rounds:,} rounds they were given those of weights that the model never has in evaluation",
        op=one.normalized,
        tensors=[each.weight for each in several],
        causes=causes,
        evidence=[Evidence("ops", one.moved), Evidence("ops", one.passed)],
        advice="Set the norms' momentum to 0 for the second run.",
    )


DIAGNOSIS = Diagnosis(
    code="norm-learns-twice",
    title="batch norms that learn from each batch a second time, at moved weights",
    severity="warning",
    explanation=Explanation(
        meaning="""In each round the program ran the model on a batch, moved its weights by hand, ran it on the same
            batch again, and put the weights back before the step (SAM and its relatives). The batch norms were in
            training mode both times.""",
        reason="""A batch norm in training mode learns from every forward. The running statistics that eval() uses are
            then those of the moved weights as well, and each batch counts twice.""",
        remedy="""for m in model.modules(): if isinstance(m, nn.BatchNorm2d): m.momentum = 0 before the second forward,
            and the old momentum afterwards.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    x = torch.randn(8, 3)
    net(x).pow(2).mean().backward()
    shifts = [0.1 * p.grad / (p.grad.norm() + 1e-6) for p in net.parameters()]
    with torch.no_grad():
        for p, shift in zip(net.parameters(), shifts):
            p.add_(shift)
    optimizer.zero_grad()
    net[1].momentum = 0.1
    net(x).pow(2).mean().backward()
    net[1].momentum = 1e-1
    with torch.no_grad():
        for p, shift in zip(net.parameters(), shifts):
            p.sub_(shift)
    optimizer.step()
    optimizer.zero_grad()
""",
        instead_of="net[1].momentum = 0.1",
        silent="net[1].momentum = 0.0",
    ),
    find=_find,
)
