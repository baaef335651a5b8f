"""Gradients that an optimizer step applies a second time, since nothing cleared them: a forgotten ``zero_grad()``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import merge
from itertools import chain

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.order.left_from_before import left_from_before
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.effects_on_leaves import zeroed_when_accumulated
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before
from gradscope.analysis.facts.program.methods_not_called import methods_not_called
from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.frames.names.given_names import first_statement
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, Field, GradOutcome, OpKind

TIMES = 2
"""Steps with old gradients from which on it is reported."""

_FOLLOWED = 12
"""Tensors that are followed from an update by hand back to a gradient."""

_FRESH, _ADDED, _STEPPED = range(3)
_SCALES = "nn.utils.clip_grad"
"""Functions of torch's that write into a gradient and keep it."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that steps: of which parameters a step applied the gradient, a later pass added to
    it, and the next step applied it whole. Others for those that a round left as they were, and its step applied.
    """
    index = sources.index
    times: dict[int, int] = {}
    stepped: dict[int, tuple[int, int]] = {}
    """For each parameter whose gradient a step has applied: the pass that has added to it since, or NONE; the step."""
    last: dict[int, tuple[int, int, int]] = {}
    for op, tensor, event in merge(_gradients(index), _writes(index, sources.lives)):
        if event == _FRESH:
            stepped.pop(tensor, None)
        elif event == _ADDED:
            if tensor in stepped:
                stepped[tensor] = op, stepped[tensor][1]
        else:
            added, before = stepped.get(tensor, (NONE, NONE))
            if added >= 0:
                times[tensor] = times.get(tensor, 0) + index.weights[op]
                last[tensor] = op, added, before
            stepped[tensor] = NONE, op
    by_statement: dict[int, dict[int, int]] = {}
    emptied = zeroed_when_accumulated(sources.hooks)
    for tensor, count in times.items():
        if count >= TIMES and tensor not in emptied:
            by_statement.setdefault(index.op_statement[last[tensor][0]], {})[tensor] = count
    if by_statement and any(one.statement.method == "zero_grad" for one in methods_not_called(index)):
        return  # (another answer names that line)
    for again in by_statement.values():
        yield _finding(sources, again, *max(last[tensor] for tensor in again))
    yield from left_from_before(sources, {tensor for again in by_statement.values() for tensor in again})


def _finding(sources: Sources, again: dict[int, int], step: int, last_pass: int, before: int) -> Finding:
    """By what clears those of others only, by the closure that clears none, by the update by hand after which another
    kind of step applies them again, or else by backward and the step.
    """
    index = sources.index
    names, line = sources.listed([sources.names.of(tensor) for tensor in again]), index.op_line(last_pass)
    causes = [*sources.cause("backward", last_pass), *sources.cause("step", step)]
    is_assigned = index.recording.ops.column("kind")[step] == OpKind.SET
    applies = "the assignment to .data" if is_assigned else index.func(step).removeprefix("optim.")
    often = f"{applies} applied gradients of earlier steps again"
    often = f"{often} ({max(again.values()):,} times)"
    symptom = f"Line {index.op_line(step)}: {often}"
    why = f"nothing cleared .grad of {names} between a step and the next backward, line {line}"
    advice = "Call zero_grad() once a step: before backward, or after the step."
    if not is_step(index, step):
        advice = "Set .grad to None once a step: before backward, or after the update."
    clears = _clears_others(sources, again, step, last_pass)
    if clears >= 0:
        called = index.call_name(clears).removeprefix("optim.")
        symptom, causes = f"Line {index.op_line(clears)}: {called} does not clear .grad of {names}", []
        causes, why = sources.cause("cleared", clears), f"nothing else does, and {often}"
        if is_step(index, step):
            advice = "Call zero_grad() of the optimizer that makes the step, or of each of the modules."
    elif (begins := _closure_around(sources, step, last_pass)) is not None:
        symptom = f"Line {begins.line}: the closure begins without clearing .grad of {names}"
        causes, why = [begins, *sources.cause("backward", last_pass)], f"nothing else clears it, and {often}"
        advice = "The first thing in a closure is zero_grad()."
    elif is_step(index, step) and not is_step(index, before):
        update = _update(sources, before, last_pass)
        symptom = f"Line {update.line}: this writes into {names} by their gradients, which nothing clears then"
        count = f" ({max(again.values()):,} times)"
        causes, why = [update], f"the backward of line {line} adds to them, and {applies} applied both{count}"
        advice = "Call zero_grad() after it, before the next backward."
    return sources.finding(
        symptom,
        why=why,
        op=step,
        tensors=list(again),
        causes=causes,
        evidence=[Evidence("ops", last_pass)],
        advice=advice,
    )


def _clears_others(sources: Sources, again: dict[int, int], step: int, last_pass: int) -> int:
    """What cleared the gradients of others that the pass gave, once a round, by one call; NONE where nothing did.

    Others of which a step of the same round writes one: what is cleared there is meant to be what is trained. Where the
    update is by hand (an image, a patch), the function around the pass clears those of a model that none trains.
    """
    index, lives = sources.index, sources.lives
    around = index.function_of(last_pass)
    if any(tensor in lives.cleared for tensor in again):
        return NONE
    passes = lives.passes[next(iter(again))]
    since = last_before(passes, last_pass)
    others = {
        tensor: op
        for tensor, ops in lives.cleared.items()
        if since < (op := last_before(ops, step))
        and last_pass in lives.passes.get(tensor, ())
        and (tensor in lives.steps if is_step(index, step) else _is_beside(sources, tensor, op, around))
    }
    ops = set(others.values())
    return ops.pop() if len({index.op_statement[op] for op in ops}) == 1 else NONE


def _is_beside(sources: Sources, tensor: int, cleared: int, function: tuple[int, int]) -> bool:
    """Whether a function cleared the gradient of what no step trains: in vain, where it is not what it updates."""
    return tensor not in sources.lives.steps and sources.index.function_of(cleared) == function


def _closure_around(sources: Sources, step: int, last_pass: int) -> Cause | None:
    """The first statement of the function that an optimizer's step called, and that ran backward."""
    index = sources.index
    begun = [event.op for event in sources.events.of(EventKind.STEP) if event.op <= step]
    if index.recording.ops.column("kind")[step] == OpKind.STEP or not begun or last_pass < max(begun):
        return None  # (a library hands a closure of its own to a step, after the pass)
    statement = index.statements[index.op_statement[last_pass]]
    first = first_statement(index.recording.files[statement.file].text, statement.line)
    if first is None:
        return None
    return sources.cause_of_line("cleared", statement.file, *first, index.op_place(last_pass).function)


