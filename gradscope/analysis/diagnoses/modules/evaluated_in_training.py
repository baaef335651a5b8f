"""A call of ``train()`` in the middle of an evaluation: the rest of it runs in training mode."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice, pairwise
from operator import attrgetter
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.mode_runs import ModeRun, mode_runs
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.modes.undone_evaluations import UndoneEvaluation, undone_evaluations
from gradscope.analysis.facts.passes.gradient_lives import first_after
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.recording.rows import OpKind

ROUNDS = 2
"""Rounds of an evaluation in training mode from which on it is reported."""
_PASSES = (OpKind.BACKWARD, OpKind.GRAD)


class _Evaluation(NamedTuple):
    """A loop that an ``eval()`` was called for, and that went on in training mode."""

    back: ModeCall
    function: str
    runs: tuple[ModeRun, ...]
    """Dropouts and batch norms of the rounds in training mode."""
    rounds: int
    op: int


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that calls ``train()``."""
    modes = TrainingModes(sources.events)
    if len({call.training for call in modes.calls}) < len((True, False)):
        return
    runs = mode_runs(sources.index, sources.passes)
    for undone in undone_evaluations(sources.index, modes, runs):
        yield _undone(sources, undone)
    if len({run.is_active for run in runs if run.walked_by < 0}) < len((True, False)):
        return
    found: dict[int, list[_Evaluation]] = {}
    passes = sources.index.of_kind(*_PASSES)
    for at, call in enumerate(modes.calls):
        if call.training or call.by_library or not call.dropouts + call.norms:
            continue
        evaluation = _gone_on(sources, modes, at, runs, passes)
        if evaluation is not None:
            found.setdefault(evaluation.back.event.span, []).append(evaluation)
    for group in found.values():
        if sum(one.rounds for one in group) >= ROUNDS:
            yield _finding(sources, group)


def _gone_on(
    sources: Sources, modes: TrainingModes, at: int, runs: list[ModeRun], passes: list[int]
) -> _Evaluation | None:
    """What went on after an ``eval()`` and a ``train()`` that a round of the evaluation called.

    Only a loop that had begun in evaluation mode, as what it calls first: one that calls ``eval()`` in its rounds, or a
    second loop after it, may be run in both modes on purpose.
    """
    index, call = sources.index, modes.calls[at]
    later = (one for one in islice(modes.calls, at + 1, None) if _overlaps(one, call))
    back = next(later, None)
    if back is None or not back.training or back.by_library:
        return None
    until = next((one.op for one in later if not one.training), index.op_count)
    trained = first_after(passes, call.op - 1)
    until = min(until, trained) if trained >= 0 else until
    before = runs[_from(runs, call.op) : _from(runs, back.op)]
    idle = {run.site for run in before} - {run.site for run in before if run.is_active}
    if not idle or until <= back.op:
        return None
    spans = index.recording.spans
    own = {(spans[one].file, spans[one].function): spans[one].line for one in call.through}
    for depth, span in enumerate(back.through):
        place, inside = spans[span], {(spans[one].file, spans[one].function) for one in back.through[:depth]}
        function = (place.file, place.function)
        text = index.recording.files[place.file].text if place.file >= 0 else ""
        loops = [one for one in loops_around(text, place.line) if not one[0] <= own.get(function, 0) <= one[1]]
        if loops and function not in inside:
            rounds = _rounds(sources, function, loops[0], inside, range(call.op, until), back.op, runs)
            rounds = [kept for one in rounds if (kept := tuple(run for run in one if run.site in idle))]
            if rounds:
                last = rounds[-1][-1]
                return _Evaluation(back, index.recording.text(place.function), sum(rounds, ()), len(rounds), last.op)
        if function in own:
            break
    return None


def _from(runs: list[ModeRun], op: int) -> int:
    return bisect_left(runs, op, key=attrgetter("op"))


def _overlaps(one: ModeCall, call: ModeCall) -> bool:
    """Whether a call set the mode of a part of a module; a dropout has no parameters to tell by."""
    return not one.parameters.isdisjoint(call.parameters) or (bool(one.dropouts) and not one.parameters)


