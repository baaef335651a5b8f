"""Gradients that are clipped before there are any, or when no step will see them any more."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.copied_gradients import CopiedGradient, CopiedGradients
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.called_by_torch.hook_points import hook_point
from gradscope.frames.names.used_up_iterators import iterated_again
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import GradOutcome

CALLS = 2
"""Calls without an effect from which on it is reported."""
_CLIPS = "nn.utils.clip_grad"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that clips, where no step ever took what a call of it clipped."""
    index = sources.index
    calls: dict[int, list[int]] = {}
    flags = index.recording.ops.column("flags")
    for op in index.calls_of(lambda name: name.startswith(_CLIPS)):
        if not flags[op] & RAISED:
            calls.setdefault(index.op_statement[op], []).append(op)
    if not calls:
        return
    lives = sources.lives
    copied = CopiedGradients(index, lives)
    for ops in calls.values():
        is_measure = "inf" in index.span_source(ops[-1])
        if len(ops) < CALLS or is_measure:
            continue
        if (hook := _taking_hook(sources, ops)) is not None:
            yield _taken_by_hook(sources, ops, hook)
        elif copies := _copied_before(copied, lives, index, ops):
            yield _of_copied(sources, ops, copies)
        elif all(_is_in_vain(index, lives, op) for op in ops):
            yield from _finding(sources, lives, ops)
        elif others := _given_others(sources, lives, ops):
            yield _of_others(sources, ops, others)


def _is_in_vain(index: Index, lives: GradientLives, op: int) -> bool:
    """Whether no gradient was there, or each that was clipped was cleared before anything took it."""
    clipped = [tensor for tensor in index.uses.of(op) if tensor in lives.owners]
    if not clipped:
        return not any(
            last_before(passes, op) > last_before(lives.cleared.get(tensor, []), op)
            for tensor, passes in lives.passes.items()
        )
    for gradient in clipped:
        tensor = lives.owners[gradient]
        if tensor not in lives.passes:
            return False  # (the program sets its gradient itself, and which steps take it is not known here)
        cleared = first_after(lives.cleared.get(tensor, []), op)
        stepped = first_after(lives.steps.get(tensor, []), op)
        until = cleared if cleared >= 0 else index.op_count
        if NONE < stepped < until or any(op < use < until for use in index.users.of(gradient)):
            return False
        if cleared < 0 and first_after(lives.passes[tensor], op) >= 0:
            return False
    return True


def _copied_before(copied: CopiedGradients, lives: GradientLives, index: Index, ops: list[int]) -> list[CopiedGradient]:
    """Where each call clips what was copied before: the copies of the last one; else none."""
    found: list[CopiedGradient] = []
    for op in ops:
        clipped = [one for one in index.uses.of(op) if one in lives.owners]
        copies = [copy for one in clipped if (copy := copied.before(one, op)) is not None]
        if not clipped or len(copies) < len(clipped):
            return []
        found = copies
    return found


def _of_copied(sources: Sources, ops: list[int], copies: list[CopiedGradient]) -> Finding:
    index, last, copy = sources.index, ops[-1], copies[0]
    optimizer, name = index.func(copy.step).removeprefix("optim."), index.func(last).rpartition(".")[2]
    return sources.finding(
        f"Line {index.op_line(last)}: {name} clips gradients that were copied before ({index.times(ops):,} calls)",
        why=f"{optimizer} applies the copies, made at line {index.op_line(copy.copied_at)}, and nothing clips those",
        op=last,
        tensors=[one.other for one in copies],
        causes=sources.cause("used", last),
        evidence=[Evidence("ops", copy.copied_at), Evidence("ops", copy.step)],
        advice="Clip the parameters that the optimizer steps, or clip before the copies are made.",
    )


def _taking_hook(sources: Sources, ops: list[int]) -> RegisteredHook | None:
    """The hook that ran on every parameter of the passes once its gradient was there, where a pass left none of them.

    Each call is then given nothing, whatever parameters it is given.
    """
    index, rows = sources.index, sources.index.recording.gradients
    hooks = [hook for hook in sources.hooks.all if hook.kind == "accumulated" and hook.count("runs")]
    if len(hooks) != 1 or any(len(index.uses.of(op)) for op in ops):
        return None
    hooked = {event.tensors[0]: event.op for event in hooks[0].registered if event.tensors}
    columns = (rows.column(name) for name in ("op", "tensor", "outcome"))
    after = [(tensor, op, outcome) for op, tensor, outcome in zip(*columns, strict=True)]
    is_first = hooked and max(hooked.values()) <= min((op for _, op, _ in after), default=NONE)
    is_taken = all(tensor in hooked and outcome == GradOutcome.MISSING for tensor, _, outcome in after)
    return hooks[0] if is_first and is_taken else None


def _taken_by_hook(sources: Sources, ops: list[int], hook: RegisteredHook) -> Finding:
    index, last, event = sources.index, ops[-1], hook.registered[0]
    return sources.finding(
        f"Line {index.op_line(last)}: {index.func(last).rpartition('.')[2]} found no gradients "
        f"({index.times(ops):,} calls)",
        why=f"{hook.name}, the hook of line {index.span_line(event.span)}, takes each away within backward, as soon as "
        "it is there",
        op=last,
        tensors=event.tensors[:1],
        causes=[*sources.cause("used", last), *sources.cause_of_event("made", event)],
        evidence=[Evidence("events", event.row)],
        advice="Clip in the hook, before it steps; or step after backward.",
    )


