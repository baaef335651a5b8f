"""A list or dict to which each step adds tensors without graphs, and which nothing reads or empties."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.kept_unread import kept_unread
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.sizes import size


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each list or dict."""
    index = sources.index
    for kept in kept_unread(index, sources.names_held):
        put, last = kept.put, kept.tensors[-1]
        when = "at the end" if kept.until_the_end else "when the last backward pass came"
        yield sources.finding(
            f"Line {index.line(kept.file, put.line)}: {put.holder} gets a tensor step after step and loses none: "
            f"{index.kept_with(kept.tensors):,} ({size(kept.nbytes)}) were there {when}",
            why="they hold no graph, and no line of the program that runs was found to read or empty it",
            op=index.recording.tensors.column("op")[last],
            tensors=[last],
            causes=[sources.cause_of_line("made", kept.file, put.line, put.end_line, put.function)],
            evidence=[Evidence("tensors", one) for one in (kept.tensors[0], last)],
            advice="Keep the last one only, or a number of each (.item()), or leave it out.",
        )


DIAGNOSIS = Diagnosis(
    code="kept-and-never-read",
    title="a list that each step adds tensors to and that nothing reads",
    severity="warning",
    explanation=Explanation(
        meaning="""One place puts tensors without graphs into a list or dict: what a layer gave, detached, or what an
            evaluation gave. All of them were there when the last backward pass came, no call took one of them later,
            and the text of the program has no place that reads the list or empties it.""",
        reason="""detach() and no_grad() keep a graph from being held, and not the tensor itself. A list on a module, or
            one that a hook fills, gets longer with each forward pass, those of evaluations too.""",
        remedy="""Assign the last one instead of appending (self.last = h.detach()), keep a number of each, use
            collections.deque(maxlen=...), clear it at each epoch, or do without where nothing reads it.""",
    ),
    example=Example(
        shows="""\
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 16)
        self.seen = []

    def forward(self, x):
        h = self.linear(x).relu()
        self.seen.append(h.detach())
        return h.sum()

net = Net()
for step in range(12):
    net(torch.randn(32, 8)).backward()
""",
        instead_of="self.seen.append(h.detach())",
        silent="self.seen = [h.detach()]",
    ),
    find=_find,
)
