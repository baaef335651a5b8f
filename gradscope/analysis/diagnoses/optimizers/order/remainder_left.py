"""A step in every so many rounds of a loop, which leaves the gradients of the last rounds to the loop's next run."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.left_remainders import LeftRemainder, left_remainders
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.counted_rounds import counted_condition


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each condition; what its text does not show to count the rounds of one run is left alone."""
    index = sources.index
    by_condition: dict[tuple[int, tuple[int, int]], list[LeftRemainder]] = {}
    for one in left_remainders(index, sources.lives):
        statement = index.statements[index.op_statement[one.step]]
        if statement.file < 0:
            continue
        condition = counted_condition(index.recording.files[statement.file].text, statement.line)
        if condition is not None:
            by_condition.setdefault((statement.file, condition), []).append(one)
    for (file, condition), several in by_condition.items():
        yield _finding(sources, file, condition, several)


def _finding(sources: Sources, file: int, condition: tuple[int, int], several: list[LeftRemainder]) -> Finding:
    index, first = sources.index, several[0]
    tensors = [tensor for one in several for tensor in one.tensors]
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    cause = sources.cause_of_line("step", file, *condition, index.op_place(first.step).function)
    passes = f"the last {first.left} backward passes" if first.left > 1 else "the last backward pass"
    whole = first.passes + first.left
    return sources.finding(
        f"Line {cause.line}: no step follows {passes} of a run of the loop, and nothing clears .grad of {names}",
        why=f"the first step of the next run applies them, too: {whole} passes in place of {first.passes}",
        op=first.step,
        tensors=tensors,
        causes=[cause],
        evidence=[Evidence("ops", one.step) for one in several],
        advice="Step and clear after the last round as well.",
    )


DIAGNOSIS = Diagnosis(
    code="remainder-left",
    title="gradients of a loop's last rounds that its next run applies",
    severity="warning",
    explanation=Explanation(
        meaning="""Gradients are added up over several rounds of a loop and applied in every so many of them. The loop
            ended with rounds left over, and the first step of its next run applied their gradients with its own.""",
        reason="""A condition such as (i + 1) % 4 == 0 counts from the beginning of the loop. Where the number of rounds
            is no multiple, the last ones come to no step, and .grad keeps what they gave; after the last run of all it
            is lost.""",
        remedy="""Make the step in the last round of the loop as well (or i + 1 == len(loader)), or count over all runs
            of the loop. Call zero_grad() before each run to leave these rounds out.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for epoch in range(3):
    for i, batch in enumerate(torch.ones(7, 2, 3)):
        (layer(batch).sum() / 4).backward()
        if (i + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
""",
        instead_of="if (i + 1) % 4 == 0:",
        silent="if (i + 1) % 4 == 0 or i == 6:",
    ),
    find=_find,
)
