"""Gradients of a scaled loss that are clipped before they are divided by the scale."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.half_precision.scaled_hooks import limited_by_hooks
from gradscope.analysis.diagnoses.optimizers.half_precision.scaled_norms import steps_withheld
from gradscope.analysis.diagnoses.optimizers.half_precision.scaled_steps import steps_with_scaled_derivatives
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import last_before, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, GradOutcome

_CLIPS = ("nn.utils.clip_grad", "Tensor.clamp_", "Tensor.clip_")


def _find(sources: Sources) -> Iterator[Finding]:
    index, events = sources.index, sources.events.of(EventKind.GRAD_SCALER)
    scaled = {tensor: event for event in events if event.detail.get("call") == "scale" for tensor in event.tensors}
    if not scaled:
        return
    passes = {row.op: scaled[row.root] for row in index.recording.backwards if row.root in scaled}
    yield from limited_by_hooks(sources, passes)
    yield from steps_withheld(sources, passes)
    gradients = _gradients_of(index, set(passes))
    steps = [event.op for event in events if event.detail.get("call") == "step"]
    clips = _clips(index, before=max(steps, default=0))
    for clip in {index.op_statement[clip]: clip for clip in clips}.values():
        owners = {gradient: gradients[gradient] for gradient in clips[clip] if gradient in gradients}
        if len(owners) == len(set(clips[clip])) and all(op < clip for op, _ in owners.values()):
            left = _left_scaled(sources, clip, owners, events)
            if left:
                yield _clipped(sources, clip, owners, left, passes)


def _clipped(
    sources: Sources, clip: int, owners: dict[int, tuple[int, int]], left: set[int], passes: dict[int, Happened]
) -> Finding:
    """What is said of a clip of gradients, of which some are left scaled."""
    index = sources.index
    backward = max(op for op, leaf in owners.values() if leaf in left)
    tensors = [leaf for _, leaf in owners.values() if leaf in left]
    is_part = len(left) < len(owners)
    part = f"of which those of {sources.listed([sources.names.at(leaf, clip) for leaf in tensors])} " if is_part else ""
    why = "GradScaler divides them only afterwards, so that the limit is too small by the scale"
    why_part = "their optimizer was not given to unscale_, so that they outweigh the others in what is clipped"
    return sources.finding(
        f"Line {index.op_line(clip)}: {index.func(clip)} clips gradients {part or 'that '}are still multiplied by the "
        "loss scale",
        why=why_part if is_part else why,
        op=clip,
        tensors=tensors,
        causes=sources.cause("write", clip),
        evidence=[Evidence("ops", backward), Evidence("events", passes[backward].row)],
        advice=f"Call scaler.unscale_(optimizer) before it{' for each optimizer' if is_part else ''}.",
    )


def _find_unscaled(sources: Sources) -> Iterator[Finding]:
    """Steps that an optimizer, or the program, made itself with gradients which nothing had divided by the scale."""
    yield from steps_with_scaled_derivatives(sources)
    index, events = sources.index, sources.events.of(EventKind.GRAD_SCALER)
    scaled = {tensor: event for event in events if event.detail.get("call") == "scale" for tensor in event.tensors}
    passes = {row.op: scaled[row.root] for row in index.recording.backwards if row.root in scaled}
    undone = [event for event in events if event.detail.get("call") in ("unscale_", "step")]
    held = (
        {one.made.subject: frozenset(one.tensors) for one in seen_optimizers(index, sources.events)} if passes else {}
    )
    found: dict[int, dict[int, int]] = {}
    steps: dict[int, int] = {}
    for leaf, ops in sources.lives.steps.items() if passes else ():
        for step in ops:
            backward = last_before(sources.lives.passes[leaf], step)
            is_undone = any(
                backward <= event.op <= step
                and (event.detail.get("optimizer", NONE) not in held or leaf in held[event.detail["optimizer"]])
                for event in undone
            )
            if backward in passes and not is_undone and not _is_written_between(sources, leaf, backward, step):
                statement = index.op_statement[step]
                found.setdefault(statement, {})[leaf] = backward
                steps[statement] = step
    for statement, leaves in found.items():
        step, backward = steps[statement], max(leaves.values())
        names = sources.listed([sources.names.at(leaf, step) for leaf in leaves])
        of_it = " for this optimizer" if undone else ""
        yield sources.finding(
            f"Line {index.op_line(step)}: {index.func(step)} applies gradients of {names} that are still multiplied by "
            "the loss scale",
            why=f"the loss was scaled by a GradScaler, and neither its step nor unscale_ was called{of_it}",
            op=step,
            tensors=list(leaves),
            causes=sources.cause("step", step),
            evidence=[Evidence("ops", backward), Evidence("events", passes[backward].row)],
            advice="Call scaler.step(optimizer) in its place.",
        )


def _is_written_between(sources: Sources, leaf: int, backward: int, step: int) -> bool:
    """Whether something wrote a leaf's gradient between the two: it may have divided it by hand."""
    index = sources.index
    gradients = {one for one in sources.lives.given.get(backward, ()) if sources.lives.owners.get(one) == leaf}
    storages = {index.storage_at(one, step) for one in gradients}
    return any(
        backward < op < step and index.storage_at(tensor, op) in storages for op, tensor, *_ in all_writes(index)
    )