def _update(sources: Sources, op: int, next_pass: int) -> Cause:
    """A write by hand: by the one call before the next pass, in the function of that, of the function that makes it."""
    index = sources.index
    inside, outside = (index.statements[index.op_statement[one]] for one in (op, next_pass))
    name, around = (index.recording.text(one.function).rpartition(".")[2] for one in (inside, outside))
    if (inside.file, inside.function) != (outside.file, outside.function) and name.isidentifier():
        around = "" if around == "<module>" else around
        calls = calls_of(index.recording.files[outside.file].text, name)
        there = [one for one in calls if one.function == around and one.line < outside.line]
        if len(there) == 1:
            text = index.recording.text(outside.function)
            return sources.cause_of_line("write", outside.file, there[0].line, there[0].end_line, text)
    return sources.cause("write", op)[0]


def _gradients(index: Index) -> Iterator[tuple[int, int, int]]:
    """What passes did to gradients: op, parameter, event."""
    gradients = index.recording.gradients
    events = {GradOutcome.CREATED: _FRESH, GradOutcome.ACCUMULATED: _ADDED}
    for op, tensor, outcome in zip(*(gradients.column(name) for name in ("op", "tensor", "outcome")), strict=True):
        if outcome in events:
            yield op, tensor, events[GradOutcome(outcome)]


