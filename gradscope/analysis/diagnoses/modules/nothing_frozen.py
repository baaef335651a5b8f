"""A loop that was to freeze parameters and went over none: those of a module's own alone, or by names that are none."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.vain_freezing import VainFreezing, vain_freezings
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for found in vain_freezings(sources.index, sources.lives, sources.names_held):
        yield _finding(sources, found)


def _finding(sources: Sources, found: VainFreezing) -> Finding:
    index, loop, passes = sources.index, found.loop, sources.lives.passes
    names = sources.listed([sources.names.of(tensor) for tensor in found.tensors])
    last = max(passes[tensor][-1] for tensor in found.tensors)
    line = index.line(found.file, loop.line)
    if loop.names is None:
        what = f"Line {line}: {loop.choice} gives what the module holds itself, not its layers, and that is nothing"
        advice = "Without recurse=False parameters() gives those of all layers."
    else:
        what = f"Line {line}: {loop.choice} holds for no name (they are like {found.name})"
        advice = "Compare with what named_parameters() gives."
    return sources.finding(
        what,
        why=f"it freezes nothing, and {names} still get{'s' * (len(found.tensors) == 1)} gradients",
        op=last,
        tensors=found.tensors,
        causes=[
            sources.cause_of_line("set", found.file, loop.line, loop.end_line, ""),
            *(sources.cause_of_line("set", found.file, at, at, "") for at in (loop.names.given if loop.names else ())),
        ],
        evidence=[Evidence("ops", last)],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="nothing-frozen",
    title="a loop that is to freeze parameters and finds none",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop that switches requires_grad off was run and never came to that statement: it goes over
            parameters(recurse=False) of a module that has layers and no parameters of its own, or it tests names, and
            the test holds for none of those that the model's parameters have.""",
        reason="""parameters(recurse=False) leaves out what belongs to submodules, which is all that most models have.
            A name that is not there is no error either: the loop ends, and training goes on with everything.""",
        remedy="""Use module.requires_grad_(False), or parameters() without recurse=False; print the names that
            named_parameters() gives.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 1)
for p in body.parameters(recurse=False):
    p.requires_grad = False
head(body(torch.ones(2, 3))).sum().backward()
""",
        instead_of="for p in body.parameters(recurse=False):",
        silent="for p in body.parameters():",
    ),
    find=_find,
)
