"""An average of weights that a loop over names updates, of which it finds none."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.averages_skipped import skipped_averages
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each condition."""
    index = sources.index
    for found in skipped_averages(index):
        one, runs = found.skipped, index.times(found.runs)
        finding = sources.finding(
            f"Line {index.line(found.file, one.line)}: {one.test} was true for no name of the model in {runs:,} "
            f"calls of {one.function}, so that it updates nothing in {one.keys}, while steps change the weights",
            op=found.runs[-1],
            tensors=[],
            causes=[sources.cause_of_line("used", found.file, one.line, one.end_line, one.function)],
            evidence=[Evidence("ops", found.made)],
            advice="Use names of the same module for both: behind torch.compile they begin with _orig_mod., behind "
            "DataParallel with module. too.",
        )
        yield finding._replace(subject=one.keys, tensor=one.keys)


DIAGNOSIS = Diagnosis(
    code="average-skipped",
    title="values kept by name that a loop over names never updates",
    severity="warning",
    explanation=Explanation(
        meaning="""A dict was filled by a loop over the names of a module: averages of its weights. A function goes
            through the names of a module and updates what the dict has under each, if there is something. It was
            called again and again, and there was nothing under any name.""",
        reason="""The names of a module behind a wrapper begin with the name that the wrapper gives it: _orig_mod. for
            torch.compile, module. for DataParallel and DistributedDataParallel. A condition that skips unknown names
            then skips all of them, and nothing fails.""",
        remedy="""Give both the same module: the plain one. Or take the prefix off the name. Index the dict without
            asking, so that a name that is not there raises.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

net = nn.Linear(3, 1)
model = nn.ModuleDict({"module": net})
shadow = {name: p.detach().clone() for name, p in net.named_parameters()}


@torch.no_grad()
def update(module):
    for name, p in module.named_parameters():
        if name in shadow:
            shadow[name].lerp_(p, 0.1)


optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    net(torch.rand(4, 3)).pow(2).mean().backward()
    optimizer.step()
    update(model)
""",
        instead_of="update(model)",
        silent='update(model["module"])',
    ),
    find=_find,
)
