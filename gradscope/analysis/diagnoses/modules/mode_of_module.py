"""train() and eval(): steps that are made in evaluation mode, and batch norms of a frozen part that learn again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.left_in_evaluation import STEPS, has_no_effect, left_in_evaluation
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.gradient_lives import last_before
from gradscope.analysis.facts.modes.mode_runs import mode_runs
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import Field


def _find_evaluating(sources: Sources) -> Iterator[Finding]:
    """Models that an evaluation leaves in its mode, or that are stepped to the end in the mode that eval() set."""
    modes = TrainingModes(sources.events)
    if all(call.training for call in modes.calls):
        return
    said: set[int] = set()
    for finding, spans in left_in_evaluation(sources, modes):
        said |= spans
        yield finding
    lives = sources.lives
    for optimizer in seen_optimizers(sources.index, sources.events):
        trained = frozenset(tensor for tensor in optimizer.tensors if tensor in lives.steps)
        call = next((one for one in reversed(modes.calls) if trained and one.covers(trained)), None)
        steps = sorted({step for tensor in trained for step in lives.steps[tensor]})
        if call is None or not call.dropouts + call.norms or not steps:
            continue
        last = _last_setting(modes, call, steps[-1])
        if last is None or last.training or last.by_library or last.event.span in said:
            continue
        since = _set_since(modes, last)
        inside = [
            step
            for step in steps
            if step >= since.op and max(last_before(lives.passes[tensor], step) for tensor in trained) >= since.op
        ]
        if len(inside) >= STEPS and not has_no_effect(sources, trained, since.op):
            yield _of_model(sources, since, steps, inside, trained)


def _last_setting(modes: TrainingModes, model: ModeCall, op: int) -> ModeCall | None:
    """The last call before an op that set the mode of a whole model."""
    return modes.last_before(op, model.parameters)


def _set_since(modes: TrainingModes, last: ModeCall) -> ModeCall:
    """The first call of those without another mode between them that ended with a call on the same module."""
    first = last
    for call in reversed(modes.calls[: modes.calls.index(last)]):
        if call.training and not call.parameters.isdisjoint(last.parameters):
            break
        if call.covers(last.parameters):
            first = call
    return first


def _of_model(
    sources: Sources, since: ModeCall, steps: list[int], inside: list[int], trained: frozenset[int]
) -> Finding:
    index, last = sources.index, inside[-1]
    line = index.span_line(since.event.span)
    parts = [
        f"{number:,} {name}{'s' * (number > 1)}"
        for number, name in ((since.dropouts, "dropout"), (since.norms, "batch norm"))
        if number
    ]
    before = bisect_left(steps, since.op)
    is_set_up = not since.dropouts and (not before or not _is_for_evaluation(sources, since, inside[0]))
    return sources.finding(
        f"Line {index.op_line(last)}: {index.times(inside):,} steps train {since.name} in evaluation mode, in which "
        f"its {' and '.join(parts)} do nothing or keep their statistics",
        why=f"line {line} called eval(), and nothing called train() after it",
        op=last,
        tensors=sorted(trained)[:1],
        causes=sources.cause_of_event("set", since.event),
        evidence=[Evidence("events", since.event.row)],
        advice="Call train() before the steps, and again after each evaluation.",
        severity="note" if is_set_up else None,
    )


def _is_for_evaluation(sources: Sources, call: ModeCall, step: int) -> bool:
    """Whether a model was evaluated after an ``eval()``, before the training went on to a step."""
    runs = mode_runs(sources.index, sources.passes)
    first = next((run.op for run in runs if run.op >= call.op and run.walked_by >= 0), step)
    return any(call.op <= run.op < first and not run.is_active for run in runs)


def _find_learning(sources: Sources) -> Iterator[Finding]:
    """Parts that were frozen and set to evaluation, which a call of ``train()`` on more than them has put back."""
    index, modes = sources.index, TrainingModes(sources.events)
    parts: dict[int, ModeCall] = {}
    running: list[tuple[int, int]] = []
    for call in modes.calls:
        if not call.training and call.norms and call.parameters:
            running = running or _updates_of_statistics(sources)
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
    if not said:
        yield from _find_going_on(sources, modes)


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
    for op, weight in _updates_of_statistics(sources):
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


def _updates_of_statistics(sources: Sources) -> list[tuple[int, int]]:
    """Calls of batch norms that updated running statistics: op and the weight."""
    index, changes = sources.index, sources.index.recording.changes
    columns = (changes.column(name) for name in ("op", "field"))
    ops = {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN and op < index.op_count}
    found: list[tuple[int, int]] = []
    for op in sorted(one for one in ops if index.func(one) == "F.batch_norm"):
        taken = index.uses.of(op)
        found.extend((op, weight) for weight in taken[3:4])
    return found


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


_MODEL = """\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    model.train()
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    model.eval()
"""

DIAGNOSES = (
    Diagnosis(
        code="trained-in-evaluation",
        title="a model is trained in evaluation mode",
        severity="warning",
        explanation=Explanation(
            meaning="""eval() was called on a model with dropout or batch norms, no train() followed, and an optimizer
                went on to step its parameters; or an evaluation in the middle of training left it so until a later
                train(). It is a note where the model has batch norms only and was in that mode
                from the first step on, or was not evaluated in between: that may be meant.""",
            reason="""eval() switches dropout off and lets batch norms use their running statistics without updating
                them. It has nothing to do with gradients: backward and steps go on, on another function.""",
            remedy="""Call model.train() where an epoch begins, not once before the loop, and again after an evaluation
                in the middle of it.""",
        ),
        example=Example(
            shows=_MODEL.replace("    model.train()\n", "    model.zero_grad()\n"),
            instead_of="model.zero_grad()",
            silent="model.train()",
        ),
        find=_find_evaluating,
    ),
    Diagnosis(
        code="frozen-norm-learns",
        title="the batch norm of a frozen part learns statistics again",
        severity="warning",
        explanation=Explanation(
            meaning="""A part of a model does not require grad and was set to evaluation mode. A later train() on the
                whole model put it back into training mode, and its batch norms updated their running statistics. Or
                its batch norms were frozen for good, and nothing called eval() on them: they went on so while other
                parts were trained.""",
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
    ),
)
