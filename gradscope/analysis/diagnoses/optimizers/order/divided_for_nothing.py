"""A loss that is divided for an accumulation, with a step after each pass, or when its pass is over."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.divided_after_passes import DividedAfterPasses, divided_after_passes
from gradscope.analysis.facts.passes.steps_each_pass import StepsEachPass, steps_each_pass
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    for one in steps_each_pass(sources.index, sources.lives):
        yield _finding(sources, one)
    for late in divided_after_passes(sources.index, sources.lives, sources.passes):
        yield _late(sources, late)


def _finding(sources: Sources, one: StepsEachPass) -> Finding:
    index, rounds = sources.index, one.rounds
    function = index.op_place(one.step).function
    cause = sources.cause_of_line("step", one.file, rounds.line, rounds.end_line, function)
    value = "" if rounds.number == str(rounds.value) else f" = {rounds.value}"
    return sources.finding(
        f"Line {index.op_line(one.divided)}: the loss is divided by {rounds.number}{value}, and no pass is added to "
        "another one",
        why=f"a step and a clearing follow each of the {one.passes:,} passes, as {rounds.condition} was true in each "
        f"round, at line {cause.line}",
        op=one.step,
        tensors=one.tensors,
        causes=[cause, *sources.cause("used", one.divided)],
        evidence=[Evidence("ops", one.divided)],
        advice="Let the condition count the rounds, one by one: enumerate(loader) gives their numbers.",
    )


def _late(sources: Sources, one: DividedAfterPasses) -> Finding:
    """A loss that is divided when its pass is over."""
    index = sources.index
    return sources.finding(
        f"Line {index.op_line(one.op)}: {one.name} is divided by {one.number} when backward has run for it (line "
        f"{index.op_line(one.passed)}; {one.runs:,} times), and no pass comes through what that gives",
        why=f"a step applies {one.added} passes at once, so that it gets the sum of their gradients, not the mean",
        op=one.op,
        tensors=[one.tensor],
        causes=[*sources.cause("made", one.op), *sources.cause("used", one.passed)],
        evidence=[Evidence("ops", one.passed)],
        advice="Divide before backward.",
    )


DIAGNOSIS = Diagnosis(
    code="divided-for-nothing",
    title="a loss divided for an accumulation to no effect",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss is divided by a number that also stands in the condition of the step (i % n == 0). In every
            round of the run that condition was true: a step and a clearing followed each single pass. Reported where
            the file gives the number one value only, of two or more. Or loss = loss / n stands behind backward, and a
            step applies n passes.""",
        reason="""The mean over n passes is the sum of their losses, each divided by n. Where i counts something else
            than rounds (samples, in steps that n divides), every round has a step: with a gradient of one pass, n times
            too small.""",
        remedy="""for i, batch in enumerate(loader): … if (i + 1) % n == 0. Or drop the division.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
data = torch.ones(32, 3)
for at in range(0, 32, 8):
    loss = layer(data[at : at + 8]).pow(2).mean() / 4
    loss.backward()
    if at % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
""",
        instead_of="if at % 4 == 0:",
        silent="if at // 8 % 4 == 3:",
    ),
    find=_find,
)
