"""Batch norms of a frozen part that are in training mode, and learn running statistics."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.left_in_evaluation import STEPS
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.modes.undone_norm_modes import UndoneNorms, undone_norm_modes
from gradscope.analysis.facts.modes.unreached_norms import unreached_norms
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE


def _find_learning(sources: Sources) -> Iterator[Finding]:
    """Parts that were frozen and set to evaluation, which a call of ``train()`` on more than them has put back."""
    index, modes = sources.index, TrainingModes(sources.events)
    if any(True for _ in unreached_norms(index, modes, sources.passes)):
        return  # (train() of their class is the cause)
    parts: dict[int, ModeCall] = {}
    running: list[tuple[int, int]] = []
    for call in modes.calls:
        if not call.training and call.norms and call.parameters:
            running = running or runs_in_training(index, LEARNED)
            learned = max((op for op, weight in running if op < call.op and weight in call.parameters), default=NONE)
            if learned < 0:
                parts.setdefault(call.module, call)
            elif _is_frozen_there(sources, modes, call, learned):  # else eval() was for an evaluation
                parts[call.module] = call
    said: set[int] = set()
    for part in parts.values():
        for op, weight in running:
            if op < part.op or weight not in part.parameters or index.requires_grad(weight, op):
                continue
            last = modes.last_before(op, part.parameters)
            if last is None or not last.training or last.parameters == part.parameters or last.event.span in said:
                continue
            if not any(index.requires_grad(tensor, op) for tensor in part.parameters):
                said.add(last.event.span)
                yield _of_part(sources, part, last, op)
    going_on = list(_find_going_on(sources, modes)) if not said else []
    yield from going_on
    if not (said or going_on):
        yield from (_undone(sources, one) for one in undone_norm_modes(index, modes, sources.passes))


def _is_frozen_there(sources: Sources, modes: TrainingModes, call: ModeCall, learned: int) -> bool:
    """Whether all parameters were frozen since batch norms learned last, and before the next call on their mode."""
    index = sources.index
    later = (one.op for one in modes.calls if one.op > call.op and one.covers(call.parameters))
    until = next(later, index.op_count)
    rows = [index.changed_ops.get(tensor, [])[-1:] for tensor in call.parameters]
    changes = [index.recording.changes[row] for (row,) in filter(None, rows)]
    return len(changes) == len(rows) and all(learned < one.op < until and not one.after for one in changes)


def _find_going_on(sources: Sources, modes: TrainingModes) -> Iterator[Finding]:
    """Batch norms that were frozen for good, and go on learning statistics while others are trained.

    One that is frozen again and again, or is written meanwhile (an average of weights), may be meant to.
    """
    index, lives = sources.index, sources.lives
    written = last_written(index)
    updates: dict[int, list[int]] = {}
    for op, weight in runs_in_training(index, LEARNED):
        updates.setdefault(weight, []).append(op)
    steps = sorted({step for ops in lives.steps.values() for step in ops})
    found: dict[tuple[int, int], list[tuple[int, int, ModeCall | None]]] = {}
    for weight, ops in updates.items():
        changes = [index.recording.changes[row] for row in index.changed_ops.get(weight, ())]
        frozen = changes[0].op if len(changes) == 1 and changes[0].before and not changes[0].after else NONE
        trained = lives.steps.get(weight, [])
        later = [op for op in ops if op > frozen]
        is_trained = bool(trained) and trained[0] < frozen and ops[0] < frozen
        if frozen < 0 or len(later) < STEPS or not steps or steps[-1] < later[0]:
            continue
        is_written = max(written.get(index.storage_at(weight, op), NONE) for op in (NONE, later[-1])) > later[0]
        is_beside = sum(later[0] < step < later[-1] for step in steps) >= STEPS - 1
        if not is_trained and (trained or is_written or not is_beside):
            continue
        last = modes.last_before(later[0], frozenset((weight,)))
        if last is not None and not any(index.requires_grad(tensor, later[0]) for tensor in last.parameters):
            continue  # train() was called on the frozen part itself
        since = last if last is not None and last.training and last.op > frozen else None
        key = (since.event.span if since is not None else NONE, index.op_statement[frozen])
        found.setdefault(key, []).append((weight, frozen, since))
    for group in found.values():
        yield _going_on(sources, [weight for weight, *_ in group], *group[0][1:])


def _going_on(sources: Sources, weights: list[int], frozen: int, since: ModeCall | None) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.of(weight) for weight in weights])
    line, is_trained = index.op_line(frozen), bool(sources.lives.steps.get(weights[0]))
    why, causes = f"requires_grad=False (line {line}) leaves them in the mode that they are in", []
    if since is not None:
        at = index.span_line(since.event.span)
        why = f"line {at} called train() on {since.name}, which puts all that is in it into training mode"
        causes = sources.cause_of_event("set", since.event)
    of_freezing = sources.cause("set", frozen)
    how = "trained and then frozen" if is_trained else f"frozen at line {line}"
    return sources.finding(
        f"Batch norms that were {how} ({names}) go on learning running statistics",
        why=why,
        op=frozen,
        tensors=weights,
        causes=[*causes, *of_freezing] if is_trained else [*of_freezing, *causes],
        evidence=[Evidence("events", since.event.row)] if since is not None else [],
        advice="Call eval() on the frozen part after each train().",
    )


def _of_part(sources: Sources, part: ModeCall, last: ModeCall, op: int) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.of(tensor) for tensor in sorted(part.parameters)])
    line = index.span_line(last.event.span)
    return sources.finding(
        f"Line {index.op_line(op)}: the batch norm of a frozen part ({names}) updates its running statistics, though "
        "eval() had been called on that part",
        why=f"line {line} called train() on {last.name}, which puts all that is in it back into training mode",
        op=op,
        tensors=sorted(part.parameters)[:1],
        causes=sources.cause_of_event("set", last.event),
        evidence=[Evidence("events", one.event.row) for one in (part, last)],
        advice="Call eval() on the frozen part after each train().",
    )


def _undone(sources: Sources, undone: UndoneNorms) -> Finding:
    """Norms that are not frozen, but for their statistics: eval() was called on them alone."""
    index = sources.index
    names = sources.listed([sources.names.of(weight) for weight in undone.weights])
    asked, line = (index.span_line(one.event.span) for one in (undone.asked, undone.back))
    return sources.finding(
        f"Batch norms ({names}) go by each batch and update their running statistics in "
        f"{index.times(undone.passes):,} training passes, though eval() had been called on them (line {asked})",
        why=f"line {line} called train() on {undone.back.name}, which puts all that is in it back into training mode",
        op=undone.runs[0],
        tensors=undone.weights,
        causes=[
            *sources.cause_of_event("set", undone.back.event),
            *sources.cause_of_event("set", undone.asked.event),
        ],
        evidence=[Evidence("events", one.event.row) for one in (undone.asked, undone.back)],
        advice="Call eval() on the norms after each train(), or override train() of the model so that it does.",
    )


DIAGNOSIS = Diagnosis(
    code="frozen-norm-learns",
    title="the batch norm of a frozen part learns statistics again",
    severity="warning",
    explanation=Explanation(
        meaning="""A part of a model does not require grad and was set to evaluation mode. A later train() on the
            whole model put it back into training mode, and its batch norms updated their running statistics. Or
            its batch norms were frozen for good, and nothing called eval() on them: they went on so while other
            parts were trained. Or eval() was called on the batch norms alone, and a later train() of the whole model
            undid it before a training pass ran, or after each evaluation.""",
        reason="""requires_grad=False keeps parameters from gradients; running statistics are no parameters, they
            follow from the mode. train() sets the mode of every module within.""",
        remedy="""Call eval() on the frozen part after each train(), or override train() of the model so that it
            does.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

trunk, head = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Linear(4, 1)
model = nn.Sequential(trunk, head)
trunk.requires_grad_(False)
trunk.eval()
model.train()
model(torch.ones(2, 3)).sum().backward()
""",
        instead_of="model.train()",
        silent="head.train()",
    ),
    find=_find_learning,
)