def _writes(index: Index, lives: GradientLives) -> Iterator[tuple[int, int, int]]:
    """Steps that wrote a parameter, and whatever else was done to a gradient: taken for a clearing."""
    recording, owners = index.recording, _owners_of_gradients(index)
    storages, made_at = (recording.tensors.column(name) for name in ("storage", "op"))
    leaves = {storages[leaf]: leaf for leaf in chain.from_iterable(owners.values()) if storages[leaf] >= 0}
    kinds, trained = recording.ops.column("kind"), set(chain.from_iterable(owners.values()))
    columns = (recording.changes.column(name) for name in ("op", "tensor", "field", "after"))
    for op, tensor, field, after in zip(*columns, strict=True):
        if op >= index.op_count:
            continue
        if field == Field.GRAD:
            yield op, tensor, _FRESH
        elif field == Field.WRITTEN and is_step(index, op):
            yield op, tensor, _STEPPED if after else _FRESH  # one that may have been skipped tells nothing
        elif field == Field.STORAGE:
            if kinds[op] == OpKind.SET and tensor in trained and _takes_gradient(index, owners, op, tensor, lives):
                yield op, tensor, _STEPPED
        elif field == Field.VERSION and is_step(index, op) and storages[tensor] not in owners:
            yield op, tensor, _STEPPED
        elif field == Field.VERSION and storages[tensor] in leaves and made_at[tensor] != op:
            leaf = leaves[storages[tensor]]
            if _takes_gradient(index, owners, op, leaf, lives):
                yield op, leaf, _STEPPED
        elif made_at[tensor] == op:
            continue  # a view of a gradient is first seen at the version that it has
        elif field == Field.VERSION and storages[tensor] in owners and not index.func(op).startswith(_SCALES):
            yield from ((op, owner, _FRESH) for owner in owners[storages[tensor]])


def _takes_gradient(index: Index, owners: dict[int, list[int]], op: int, leaf: int, lives: GradientLives) -> bool:
    """Whether a write of the program's into a leaf takes what was computed from its gradient: an update by hand.

    Of the gradient since the last pass: a move that is taken back later takes nothing of what a pass added meanwhile.
    """
    storages, kinds = index.recording.tensors.column("storage"), index.recording.ops.column("kind")
    last_pass = last_before(lives.passes.get(leaf, []), op)
    todo = deque((one, op) for one in index.uses.of(op) if storages[one] != storages[leaf])
    seen = set[int]()
    while todo and len(seen) < _FOLLOWED:
        tensor, user = todo.popleft()
        if tensor in seen:
            continue
        seen.add(tensor)
        if leaf in owners.get(storages[tensor], ()):
            return user > last_pass
        made = index.made_by(tensor)
        if 0 <= made < op and kinds[made] == OpKind.CALL:
            todo.extend((one, made) for one in index.uses.of(made))
    return False


def _owners_of_gradients(index: Index) -> dict[int, list[int]]:
    """The parameters to which the gradients on a memory block belong: several, where they are views of one buffer."""
    gradients, storages = index.recording.gradients, index.recording.tensors.column("storage")
    columns, found = (gradients.column(name) for name in ("tensor", "grad")), dict[int, dict[int, None]]()
    for tensor, grad in zip(*columns, strict=True):
        if grad >= 0 and storages[grad] >= 0:
            found.setdefault(storages[grad], {})[tensor] = None
    return {block: [*owners] for block, owners in found.items()}


DIAGNOSIS = Diagnosis(
    code="gradients-applied-again",
    title="an optimizer step applied gradients of earlier steps again",
    severity="warning",
    explanation=Explanation(
        meaning="""A step applied a gradient, the next backward pass added to it, and the next step applied the
            sum: old gradients count again in every step. Or a round gave new gradients to some parameters of an
            optimizer (a head that is not in use got none), and its step applied those that others had from before.""",
        reason="""Backward adds to .grad, so that the gradients of several losses can be added up. Nothing but the
            program clears it. An optimizer leaves out what has None for .grad, and steps what has a tensor there.""",
        remedy="""Call optimizer.zero_grad() once in each iteration, before backward or after the step. To add up
            over several batches on purpose, step once for the sum and clear after it. Where gradients are handed to
            copies of the parameters, clear those of the copies as well.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(5):
    loss = (w * 2).sum()
    loss.backward()
    optimizer.step()
""",
        instead_of="loss = (w * 2).sum()",
        silent="optimizer.zero_grad()\nloss = (w * 2).sum()",
    ),
    find=_find,
)