def _gradients_of(index: Index, passes: set[int]) -> dict[int, tuple[int, int]]:
    """For each gradient that scaled passes alone gave: the last of them, and whose it is."""
    rows = index.recording.gradients
    columns = (rows.column(name) for name in ("op", "tensor", "grad", "outcome"))
    found: dict[int, tuple[int, int]] = {}
    for op, tensor, gradient, outcome in zip(*columns, strict=True):
        if outcome not in (GradOutcome.CREATED, GradOutcome.ACCUMULATED) or gradient < 0:
            continue
        if op in passes:
            found[gradient] = op, tensor
        else:
            found.pop(gradient, None)
    return found


def _clips(index: Index, before: int) -> dict[int, list[int]]:
    """Calls before an op that limit tensors in place, and those that they wrote; one without a limit logs a norm."""
    found: dict[int, list[int]] = {}
    for op, tensor, _, _ in all_writes(index):
        if op < before and index.func(op).startswith(_CLIPS) and "inf" not in index.op_place(op).source:
            found.setdefault(op, []).append(tensor)
    return found


def _left_scaled(sources: Sources, clip: int, owners: dict[int, tuple[int, int]], events: list[Happened]) -> set[int]:
    """The leaves whose gradients nothing had divided when they were clipped, and their scaler did so afterwards.

    Args:
        sources: What is known.
        clip: The call that limits gradients.
        owners: For each gradient that it wrote, the scaled pass that gave it last, and whose it is.
        events: What scalers did.
    """
    index = sources.index
    held = {one.made.subject: one.tensors for one in seen_optimizers(index, sources.events)}
    left = {leaf for _, leaf in owners.values()}
    for event in events:
        if event.detail.get("call") == "unscale_" and event.op <= clip:
            of = held.get(event.detail.get("optimizer", NONE), left)
            left -= {leaf for op, leaf in owners.values() if op < event.op and leaf in of}
    stepped = {
        leaf
        for event in events
        if event.detail.get("call") == "step" and event.op > clip
        for leaf in held.get(event.detail.get("optimizer", NONE), ())
        if not ops_between(sources.lives.cleared.get(leaf, []), clip, event.op)
    }
    if not stepped.isdisjoint(left) and len(left) < len(owners):
        left &= stepped
    storages = {index.storage_at(gradient, clip) for gradient, (_, leaf) in owners.items() if leaf in left}
    backward = max(op for op, _ in owners.values())
    written = (index.storage_at(tensor, op) for op, tensor, _, _ in all_writes(index) if backward < op < clip)
    return set() if stepped.isdisjoint(left) or not storages.isdisjoint(written) else left


_CLIPPED = Diagnosis(
    code="scaled-gradients-clipped",
    title="gradients were clipped while they were multiplied by the loss scale",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss was scaled by a GradScaler, backward ran from it, and the gradients were clipped (or a hook
            limited them in the pass) before the scaler divided them by the scale, which it did in its step. Or a norm
            of them was compared with a limit before that, and hardly a step was made.""",
        reason="""scaler.step() divides the gradients by the scale itself, right before the optimizer's step. What
            looks at them or limits them earlier sees values thousands of times as large: nearly every gradient is
            clipped, and is divided by the scale after that.""",
        remedy="""Call scaler.unscale_(optimizer) after backward and before clipping; scaler.step() then does not
            divide again.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(3):
    optimizer.zero_grad()
    scaler.scale(layer(torch.ones(2, 4)).sum()).backward()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
        instead_of="torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)",
        silent="scaler.unscale_(optimizer)\ntorch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)",
    ),
    find=_find,
)

_APPLIED = Diagnosis(
    code="scaled-gradients-applied",
    title="a step applies gradients that are still multiplied by the loss scale",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss was scaled by a GradScaler, backward ran from it, and the optimizer made its step itself:
            nothing divided the gradients by the scale. Or autograd.grad gave gradients of a scaled loss, and the
            program made a step of its own with them, or a penalty on their length.""",
        reason="""scaler.step(optimizer) divides the gradients, looks whether they are finite, and calls the optimizer's
            step. optimizer.step() knows nothing of the scale: with SGD each step is thousands of times too large.""",
        remedy="""scaler.step(optimizer) in place of optimizer.step(), and scaler.update() after it. What autograd.grad
            gave is to be divided by scaler.get_scale() before it is used.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(3):
    optimizer.zero_grad()
    scaler.scale(layer(torch.ones(2, 4)).sum()).backward()
    optimizer.step()
    scaler.update(1024.0)
""",
        instead_of="optimizer.step()",
        silent="scaler.step(optimizer)",
    ),
    find=_find_unscaled,
)
DIAGNOSES = (_CLIPPED, _APPLIED)
