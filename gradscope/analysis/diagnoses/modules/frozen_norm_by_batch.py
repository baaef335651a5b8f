"""Frozen batch norms with a momentum of zero that are in training mode: they go by the statistics of each batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.left_in_evaluation import STEPS
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.mode_runs import mode_runs
from gradscope.analysis.facts.modes.norm_statistics import KEPT, LEARNED, runs_in_training, with_statistics
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.zero_momentum import is_to_freeze, zero_momentum
from gradscope.recording import NONE


class _Norm(NamedTuple):
    weight: int
    run: int
    """Its first call that went by a batch."""
    since: ModeCall | None
    """The call of ``train()`` that had set its mode."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each call of ``train()``, about all norms that were frozen and are in its mode.

    They have statistics that they learned before or that were loaded, or are evaluated in the other mode, while others
    are trained. One that learns statistics as well, whose weight is written meanwhile (an average of weights), or whose
    own part was put into training mode, may be meant to. The weight of one may be trained where a function that says
    that it freezes gave it its momentum.
    """
    index, events = sources.index, sources.events
    kept: dict[int, list[int]] = {}
    for op, weight in runs_in_training(index, KEPT):
        kept.setdefault(weight, []).append(op)
    if not kept:
        return
    modes, written, settings = TrainingModes(events), last_written(index), _momentum(sources)
    learned = {weight: op for op, weight in runs_in_training(index, LEARNED)}
    known = with_statistics(index, kept)
    evaluated = {run.site: run.op for run in mode_runs(index, sources.passes) if not run.is_active}
    steps = sorted({step for ops in sources.lives.steps.values() for step in ops})
    groups: dict[tuple[int, bool], list[_Norm]] = {}
    for weight, all_runs in kept.items():
        runs = [op for op in all_runs if not index.requires_grad(weight, op)] or all_runs
        is_frozen = not index.requires_grad(weight, runs[0])
        is_beside = sum(runs[0] < step <= runs[-1] for step in steps) >= STEPS - 1
        is_evaluated = is_frozen and evaluated.get(("weight", weight), NONE) > runs[0]
        is_moved = is_frozen and written.get(index.storage_at(weight, runs[-1]), NONE) > runs[0]
        if not (is_evaluated or weight in known) or not (is_frozen or _is_to_freeze(sources, settings)):
            continue
        if len(runs) < STEPS or not is_beside or is_moved or learned.get(weight, NONE) > runs[0]:
            continue
        last = modes.last_before(runs[0], frozenset((weight,)))
        if last is not None and not any(index.requires_grad(one, runs[0]) for one in _others(last, kept)):
            continue
        since = last if last is not None and last.training else None
        place = since.event.span if since is not None else NONE
        groups.setdefault((place, is_frozen), []).append(_Norm(weight, runs[0], since))
    for (_, is_frozen), norms in groups.items():
        yield _finding(sources, norms, settings, "frozen " if is_frozen else "")


def _others(call: ModeCall, norms: dict[int, list[int]]) -> list[int]:
    """The parameters that are in a call's mode, without those of norms that are all that is in it."""
    is_of_norms = call.norms > 0 and len(call.parameters) <= 2 * call.norms
    return [] if is_of_norms and norms.keys() & call.parameters else sorted(call.parameters)


def _finding(sources: Sources, norms: list[_Norm], settings: list[Cause], frozen: str) -> Finding:
    index, since, weights = sources.index, norms[0].since, [norm.weight for norm in norms]
    where = f"Line {settings[0].line}: " if settings else ""
    names = sources.listed([sources.names.of(weight) for weight in weights])
    why, causes = "nothing put them into evaluation mode for the training", settings
    if since is not None:
        line = index.span_line(since.event.span)
        why = f"line {line} called train() on {since.name}, which puts all that is in it into training mode"
        causes = [*settings, *sources.cause_of_event("set", since.event)]
    return sources.finding(
        f"{where}{'with' if where else 'With'} a momentum of zero {frozen}batch norms ({names}) keep their running "
        "statistics, yet training normalises by those of each batch, and evaluation alone by the running ones",
        why=why,
        op=_frozen_at(index, norms[0]),
        tensors=weights,
        causes=causes,
        evidence=[Evidence("events", since.event.row)] if since is not None else [],
        advice=f"Call eval() on the {frozen}norms after each train().",
    )


def _frozen_at(index: Index, norm: _Norm) -> int:
    """The op that froze a norm, or its first run where none is known."""
    changes = (index.recording.changes[row] for row in index.changed_ops.get(norm.weight, ()))
    return next((one.op for one in changes if one.before and not one.after and one.op < norm.run), norm.run)


def _momentum(sources: Sources) -> list[Cause]:
    """The line that sets momentum to zero, where one alone does."""
    files = enumerate(sources.index.recording.files)
    lines = [(number, *lines) for number, file in files if file.is_user for lines in zero_momentum(file.text)]
    return [sources.cause_of_line("set", *lines[0], "")] if len(lines) == 1 else []


def _is_to_freeze(sources: Sources, settings: list[Cause]) -> bool:
    """Whether a function that is there to freeze set it."""
    texts = {file.name: file.text for file in sources.index.recording.files if file.is_user}
    return any(is_to_freeze(texts.get(one.file, ""), one.line) for one in settings)


DIAGNOSIS = Diagnosis(
    code="frozen-norm-by-batch",
    title="frozen batch norms that normalise by each batch, and are evaluated by other statistics",
    severity="warning",
    explanation=Explanation(
        meaning="""Batch norms do not require grad and have a momentum of zero, so that neither their parameters nor
            their running statistics change. They ran in training mode nevertheless, though they had statistics that
            they learned before, or were evaluated by these later. Or a function that is there to freeze them gave them
            that momentum alone.""",
        reason="""In training mode a batch norm normalises by mean and variance of the batch that it is given, whatever
            its momentum. The running statistics are used in evaluation mode only: what was trained was another function
            than the one that is evaluated.""",
        remedy="""Call eval() on the norms after each train() of the model, or override train() of the model so that it
            does. Momentum can then stay as it is.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

norm, head = nn.BatchNorm1d(3, momentum=0.0).requires_grad_(False), nn.Linear(3, 1)
norm.running_mean.fill_(2.0)
model = nn.Sequential(norm, head)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
model.train()
head.train()
for batch in torch.randn(5, 4, 3):
    optimizer.zero_grad()
    model(batch).pow(2).sum().backward()
    optimizer.step()
model.eval()
model(torch.randn(4, 3))
""",
        instead_of="head.train()",
        silent="norm.eval()",
    ),
    find=_find,
)
