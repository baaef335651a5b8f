"""Parameters that were frozen or whose gradient was set to zero, and that steps move all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.masked_by_hooks import MaskedByHook, masked_by_hooks
from gradscope.analysis.facts.leaf_gradients.masked_steps import MaskedOnce, masked_once
from gradscope.analysis.facts.memory_writes.decayed_frozen import DecayedFrozen, decayed_frozen
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.calls_of_functions import calls_that_run
from gradscope.recording import NONE
from gradscope.recording.rows import Field, OpKind

STEPS = 2
"""Steps that moved a parameter so from which on it is reported."""
_RESETS = re.compile(r"\.state\b|momentum_buffer|exp_avg")
"""In a program that does something about the state of its optimizer."""
_STEP_HOOKS = "register_step_post_hook"
_WITH_MOMENTUM = frozenset(("Adam", "Adamax", "AdamW", "NAdam", "RAdam"))
"""Optimizers whose steps go on in the direction of those before, by their default settings."""

_KEEPS_DIRECTIONS = "LBFGS"
"""Takes a missing gradient for zeros, and steps along what it has kept of gradients before."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line froze, or whose gradients one line set to zero."""
    lives = sources.lives
    yield from _decayed(sources, lives)
    optimizers = seen_optimizers(sources.index, sources.events)
    if not optimizers or not lives.steps:
        return
    yield from _frozen(sources, lives, optimizers)
    yield from _zeroed(sources, lives, optimizers)
    yield from _masked(sources, lives, optimizers)
    yield from _masked_by_hooks(sources, optimizers)
    yield from _pruned(sources, lives)


def _decayed(sources: Sources, lives: GradientLives) -> Iterator[Finding]:
    """What an optimizer of the program's own decays, though it has no gradient and wants none."""
    index = sources.index
    alike: dict[tuple[int, int], list[DecayedFrozen]] = {}
    for one in decayed_frozen(index, sources.events, lives):
        alike.setdefault((one.optimizer.made.row, index.op_statement[one.op]), []).append(one)
    for group in alike.values():
        last = max(group, key=lambda one: one.op)
        names = sources.listed([sources.names.of(one.leaf) for one in group])
        number = f"({last.by:.6g} the last time)"
        does = f"adds a share {number} of itself to" if last.is_added else f"multiplies by a number {number}"
        yield sources.finding(
            f"Line {index.op_line(last.op)}: the steps of {last.optimizer.name} change {names} without a gradient, "
            f"{'which requires' if len(group) == 1 else 'which require'} no grad",
            why=f"the line {does} whatever the optimizer holds",
            op=last.op,
            tensors=[one.leaf for one in group],
            causes=sources.cause("write", last.op),
            evidence=[Evidence("ops", last.op), Evidence("events", last.optimizer.made.row)],
            advice="Put it behind the test for p.grad, as the rest of the update.",
        )


def _pruned(sources: Sources, lives: GradientLives) -> Iterator[Finding]:
    """Entries that a mask set to zero once, in a training, and that all steps after it change again."""
    index = sources.index
    if any(hook.is_on_tensor for hook in sources.hooks.all):
        return  # (it may mask the gradient)
    if any(file.is_user and _STEP_HOOKS in file.text for file in index.recording.files):
        return
    alike: dict[int, list[MaskedOnce]] = {}
    for one in masked_once(index, lives):
        if one.gradient_masked < 0:
            alike.setdefault(index.op_statement[one.masked], []).append(one)
    for group in alike.values():
        first = group[0]
        called = _called(sources, first.masked)
        cause = called[0] if called else sources.cause("write", first.masked)[0]
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        yield sources.finding(
            f"Line {cause.line}: a mask sets entries of {names} to zero once, and {index.func(first.last)} (line "
            f"{index.op_line(first.last)}) changes them again",
            why=f"nothing takes the mask after that, in {first.after:,} steps",
            op=first.last,
            tensors=[one.tensor for one in group],
            causes=[cause, *sources.cause("step", first.last)],
            evidence=[Evidence("ops", one.masked) for one in group],
            advice="Multiply the weights by the mask after each step.",
        )


