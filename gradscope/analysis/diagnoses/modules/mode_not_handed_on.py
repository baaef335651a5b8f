"""An overridden ``train()`` that hands the mode on to some modules only: ``eval()`` does not reach the others."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.facts.modes.unreached_norms import UnreachedNorms, unreached_norms
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for found in unreached_norms(sources.index, TrainingModes(sources.events), sources.passes):
        yield _finding(sources, found)


def _finding(sources: Sources, found: UnreachedNorms) -> Finding:
    index, last = sources.index, found.runs[-1]
    first, end = found.override.line, found.override.end_line
    names = sources.listed([sources.names.at(weight, last) for weight in found.weights])
    many = len(found.weights) > 1
    return sources.finding(
        f"Line {index.line(found.file, first)}: train() of {found.override.owner} sets the mode of some of its "
        f"modules only, and eval() calls it: the batch norm{'s' if many else ''} of {names} "
        f"{'are' if many else 'is'} not reached by eval(), and {'go' if many else 'goes'} by the statistics of each "
        f"batch in evaluation too, and learn{'' if many else 's'} from it ({index.times(found.runs):,} calls)",
        why="it calls no train() of its base class",
        op=last,
        tensors=found.weights,
        causes=[sources.cause_of_line("set", found.file, first, end, f"{found.override.owner}.train")],
        evidence=[Evidence("events", found.call.event.row)],
        advice="Begin it with super().train(mode), and call eval() on what is to stay in evaluation mode.",
    )


DIAGNOSIS = Diagnosis(
    code="mode-not-handed-on",
    title="an overridden train() that does not reach all modules",
    severity="warning",
    explanation=Explanation(
        meaning="""A class overrides train() without calling that of its base class and sets the mode of some of its
            modules. After eval() a batch norm in it ran in training mode, in a pass without backward: it normalised by
            the batch, and its running statistics changed.""",
        reason="""eval() is train(False), and train() sets a module's own flag and calls train() of each module within.
            Where a class stands in for that, what it leaves out stays in the mode that it was made in: training.""",
        remedy="""def train(self, mode=True): super().train(mode), then eval() on the parts that are frozen, and
            return self.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.1))

    def forward(self, x):
        return self.head(self.stem(x))

    def train(self, mode=True):
        self.training = mode
        self.head.train(mode)
        return self

net = Net()
net(torch.randn(8, 3)).sum().backward()
net.eval()
with torch.no_grad():
    net(torch.randn(8, 3))
""",
        instead_of="self.training = mode",
        silent="super().train(mode)",
    ),
    find=_find,
)
