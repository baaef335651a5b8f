"""A teacher or target network that an optimizer trains, and only towards what it is to teach."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.tracked_targets import TrackedTarget, TrackedTargets
from gradscope.analysis.facts.losses.trained_teachers import TrainedTeacher, TrainedTeachers
from gradscope.analysis.facts.memory_writes.trained_averages import trained_averages
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE

_WRITTEN = ("detach", "data", "no_grad")
"""Kinds of cuts that somebody wrote."""


def _find(sources: Sources) -> Iterator[Finding]:
    teachers = TrainedTeachers(sources.index, sources.passes, sources.events, sources.names)
    for one in teachers.reversed(sources.flow):
        if sources.cuts.kind(one.cut) in _WRITTEN:
            yield _of_reversed(sources, one)
    found = [one for one in teachers.found() if not _has_pass_of_its_own(sources, one)]
    averages = (
        {one.average for one in trained_averages(sources.index, sources.lives, sources.events)} if found else set()
    )
    for one in found:
        if not averages.issuperset(one.leaves):  # (of an average there is more to say)
            yield _finding(sources, one)
    said = {leaf for one in found for leaf in one.leaves}
    for target in TrackedTargets(sources.index, sources.passes, sources.events, teachers).found():
        if said.isdisjoint(target.leaves):
            yield _of_target(sources, target)
            said.update(target.leaves)


def _has_pass_of_its_own(sources: Sources, found: TrainedTeacher) -> bool:
    """Whether a backward at another line trains the teacher meanwhile: in the rounds of the loop that has the loss."""
    statements, nodes = sources.index.op_statement, sources.index.recording.tensors.column("node")
    made = sources.index.tensors_made(found.loss)
    by = sources.passes.first_walked_at[nodes[made[0]]] if made and nodes[made[0]] >= 0 else NONE
    given = sources.lives.passes.get(found.leaves[0], [])
    own = [op for op in given if by >= 0 and statements[op] == statements[by]]
    return any(own[0] < op < own[-1] and statements[op] != statements[by] for op in given if own)


def _of_reversed(sources: Sources, found: TrainedTeacher) -> Finding:
    index = sources.index
    given = sources.events.in_optimizers[found.leaves[0]][-1]
    names = sources.listed([sources.names.at(leaf, found.loss) for leaf in found.leaves])
    optimizer = f"the {given.detail.get('optimizer', 'optimizer')} of line {index.span_line(given.span)}"
    return sources.finding(
        f"Line {index.op_line(found.loss)}: {index.call_name(found.loss)} takes what is to learn cut off at "
        f"{sources.cuts.where(found.cut)}, and its target with a gradient: it trains {names} alone",
        why=f"{optimizer} steps them towards what they are to teach",
        op=found.loss,
        tensors=[*found.leaves, found.target],
        causes=[
            *sources.cause("cut", sources.cuts.line_to_change(found.cut)),
            *sources.cause_of_event("used", given),
        ],
        evidence=[Evidence("ops", found.loss), Evidence("ops", found.cut)],
        advice="Detach the target instead, and leave what gives it out of the optimizer.",
    )


def _of_target(sources: Sources, found: TrackedTarget) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.at(leaf, found.loss) for leaf in found.leaves])
    made, loss = index.op_line(found.made), index.op_line(found.loss)
    there = "the loss there" if made == loss else f"the loss at line {loss}"
    return sources.finding(
        f"Line {made}: {sources.names.at(found.target, found.loss)} is the target of {there}, and has a gradient to "
        f"{names}",
        why="the loss of what is to learn changes these as well, towards what that says already",
        op=found.loss,
        tensors=[found.target, *found.leaves],
        causes=[*sources.cause("made", found.made), *sources.cause("used", found.loss)],
        evidence=[Evidence("ops", found.made)],
        advice="detach() the target; the teacher keeps the gradient of its own loss.",
    )


def _finding(sources: Sources, found: TrainedTeacher) -> Finding:
    index = sources.index
    given = sources.events.in_optimizers[found.leaves[0]][-1]
    names = sources.listed([sources.names.at(leaf, found.loss) for leaf in found.leaves])
    optimizer = f"the {given.detail.get('optimizer', 'optimizer')} of line {index.span_line(given.span)}"
    line = index.span_line(found.span) if found.span >= 0 else index.op_line(found.uses)
    by_mode = "" if found.is_called_so else "; eval() freezes nothing"
    return sources.finding(
        f"Line {line}: {names} give the target of a loss with a gradient, and {optimizer} steps them",
        why=f"no other way leads to them, so they are trained towards what they are to teach{by_mode}",
        op=found.loss,
        tensors=[*found.leaves, found.target],
        causes=[
            *(sources.cause_of_span("made", found.span) or sources.cause("made", found.uses)),
            *sources.cause_of_event("used", given),
        ],
        evidence=[Evidence("ops", found.uses)],
        advice="Compute the target under torch.no_grad(), and leave them out of the optimizer.",
    )


DIAGNOSIS = Diagnosis(
    code="teacher-trained",
    title="a teacher that is trained towards its student",
    severity="warning",
    explanation=Explanation(
        meaning="""A network whose name says that it is a teacher, a target or an average gives the target of a loss,
            and gradients flow into it. An optimizer holds its parameters, and the loss of the other network is all
            that trains them. It is reported where the names say so, and where the program trains it in evaluation
            mode alone, beside a network in training mode that has a loss of its own. Or the other network was cut off
            in the loss (detach), and the teacher alone was not. Or a teacher that has a loss of its own gives the
            probabilities that are the target of the other network's, and they have a gradient.""",
        reason="""model.parameters() of a module that holds both gives an optimizer both. The loss falls as well where
            the teacher comes to say what the student says, and what it knew is lost. Nothing fails.""",
        remedy="""with torch.no_grad(): target = teacher(x). Give the optimizer the student's parameters, or freeze the
            teacher with teacher.requires_grad_(False) before it is made. Where two networks are to learn from each
            other, give each a loss of its own.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn


class Distiller(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher = nn.Linear(4, 3)
        self.student = nn.Linear(4, 3)

    def forward(self, x):
        expected = self.teacher(x).softmax(-1)
        return nn.functional.kl_div(self.student(x).log_softmax(-1), expected, reduction="batchmean")


model = Distiller()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    loss = model(torch.randn(8, 4))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="expected = self.teacher(x).softmax(-1)",
        silent="expected = self.teacher(x).softmax(-1).detach()",
    ),
    find=_find,
)