def _called(sources: Sources, masked: int) -> list[Cause]:
    """The call of the function that applies the mask, where the text has one alone."""
    index = sources.index
    row = index.statements[index.op_statement[masked]]
    name = index.recording.text(row.function).rpartition(".")[2]
    calls = calls_that_run(index.recording.files[row.file].text, name) if row.file >= 0 and name.isidentifier() else ()
    return [sources.cause_of_line("write", row.file, *calls[0][:2], calls[0].function)] if len(calls) == 1 else []


def _masked(sources: Sources, lives: GradientLives, optimizers: list[Optimizer]) -> Iterator[Finding]:
    """Entries that a mask set to zero, as it does those of the gradient, while momentum from before moves them."""
    index = sources.index
    if any(file.is_user and _RESETS.search(file.text) for file in index.recording.files):
        return
    alike: dict[tuple[int, int], list[tuple[MaskedOnce, Optimizer]]] = {}
    for masked in masked_once(index, lives):
        holders = [(number, one) for number, one in enumerate(optimizers) if masked.tensor in one.tensors]
        if masked.gradient_masked >= 0 and len(holders) == 1 and _has_momentum(holders[0][1], masked.tensor):
            key = holders[0][0], index.op_statement[masked.masked]
            alike.setdefault(key, []).append((masked, holders[0][1]))
    for group in alike.values():
        masked, optimizer = group[0]
        names = sources.listed([sources.names.of(one.tensor) for one, _ in group])
        line = index.op_line(masked.masked)
        yield sources.finding(
            f"Line {line}: a mask sets entries of {names} to zero once, and {index.func(masked.last)} moves them again",
            why=f"their gradients are zero since (line {index.op_line(masked.gradient_masked)}), but the momentum of "
            f"{optimizer.name} (line {optimizer.line}) goes on in the direction of the {masked.before:,} "
            f"step{'s' * (masked.before > 1)} before",
            op=masked.last,
            tensors=[one.tensor for one, _ in group],
            causes=[*sources.cause("write", masked.masked), *sources.cause_of_event("made", optimizer.made)],
            evidence=[Evidence("ops", masked.masked), Evidence("ops", masked.gradient_masked)],
            advice="Mask the momentum in the optimizer's state too, or the weights after each step.",
        )


def _masked_by_hooks(sources: Sources, optimizers: list[Optimizer]) -> Iterator[Finding]:
    """Entries that were set to zero, as a hook does with those of the gradient, while momentum moves them."""
    index = sources.index
    if any(file.is_user and _RESETS.search(file.text) for file in index.recording.files):
        return
    alike: dict[tuple[int, int], list[tuple[MaskedByHook, Optimizer]]] = {}
    for one in masked_by_hooks(index, sources.lives, sources.hooks):
        holders = [held for held in optimizers if one.effect.leaf in held.tensors]
        if len(holders) == 1 and holders[0].made.op < one.written and _has_momentum(holders[0], one.effect.leaf):
            alike.setdefault((holders[0].made.row, index.op_statement[one.written]), []).append((one, holders[0]))
    for group in alike.values():
        first, optimizer = group[0]
        names = sources.listed([sources.names.of(one.effect.leaf) for one, _ in group])
        hook = first.effect.hook
        hooked = sources.cause_of_event("made", hook.registered[0])
        at = f" (line {hooked[0].line})" if hooked else ""
        zeroed, moved = (sum(getattr(one.effect, what) for one, _ in group) for what in ("zeroed", "moved"))
        yield sources.finding(
            f"Line {index.op_line(first.written)}: entries of {names} are zero after this, and {hook.name}, a "
            f"hook{at}, makes their gradient zero, but {index.func(first.last)} (line {index.op_line(first.last)}) "
            "moves them",
            why=f"of {zeroed:,} such entries {moved:,} moved, as the momentum of {optimizer.name} (line "
            f"{optimizer.line}) goes on in the direction of the {first.before:,} steps before",
            op=first.last,
            tensors=[one.effect.leaf for one, _ in group],
            causes=[
                *_called(sources, first.written),
                *sources.cause("write", first.written),
                *sources.cause_of_event("made", optimizer.made),
                *sources.cause("step", first.last),
            ],
            evidence=[Evidence("ops", first.written), Evidence("events", hook.registered[0].row)],
            advice="Make a new optimizer there or mask the momentum in its state, or mask the weights after each step.",
        )


def _has_momentum(optimizer: Optimizer, tensor: int) -> bool:
    return optimizer.name in _WITH_MOMENTUM or optimizer.setting(tensor, "momentum") > 0


