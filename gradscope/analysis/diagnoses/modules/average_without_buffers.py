"""An average of weights that is evaluated with the batch norm statistics that it was made with."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.stale_statistics import StaleStatistics, stale_statistics
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that averages."""
    by_line: dict[int, list[StaleStatistics]] = {}
    for one in stale_statistics(sources.index, sources.lives):
        by_line.setdefault(sources.index.op_statement[one.averaged], []).append(one)
    for several in by_line.values():
        yield _finding(sources, several)


def _finding(sources: Sources, several: list[StaleStatistics]) -> Finding:
    index, one = sources.index, several[-1]
    names = sources.listed([sources.names.at(each.mean, each.evaluated) for each in several])
    return sources.finding(
        f"Line {index.op_line(one.averaged)}: what is averaged here are weights only: {names} "
        f"{'are' if len(several) > 1 else 'is'} still as at the beginning when the average is evaluated",
        why="the norms of the model that is trained have learned other statistics meanwhile",
        op=one.evaluated,
        tensors=[each.mean for each in several],
        causes=sources.cause("write", one.averaged),
        evidence=[Evidence("ops", one.averaged), Evidence("tensors", one.weight)],
        advice="Copy the buffers as well, as AveragedModel does, or run update_bn before an evaluation.",
    )


DIAGNOSIS = Diagnosis(
    code="average-without-buffers",
    title="an average of weights with the batch norm statistics of the beginning",
    severity="warning",
    explanation=Explanation(
        meaning="""A copy of a model (EMA, SWA) gets averages of the weights and is evaluated. The running mean and
            variance of its batch norms were never written, while the norms of the model itself learned.""",
        reason="""parameters() does not give buffers: running statistics are buffers. In evaluation mode a batch norm
            goes by them. The weights of the average are those of a trained model, the statistics those of an untrained
            one.""",
        remedy="""Copy the buffers at each update (for a, b in zip(ema.buffers(), model.buffers()): a.copy_(b)), as
            torch.optim.swa_utils.AveragedModel does, or call update_bn(loader, averaged).""",
    ),
    example=Example(
        shows="""\
import copy
import torch
from torch import nn

net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
average = copy.deepcopy(net).eval().requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(5):
    net(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        pairs = zip(average.parameters(), net.parameters())
        for a, p in pairs:
            a.lerp_(p, 0.1) if a.is_floating_point() else a.copy_(p)
with torch.no_grad():
    print(average(torch.randn(8, 3)).mean())
""",
        instead_of="pairs = zip(average.parameters(), net.parameters())",
        silent="pairs = zip(average.state_dict().values(), net.state_dict().values())",
    ),
    find=_find,
)
