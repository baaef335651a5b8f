"""train() and eval(): steps that are made in evaluation mode."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.evaluated_with_another import evaluated_with_another
from gradscope.analysis.diagnoses.modules.left_in_evaluation import STEPS, has_no_effect, left_in_evaluation
from gradscope.analysis.diagnoses.modules.training_undone import training_undone
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.mode_runs import mode_runs
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.analysis.report_model import Evidence

_DROPOUT = "dropout"


def _find_evaluating(sources: Sources) -> Iterator[Finding]:
    """Models that an evaluation leaves in its mode, or that are stepped to the end in the mode that eval() set.

    One finding for each call of eval(). None for an optimizer that is made after it, of what was trained before:
    whoever adapts an evaluated model does so in its mode.
    """
    modes = TrainingModes(sources.events)
    if all(call.training for call in modes.calls):
        return
    said: set[int] = set()
    undone = (*evaluated_with_another(sources, modes), *training_undone(sources, modes))
    for finding, spans in (*left_in_evaluation(sources, modes), *undone):
        if said.isdisjoint(spans):
            said |= spans
            yield finding
    lives, found = sources.lives, dict[int, tuple[int, Finding]]()
    optimizers = seen_optimizers(sources.index, sources.events)
    for optimizer in optimizers:
        handed_on = _handed_on(optimizer, optimizers)
        trained = frozenset(tensor for tensor in optimizer.tensors if tensor in lives.steps)
        call = next((one for one in reversed(modes.calls) if trained and one.covers(trained)), None)
        steps = sorted(
            {step for tensor in trained for step in lives.steps[tensor] if step < handed_on.get(tensor, step + 1)}
        )
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
        is_chosen = optimizer.made.op >= since.op and any(step < since.op for step in steps)
        is_meant = is_chosen or _trains_on_frozen(sources, since, trained, inside)
        if len(inside) >= STEPS and not is_meant and not has_no_effect(sources, trained, since.op):
            one = len(inside), _of_model(sources, since, steps, inside, trained)
            found[since.event.span] = max(one, found.get(since.event.span, one), key=lambda each: each[0])
    yield from (finding for _, finding in found.values())


def _trains_on_frozen(sources: Sources, model: ModeCall, trained: frozenset[int], steps: list[int]) -> bool:
    """Whether all of a model but what is trained was frozen: a head on features that are to stay as they are.

    None of the dropouts that do nothing comes behind what is trained.
    """
    index, others = sources.index, model.parameters - trained
    if not others or any(index.requires_grad(one, steps[0]) for one in others):
        return False
    dropouts = (op for op in range(model.op, steps[-1]) if _DROPOUT in index.func(op)) if model.dropouts else ()
    return not any(index.requires_grad(one, op) for op in dropouts for one in index.uses.of(op))


def _handed_on(optimizer: Optimizer, optimizers: list[Optimizer]) -> dict[int, int]:
    """From which op on another optimizer, given a tensor later than this one, may be what steps it."""
    since: dict[int, int] = {}
    later = (one for one in optimizers if one.made.op > optimizer.made.op)
    for group in sorted((group for one in later for group in one.groups), key=lambda group: group.op):
        for tensor in optimizer.tensors.intersection(group.tensors):
            since.setdefault(tensor, group.op)
    return since


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

DIAGNOSIS = Diagnosis(
    code="trained-in-evaluation",
    title="a model is trained in evaluation mode",
    severity="warning",
    explanation=Explanation(
        meaning="""eval() was called on a model with dropout or batch norms, no train() followed, and an optimizer
            went on to step its parameters; or an evaluation in the middle of training left it so until a later
            train(), or a function that evaluates did so between train() and the training pass, or eval() was meant for
            another model (a teacher) that has a part in common with the one that is trained. It is a note where the
            model has batch norms only and was in that mode
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
)