def _frozen(sources: Sources, lives: GradientLives, optimizers: list[Optimizer]) -> Iterator[Finding]:
    """Parameters frozen after steps whose ``.grad`` is still there: zeros move them by what is beside the gradient."""
    index = sources.index
    alike: dict[tuple[int, bool, str], list[tuple[int, int, int, int]]] = {}
    directed: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    backward, given = index.of_kind(OpKind.BACKWARD), _given_by_program(index, lives)
    for tensor in lives.steps:
        moved = [
            (since, step)
            for since, until in _frozen_spans(index, tensor)
            if not ops_between(given.get(tensor, []), since, until)
            for step in _stale_steps(lives, backward, tensor, since, until)
        ]
        if len(moved) < STEPS:
            continue
        frozen_at, last = moved[-1]
        zeroed = lives.zeroed_before(tensor, last)
        if zeroed < 0 and last_before(lives.cleared.get(tensor, []), last) > last_before(lives.passes[tensor], last):
            kept = _with_directions(optimizers, tensor, last)
            if kept is not None and kept.made.op < frozen_at:
                directed.setdefault((kept.made.row, index.op_statement[frozen_at]), []).append((tensor, *moved[-1]))
            continue
        movers = _movers(optimizers, tensor) if zeroed >= 0 else "it"
        if movers:
            alike.setdefault((index.op_statement[frozen_at], zeroed >= 0, movers), []).append(
                (tensor, frozen_at, last, zeroed)
            )
    for (_, is_zero, movers), group in alike.items():
        _, frozen_at, last, zeroed = group[0]
        line = index.op_line(frozen_at)
        how = f"a .grad, which line {index.op_line(zeroed)} sets to zero and not to None" if is_zero else "their .grad"
        yield _finding(
            sources,
            last,
            [tensor for tensor, *_ in group],
            f"line {line} froze them and left them {how}, so that the optimizer goes on with {movers}",
            [*sources.cause("set", frozen_at), *(sources.cause("cleared", zeroed) if is_zero else ())],
            [Evidence("ops", frozen_at)],
        )
    for (made, _), held in directed.items():
        _, frozen_at, last = held[0]
        optimizer = next(one for one in optimizers if one.made.row == made)
        yield _finding(
            sources,
            last,
            [tensor for tensor, *_ in held],
            f"line {index.op_line(frozen_at)} froze them, and {optimizer.name} (line {optimizer.line}) goes on in "
            "directions that it keeps from the steps before, whatever has no gradient now",
            [*sources.cause("set", frozen_at), *sources.cause_of_event("made", optimizer.made)],
            [Evidence("ops", frozen_at), Evidence("events", made)],
            "Make a new optimizer there, of what is still trained.",
        )


def _with_directions(optimizers: list[Optimizer], tensor: int, step: int) -> Optimizer | None:
    """The optimizer that a parameter without a gradient was stepped by, where its steps take that for zeros.

    It counts what it adds to a parameter as a change, zeros too: only directions from before make it move.
    """
    holders = [one for one in optimizers if tensor in one.tensors and one.made.op < step]
    newest = max(holders, key=lambda one: one.made.op, default=None)
    return newest if newest is not None and newest.name == _KEEPS_DIRECTIONS else None


def _movers(optimizers: list[Optimizer], tensor: int) -> str:
    """What moves a parameter whose gradient is zero, in words."""
    holders = [one for one in optimizers if tensor in one.tensors]
    momentum = any(_has_momentum(one, tensor) for one in holders)
    decay = any(one.setting(tensor, "weight_decay") for one in holders)
    return " and ".join([*["its momentum"] * momentum, *["its weight decay"] * decay])


def _frozen_spans(index: Index, tensor: int) -> Iterator[tuple[int, int]]:
    """From when to when a parameter was frozen: the op that froze it, and the one that freed it again, or the end."""
    rows = [index.recording.changes[row] for row in index.changed_ops.get(tensor, ())]
    for number, row in enumerate(rows):
        if row.before and not row.after:
            yield row.op, rows[number + 1].op if number + 1 < len(rows) else index.op_count