def _given_others(sources: Sources, lives: GradientLives, ops: list[int]) -> list[int]:
    """The parameters that had gradients when each call found none, and that the next step changed; else none.

    Not where the call goes through an iterator that an optimizer has used up: see iterator-used-up.
    """
    index, where = sources.index, sources.index.statements[sources.index.op_statement[ops[-1]]]
    if where.file < 0 or any(tensor in lives.owners for op in ops for tensor in index.uses.of(op)):
        return []
    text = index.recording.files[where.file].text
    for optimizer in seen_optimizers(index, sources.events):
        if any(again.line <= where.line <= again.end_line for again in iterated_again(text, optimizer.line)):
            return []
    return [
        tensor
        for tensor, passes in lives.passes.items()
        if all(_is_stepped_next(lives, tensor, passes, op) for op in ops)
    ]


def _is_stepped_next(lives: GradientLives, tensor: int, passes: list[int], op: int) -> bool:
    """Whether a parameter had a gradient at an op, and a step changed it before anything cleared that."""
    cleared, given = lives.cleared.get(tensor, []), last_before(passes, op)
    if given <= last_before(cleared, op):
        return False
    stepped, gone = first_after(lives.steps.get(tensor, []), op), first_after(cleared, op)
    return stepped >= 0 and not op < gone < stepped


def _of_others(sources: Sources, ops: list[int], others: list[int]) -> Finding:
    index, last = sources.index, ops[-1]
    names = sources.listed([sources.names.of(tensor) for tensor in others])
    return sources.finding(
        f"Line {index.op_line(last)}: {index.func(last).rpartition('.')[2]} found no gradients "
        f"({index.times(ops):,} calls)",
        why=f"what it is given has none, and the step after it applies those of {names}, which nothing clipped",
        op=last,
        tensors=others[:1],
        causes=sources.cause("used", last),
        evidence=[Evidence("ops", op) for op in ops[:CALLS]],
        advice="Clip the parameters that the optimizer steps.",
    )


def _finding(sources: Sources, lives: GradientLives, ops: list[int]) -> Iterator[Finding]:
    index, last = sources.index, ops[-1]
    given = [passes for passes in lives.passes.values() if first_after(passes, ops[0]) >= 0]
    stepped = [step for steps in lives.steps.values() if (step := first_after(steps, ops[0])) >= 0]
    if not given or not stepped:
        return
    backward = first_after(given[0], ops[0])
    were_there = any(len(index.uses.of(op)) for op in ops)
    is_after = were_there and _is_after_step(lives, last)
    found = "only gradients that were cleared before a step took them" if were_there else "no gradients"
    found = "only gradients that a step had applied before" if is_after else found
    who, called = _called_from(sources, last, backward)
    yield sources.finding(
        f"Line {index.op_line(last)}: {index.func(last).rpartition('.')[2]} found {found} ({index.times(ops):,} calls)",
        why=f"{who} comes after that step"
        if is_after
        else f"{who} comes before the backward pass whose gradients the step applies",
        op=last,
        tensors=list(lives.passes)[:1],
        causes=[*sources.cause("used", last), *called],
        evidence=[Evidence("ops", backward)],
        advice="Clip after backward and before the step.",
    )


def _is_after_step(lives: GradientLives, op: int) -> bool:
    """Whether the gradients that a call found had been applied by a step, of every parameter that had one."""
    last = [
        (last_before(passes, op), last_before(lives.steps.get(leaf, []), op)) for leaf, passes in lives.passes.items()
    ]
    return any(given >= 0 for given, _ in last) and all(stepped > given for given, stepped in last if given >= 0)


def _called_from(sources: Sources, clip: int, backward: int) -> tuple[str, list[Cause]]:
    """What comes too early, in words, and the lines of that: of a callback the ``def``, and the call of a function."""
    index = sources.index
    here, there = index.op_place(clip), index.op_place(backward)
    file = index.statements[index.op_statement[clip]].file
    point = hook_point(index.recording.files[file].text, index.op_line(clip)) if file >= 0 else None
    if point is None or (here.file, here.function) == (there.file, there.function):
        return "it", []
    causes = [sources.cause_of_line("used", file, point.line, point.line, here.function)] * point.is_interface
    who = f"{point.name} (line {index.line(file, point.line)})" if point.is_interface else point.name
    if point.call is not None:
        causes.append(sources.cause_of_line("used", file, *point.call, ""))
        who = f"{who}, called at line {index.line(file, point.call[0])},"
    return (who, causes) if causes else ("it", [])


DIAGNOSIS = Diagnosis(
    code="clipped-in-vain",
    title="gradients were clipped when there were none to clip",
    severity="warning",
    explanation=Explanation(
        meaning="""Each call of clip_grad_norm_ or clip_grad_value_ at a line found no gradients, or gradients that were
            cleared before a step used them, or that had been copied to other parameters before, which the steps
            change. The steps applied gradients that nothing had clipped. Or a hook that runs once a gradient is there
            takes it away within the backward pass.""",
        reason="""Clipping changes what is in .grad at that moment, of the parameters that it is given. Before backward
            that is nothing, or what is left of the round before; another model's parameters may have none at all.""",
        remedy="""The order is: clear, forward, backward, clip, step; with a GradScaler unscale_ comes before clip. Give
            it the parameters that the optimizer has.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    loss = layer(torch.ones(2, 3)).sum()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    loss.backward()
    optimizer.step()
""",
        instead_of="torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)",
        silent="loss.backward(retain_graph=True)\ntorch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)",
    ),
    find=_find,
)
