"""A model of averaged weights that gets gradients and is in the optimizer: both write it, by turns."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.trained_averages import TrainedAverage, trained_averages
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the averages of one optimizer."""
    by_optimizer: dict[int, list[TrainedAverage]] = {}
    for one in trained_averages(sources.index, sources.lives, sources.events):
        for event in sources.events.in_optimizers.get(one.average, [])[:1]:
            by_optimizer.setdefault(event.row, []).append(one)
    for found in by_optimizer.values():
        yield _finding(sources, found)


def _finding(sources: Sources, found: list[TrainedAverage]) -> Finding:
    index = sources.index
    optimizer = sources.events.in_optimizers[found[0].average][0]
    averages = [one.average for one in found]
    passes = sources.lives.passes[found[0].average]
    names = sources.listed([sources.names.at(one, passes[-1]) for one in averages])
    weights = sources.listed([sources.names.at(one.weight, passes[-1]) for one in found])
    kinds, used = index.recording.ops.column("kind"), index.users.of(found[0].average)
    use = last_before([op for op in used if kinds[op] == OpKind.CALL and index.op_line(op)], passes[-1])
    name, line = optimizer.detail.get("optimizer", "optimizer"), index.span_line(optimizer.span)
    run = f" (line {index.op_line(use)} runs them with gradients on)" if use >= 0 else ""
    return sources.finding(
        f"Line {line}: the {name} was given {names}, an average of {weights}: {index.times(passes):,} backward passes "
        f"gave them gradients{run}, and its steps train them beside the averaging",
        op=passes[-1],
        tensors=averages,
        causes=[*sources.cause_of_event("made", optimizer), *sources.cause("used", use)],
        evidence=[Evidence("events", optimizer.row), *(Evidence("ops", op) for op in found[0].ops[:2])],
        advice="Give the optimizer the averaged weights alone, and run the average under torch.no_grad().",
    )


DIAGNOSIS = Diagnosis(
    code="average-trained",
    title="an average of weights is trained by an optimizer as well",
    severity="warning",
    explanation=Explanation(
        meaning="""The parameters of a moving average (torch.optim.swa_utils.AveragedModel, or lerp_ by hand) are
            written by the averaging and, between its runs, by an optimizer's steps: they got gradients, and the
            optimizer holds them beside the weights that they are an average of.""",
        reason="""AveragedModel registers a copy whose parameters require grad like those that they were copied from.
            parameters() of a module that has it gives them too, and a loss that is computed from its output sends
            gradients into it.""",
        remedy="""Call requires_grad_(False) on the average, give the optimizer the parameters of the trained model
            alone, and compute the teacher's outputs under torch.no_grad().""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

student = nn.Linear(3, 2)
teacher = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(0.9))
both = nn.ModuleList([student, teacher])
optimizer = torch.optim.SGD(both.parameters(), lr=0.1)
for step in range(6):
    x = torch.randn(4, 3)
    loss = (student(x) - teacher(x + 0.1)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    teacher.update_parameters(student)
""",
        instead_of="optimizer = torch.optim.SGD(both.parameters(), lr=0.1)",
        silent="optimizer = torch.optim.SGD(student.parameters(), lr=0.1)",
    ),
    find=_find,
)