def _stale_steps(lives: GradientLives, backward: list[int], tensor: int, since: int, until: int) -> Iterator[int]:
    """The steps between two ops that moved a parameter after a pass that gave it nothing.

    A parameter may be frozen for the second of two losses, and step with the gradient that the first one gave it.
    """
    steps = lives.steps[tensor]
    for step in ops_between(steps, since, until):
        before = last_before(steps, step)
        if last_before(lives.passes[tensor], step) < before < last_before(backward, step):
            yield step


def _given_by_program(index: Index, lives: GradientLives) -> dict[int, list[int]]:
    """For each parameter the ops by which the program put a gradient of its own into ``.grad``: it means the steps."""
    changes, found = index.recording.changes, dict[int, set[int]]()
    columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
    for op, owner, field, after in zip(*columns, strict=True):
        if field == Field.GRAD and after >= 0:
            found.setdefault(owner, set()).add(op)
    cleared = {owner: set(ops) for owner, ops in lives.cleared.items()}
    for op, written, _, _ in all_writes(index):
        owner = lives.owners.get(written, NONE)
        if owner >= 0 and op not in cleared.get(owner, ()):
            found.setdefault(owner, set()).add(op)
    return {owner: sorted(ops) for owner, ops in found.items()}


def _zeroed(sources: Sources, lives: GradientLives, optimizers: list[Optimizer]) -> Iterator[Finding]:
    """Gradients that are zero from some step on, of parameters to which momentum has built up before."""
    index = sources.index
    alike: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for number, optimizer in enumerate(optimizers):
        steps = {tensor: lives.steps.get(tensor, []) for tensor in optimizer.tensors}
        for tensor in sorted(optimizer.tensors):
            if not _has_momentum(optimizer, tensor) or optimizer.setting(tensor, "weight_decay"):
                continue
            since = [lives.zeroed_before(tensor, step) for step in steps[tensor]]
            built_up = next((at for at, zeroed in enumerate(since) if zeroed >= 0), 0)
            is_kept_so = built_up > 0 and len(since) - built_up >= STEPS and min(since[built_up:]) > NONE
            others = [one for one in optimizer.tensors if one != tensor and lives.steps.get(one)]
            last = steps[tensor][-1] if steps[tensor] else NONE
            if (
                is_kept_so
                and index.requires_grad(tensor, last)
                and any(lives.zeroed_before(one, last) < 0 for one in others)
            ):
                alike.setdefault((number, index.op_statement[since[-1]]), []).append((tensor, since[-1], last))
    for (number, _), group in alike.items():
        optimizer, (_, zeroed, last) = optimizers[number], group[0]
        yield _finding(
            sources,
            last,
            [tensor for tensor, _, _ in group],
            f"line {index.op_line(zeroed)} sets their gradients to zero, and the momentum of {optimizer.name} (line "
            f"{optimizer.line}) goes on in the direction of the steps before",
            [*sources.cause("cleared", zeroed), *sources.cause_of_event("made", optimizer.made)],
            [Evidence("ops", zeroed), Evidence("events", optimizer.made.row)],
        )


def _finding(
    sources: Sources,
    last: int,
    tensors: list[int],
    why: str,
    causes: list[Cause],
    evidence: list[Evidence],
    advice: str = "Set .grad to None there: a step leaves out what has no gradient.",
) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    return sources.finding(
        f"Line {index.op_line(last)}: {index.func(last)} still changes {names}",
        why=why,
        op=last,
        tensors=tensors,
        causes=causes,
        evidence=evidence,
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="moved-without-gradient",
    title="steps change parameters that were to stay as they are",
    severity="warning",
    explanation=Explanation(
        meaning="""Parameters were frozen during training, or their gradients were set to zero from some step on, and
            the optimizer's steps went on changing them. Or a mask was multiplied into a weight once, and into its
            gradient before each step from then on, also by a hook; or, computed from the weight, into the weight once
            and into nothing after that. Or an optimizer of the program's own decays what it holds, frozen parameters
            too.""",
        reason="""A step takes every parameter whose .grad is not None. Zeros, or what was left there when
            requires_grad was switched off, are a gradient: momentum goes on, and weight decay shrinks.""",
        remedy="""Set .grad to None (zero_grad() does so by default), or make a new optimizer without the frozen
            parameters.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
for step in range(8):
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).sum().backward()
    if step > 3:
        body.weight.grad.zero_()
    optimizer.step()
""",
        instead_of="body.weight.grad.zero_()",
        silent="body.weight.grad = None",
    ),
    find=_find,
)
