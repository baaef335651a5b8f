"""A running average of a model that evaluations update as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.averages_in_evaluation import AverageInEvaluation, averages_in_evaluation
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.calls.calls_of_functions import calls_of


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the averages of one function."""
    functions: dict[tuple[int, int], list[AverageInEvaluation]] = {}
    for one in averages_in_evaluation(sources.index, sources.events):
        place = sources.index.statements[sources.index.op_statement[one.op]]
        functions.setdefault((place.file, place.function), []).append(one)
    for found in functions.values():
        yield _finding(sources, found)


def _finding(sources: Sources, found: list[AverageInEvaluation]) -> Finding:
    names = sources.listed([sources.names.at(one.average, one.op) for one in found])
    calls = _calls(sources, found[0].op)
    written = [cause for one in found for cause in sources.cause("write", one.op)]
    lines = {cause.line for cause in calls or written}
    return sources.finding(
        f"Line{'s' if len(lines) > 1 else ''} {numbers(lines)}: {names}, which the model computes with, "
        f"{'are' if len(found) > 1 else 'is'} updated in evaluation mode too",
        why="what an evaluation is given changes what training goes on with, and what the next evaluation gives",
        op=found[-1].op,
        tensors=[one.average for one in found],
        causes=[*calls, *written],
        evidence=[Evidence("events", found[-1].call)],
        advice="Update it only if self.training.",
    )


def _calls(sources: Sources, op: int) -> list[Cause]:
    """The only call of the function that updates the average, where that is no forward: there it can be left out."""
    recording = sources.index.recording
    place = sources.index.statements[sources.index.op_statement[op]]
    name = recording.text(place.function).rpartition(".")[2]
    if place.file < 0 or name in ("forward", "__call__", "<module>"):
        return []
    calls = calls_of(recording.files[place.file].text, name)
    only = calls if len(calls) == 1 else ()
    return [sources.cause_of_line("used", place.file, one.line, one.end_line, one.function) for one in only]


DIAGNOSIS = Diagnosis(
    code="average-in-evaluation",
    title="a running average that evaluations update as well",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement mixes what comes in into a tensor that the model computes with (statistics of a
            normalisation, the codebook of a quantizer). It ran in training, and between an eval() and the next train()
            as well, where no backward pass ran.""",
        reason="""eval() sets the flag ``training`` of every module, and nothing more: code of one's own has to ask for
            it. A second evaluation of the same data gives another result, and the model follows data that it is to be
            tested on.""",
        remedy="""Put the update under if self.training.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Centred(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        update = True
        if update:
            self.mean.lerp_(x.mean(0), 0.1)
        return self.layer(x - self.mean)

model = Centred()
for epoch in range(2):
    model.train()
    for step in range(3):
        model(torch.randn(8, 4)).pow(2).mean().backward()
    model.eval()
    with torch.no_grad():
        for step in range(2):
            model(torch.randn(8, 4))
""",
        instead_of="update = True",
        silent="update = self.training",
    ),
    find=_find,
)
