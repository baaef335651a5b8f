"""A step under a condition that was never true."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.writes import all_steps, last_written
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.untaken_branches import only_step_under

PASSES = 4
"""Backward passes without any step from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    optimizers = seen_optimizers(index, sources.events)
    if not optimizers or all_steps(index):
        return
    written = last_written(index)
    for one in optimizers:
        passes = sorted({op for leaf in one.tensors for op in sources.lives.passes.get(leaf, ())})
        if len(passes) < PASSES:
            continue
        if any(written.get(index.storage_at(leaf, passes[0]), -1) > passes[0] for leaf in one.tensors):
            continue
        file = index.statements[index.op_statement[passes[-1]]].file
        if file < 0 or file != index.recording.spans[one.made.span].file:
            continue
        found = only_step_under(index.recording.files[file].text, one.line, index.op_line(passes[-1]))
        if found is not None:
            yield sources.finding(
                f"Line {index.line(file, found.line)}: {found.test} was never true in {index.times(passes):,} backward "
                f"passes, so that "
                f"the {one.name} made no step",
                op=passes[-1],
                tensors=sorted(one.tensors)[:1],
                causes=[sources.cause_of_line("step", file, found.line, found.line, "")],
                evidence=[Evidence("events", one.made.row)],
            )


DIAGNOSIS = Diagnosis(
    code="step-never-made",
    title="an optimizer's step under a condition that was never true",
    severity="warning",
    explanation=Explanation(
        meaning="""Backward passes gave an optimizer's parameters gradients, no optimizer made a step in the whole run,
            and the only call of its step stands under a condition.""",
        reason="""Gradients add up in .grad until a step applies them. i + 1 % 4 is i + (1 % 4) to Python; an
            accumulation longer than an epoch never comes to its end.""",
        remedy="""(i + 1) % 4 == 0; step once more after the loop for what is left over.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w], lr=0.1)
for i in range(8):
    (w * 2).sum().backward()
    if i + 1 % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
""",
        instead_of="if i + 1 % 4 == 0:",
        silent="if (i + 1) % 4 == 0:",
    ),
    find=_find,
)
