"""Parameters that were frozen with others, whose names are the beginning of theirs: blocks.10 with blocks.1."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.frozen_by_beginnings import FrozenByBeginning, frozen_by_beginnings
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.modules.numbers_cut_short import lines_with


def _find(sources: Sources) -> Iterator[Finding]:
    passed = {tensor: group.last_op for group in sources.gradients.groups for tensor in group.frozen}
    for found in frozen_by_beginnings(sources.index, passed):
        yield _finding(sources, found)


def _finding(sources: Sources, found: FrozenByBeginning) -> Finding:
    index, loop = sources.index, found.loop
    text = index.recording.files[found.file].text
    meant = list(dict.fromkeys(why.meant for why in found.cut.values()))
    reached = list(dict.fromkeys(why.reached for why in found.cut.values()))
    lines = list(dict.fromkeys(line for one in meant for line in lines_with(text, one)))
    lines = [line for line in (*lines, *(loop.names.given if loop.names else ())) if line != loop.line]
    count = len(found.cut)
    line = index.line(found.file, loop.line)
    return sources.finding(
        f"Line {line}: the test of names holds for {listed(reached)} as well, whose number begins with that of "
        f"{listed(meant)}",
        why=f"line {index.line(found.file, loop.sets[0])} switched requires_grad off for "
        f"{count:,} parameter{'s' * (count > 1)} of these, too, which got no gradient",
        op=found.passed,
        tensors=list(found.cut),
        causes=[
            *(sources.cause_of_line("set", found.file, line, line, "") for line in dict.fromkeys(lines)),
            sources.cause_of_line("set", found.file, loop.line, loop.end_line, ""),
        ],
        evidence=[Evidence("changes", row) for row in found.rows],
        advice=f'Look for the whole part: "{meant[0]}.", with the dot behind it.',
    )


DIAGNOSIS = Diagnosis(
    code="frozen-by-beginning",
    title="parameters frozen with others, whose number theirs begins with",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop over named_parameters() switched requires_grad off by what names begin with. What is sought
            ends with a number (blocks.1), and longer numbers begin with the same digits: blocks.10 and blocks.11 were
            frozen with it, while others of the blocks were not.""",
        reason="""str.startswith compares characters, not parts of a path: "blocks.10.weight" begins with "blocks.1".
            Nothing tells that a prefix matched more than one part.""",
        remedy="""End the prefix with the dot ("blocks.1."), compare the parts (name.split(".")[:2]), or freeze by
            module: model.blocks[1].requires_grad_(False).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(12)))
for name, p in model.named_parameters():
    if name.startswith("1"):
        p.requires_grad_(False)
for step in range(2):
    model(torch.ones(2, 3)).sum().backward()
""",
        instead_of='if name.startswith("1"):',
        silent='if name.startswith("1."):',
    ),
    find=_find,
)
