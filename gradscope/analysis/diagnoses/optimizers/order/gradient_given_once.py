"""A tensor that is given the gradient of another once, and stepped with it for ever."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.gradients_given_once import GivenOnce, given_once
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.guards_of_gradients import guard_of_gradient


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that gave gradients."""
    by_line: dict[int, list[GivenOnce]] = {}
    for one in given_once(sources.index, sources.lives):
        by_line.setdefault(sources.index.op_statement[one.op], []).append(one)
    for several in by_line.values():
        yield _finding(sources, several)


def _finding(sources: Sources, several: list[GivenOnce]) -> Finding:
    index, first = sources.index, several[0]
    names = sources.listed([sources.names.of(one.tensor) for one in several])
    statement = index.statements[index.op_statement[first.op]]
    guard = guard_of_gradient(index.recording.files[statement.file].text, statement.line)
    causes = sources.cause("made", first.op)
    times = f"{index.times(first.steps):,}"
    since = f"{index.func(first.steps[-1]).removeprefix('optim.')} has applied that one {times} times"
    if guard is not None:
        causes = [sources.cause_of_line("made", statement.file, *guard, index.op_place(first.op).function), *causes]
        line = index.line(statement.file, guard[0])
        symptom = f"Line {line}: once there is .grad of {names}, line {index.op_line(first.op)} gives no other"
    else:
        symptom = f"Line {index.op_line(first.op)}: .grad of {names} is taken from another tensor once only"
    return sources.finding(
        symptom,
        why=f"each backward pass makes the other a new tensor after it was set to None, and {since}",
        op=first.op,
        tensors=[one.tensor for one in several],
        causes=causes,
        evidence=[Evidence("ops", first.op), Evidence("ops", first.steps[-1])],
        advice="Assign .grad after each backward pass.",
    )


DIAGNOSIS = Diagnosis(
    code="gradient-given-once",
    title="a gradient that is handed over once and applied again and again",
    severity="warning",
    explanation=Explanation(
        meaning="""A tensor was given the gradient of another one as its .grad, once. Passes gave the other new
            gradients after that, and an optimizer went on to step with the first.""",
        reason="""p.grad = q.grad makes one tensor the gradient of both. zero_grad() sets .grad of the other to None,
            and the next backward makes a new tensor, of which p knows nothing.""",
        remedy="""Assign .grad (or copy into it) after each backward pass, whether there is one or not.""",
    ),
    example=Example(
        shows="""\
import torch

local, shared = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)
for step in range(6):
    local.load_state_dict(shared.state_dict())
    local.zero_grad()
    local(torch.rand(4, 3)).pow(2).mean().backward()
    for mine, theirs in zip(local.parameters(), shared.parameters()):
        if theirs.grad is None:
            theirs.grad = mine.grad
    optimizer.step()
""",
        instead_of="if theirs.grad is None:",
        silent="if mine.grad is not None:",
    ),
    find=_find,
)