def _rounds(
    sources: Sources,
    function: tuple[int, int],
    loop: tuple[int, int],
    inside: set[tuple[int, int]],
    ops: range,
    back: int,
    runs: list[ModeRun],
) -> list[tuple[ModeRun, ...]]:
    """The rounds of a loop, each up to a call of its own, with what ran in training mode all the time.

    What the functions do that the loop calls for ``train()`` is left out: it may be why they call it. Of the calls of
    the loop the rarest tells its rounds: a model may call others several times in each.
    """
    index = sources.index
    statements, at_statement = index.statements, index.op_statement
    funcs, known = index.recording.ops.column("func"), {run.op for run in runs}
    calls: dict[tuple[int, int], list[int]] = {}
    called = list[int]()
    for op in ops:
        one = statements[at_statement[op]]
        if (one.file, one.function) == function and loop[0] < one.line <= loop[1] and op not in known:
            calls.setdefault((at_statement[op], funcs[op]), []).append(op)
        elif (one.file, one.function) in inside:
            called.append(op)
    rarest = min((one for one in calls.values() if one[0] < back <= one[-1]), key=len, default=[])
    found = []
    for first, last in pairwise(rarest[max(bisect_left(rarest, back) - 1, 0) :]):
        position = bisect_left(called, last)
        since = max(first, back, called[position - 1] if position else 0)
        meanwhile = runs[_from(runs, since + 1) : _from(runs, last)]
        idle = {run.site for run in meanwhile if not run.is_active or run.walked_by >= 0}
        if active := tuple(run for run in meanwhile if run.site not in idle):
            found.append(active)
    return found


def _finding(sources: Sources, group: list[_Evaluation]) -> Finding:
    index, last = sources.index, group[-1]
    kinds = {run.site[0] == "weight" or "norm" in run.site[0] for one in group for run in one.runs}
    parts = ["dropout drops values"] * (False in kinds) + ["batch norms learn from its data"] * (True in kinds)
    rounds, line = sum(one.rounds for one in group), index.span_line(last.back.event.span)
    return sources.finding(
        f"Line {line}: train() in the middle of an evaluation ({last.function}) puts {last.back.name} into training "
        f"mode, and {rounds:,} of its further rounds run so: {' and '.join(parts)}",
        why="nothing calls eval() before it goes on",
        op=last.op,
        tensors=[],
        causes=sources.cause_of_event("set", last.back.event),
        evidence=[Evidence("events", one.back.event.row) for one in group],
        advice="Call eval() again when that is done, or train() on dropouts only where they are all that is meant.",
    )


def _undone(sources: Sources, found: UndoneEvaluation) -> Finding:
    """An evaluation that ran in training mode from its first round on."""
    index, back = sources.index, found.back
    line, at = (index.span_line(one.event.span) for one in (back, found.undone))
    counts = dict.fromkeys(("dropout", "batch norm"), 0)
    for run in found.runs:
        counts["batch norm" if run.site[0] == "weight" or "norm" in run.site[0] else "dropout"] += 1
    calls = " and ".join(f"{count:,} calls of a {kind}" for kind, count in counts.items() if count)
    return sources.finding(
        f"Line {line}: {found.helper}, which training and evaluation share, calls train() on {back.name} right after "
        f"the eval() of line {at}: the evaluation runs in training mode ({calls})",
        op=found.runs[-1].op,
        tensors=[],
        causes=[*sources.cause_of_event("set", back.event), *sources.cause_of_event("set", found.undone.event)],
        evidence=[Evidence("events", one.event.row) for one in (back, found.undone)],
        advice="Call train() where a training epoch begins, and not in what an evaluation calls too.",
    )


DIAGNOSIS = Diagnosis(
    code="evaluated-in-training",
    title="an evaluation goes on in training mode",
    severity="warning",
    explanation=Explanation(
        meaning="""eval() was called for an evaluation, and a round of it called train() (a probe, a callback that draws
            with dropout) without an eval() after it. The rounds that followed ran with dropout, and their batch norms
            updated running statistics. Or a helper that training and evaluation share calls train() each time.""",
        reason="""The mode belongs to the module, not to the function that sets it: it stays as it was set for all who
            call the module. torch.no_grad() has nothing to do with it.""",
        remedy="""Set the mode back where it was changed: was = model.training, then model.train(was). For draws with
            dropout call train() on the dropouts only: batch norms learn from whatever they are given.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))

def spread(x):
    model.train()
    draws = torch.stack([model(x) for _ in range(4)])
    model.zero_grad()
    return draws.std(0).mean()

@torch.no_grad()
def evaluate(batches):
    model.eval()
    total = 0.0
    for number, x in enumerate(batches):
        total += model(x).sum().item()
        if number == 0:
            print(spread(x))
    return total

evaluate([torch.ones(2, 3) for _ in range(5)])
""",
        instead_of="model.zero_grad()",
        silent="model.eval()",
    ),
    find=_find,
)
