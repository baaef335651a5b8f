"""Gradients that carry the loss scale in part: what lacks it is added, or more is added after they were divided."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import called_beside
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.mixed_scales import (
    AddedAfterDivision,
    MixedScales,
    Unscaled,
    added_after_division,
    mixed_scales,
    unscaled_steps,
)
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.backwards_called import backwards_called
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that adds what lacks the scale."""
    index, found = sources.index, dict[int, list[MixedScales]]()
    for one in mixed_scales(index, sources.events, sources.flow, sources.lives):
        found.setdefault(index.op_statement[one.added], []).append(one)
    for mixed in found.values():
        first, leaves = mixed[0], [one.leaf for one in mixed if one.step is mixed[0].step]
        names = sources.listed([sources.names.at(leaf, first.added) for leaf in leaves])
        is_pass = index.recording.ops.column("kind")[first.added] == OpKind.BACKWARD
        called = called_beside(sources, "used", first.added, first.scaled)
        calls = [] if called is None else [called[1]]
        by = f", called at line {calls[0].line}" if calls else ""
        yield sources.finding(
            f"Line {index.op_line(first.added)}{by}: "
            + (
                f"backward from a loss that was not scaled adds to gradients of {names} that are"
                if is_pass
                else f"a term is added to gradients of {names} that are still"
            )
            + " multiplied by the loss scale",
            why="scaler.step divides both by the scale, and what was added counts next to nothing",
            op=first.added,
            tensors=leaves,
            causes=[*calls, *sources.cause("backward" if is_pass else "write", first.added)],
            evidence=[Evidence("ops", first.scaled), Evidence("events", first.step.row)],
            advice="Scale this loss, too: scaler.scale(loss).backward()."
            if is_pass
            else "Call scaler.unscale_(optimizer) before it.",
        )


def _find_unscaled(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that calls backward without the scale."""
    index, found = sources.index, dict[int, list[Unscaled]]()
    for one in unscaled_steps(index, sources.events, sources.flow, sources.lives):
        found.setdefault(index.op_statement[one.passed], []).append(one)
    for several in found.values():
        first = several[0]
        leaves = [one.leaf for one in several if one.step is first.step]
        names = sources.listed([sources.names.at(leaf, first.passed) for leaf in leaves])
        causes = _where_called(sources, first.passed)
        line = causes[0].line if causes else index.op_line(first.passed)
        yield sources.finding(
            f"Line {line}: backward runs from a loss that was not scaled",
            why=f"GradScaler divides .grad of {names} by the loss scale all the same, which makes them too small by it",
            op=first.passed,
            tensors=leaves,
            causes=causes,
            evidence=[Evidence("events", first.step.row)],
            advice="Scale this loss, too: scaler.scale(loss).backward().",
        )


def _where_called(sources: Sources, passed: int) -> list[Cause]:
    """The line that calls backward: where a function does it for who calls it, that in the function."""
    index = sources.index
    statement = index.statements[index.op_statement[passed]]
    text = index.recording.files[statement.file].text if statement.file >= 0 else ""
    inside = backwards_called(text, statement.line)
    if len(inside) != 1:
        return sources.cause("backward", passed)
    return [sources.cause_of_line("backward", statement.file, inside[0].line, inside[0].end_line, inside[0].function)]


def _find_divided(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that divides gradients to which passes then add."""
    index, found = sources.index, dict[int, list[AddedAfterDivision]]()
    for one in added_after_division(index, sources.events, sources.flow, sources.lives):
        found.setdefault(index.statement_of_span[one.undone.span] if one.undone.span >= 0 else NONE, []).append(one)
    for divided in (several for statement, several in found.items() if statement >= 0):
        first = divided[0]
        leaves = [one.leaf for one in divided if one.undone is first.undone]
        names = sources.listed([sources.names.at(leaf, first.added) for leaf in leaves])
        yield sources.finding(
            f"Line {index.span_line(first.undone.span)}: scaler.unscale_ divides gradients of {names} by the loss "
            "scale, and backward from a scaled loss then adds to them, before the step",
            why="the step applies sums of gradients of different scales, in which one micro-batch outweighs the others",
            op=first.added,
            tensors=leaves,
            causes=sources.cause_of_event("used", first.undone),
            evidence=[Evidence("events", first.undone.row), Evidence("events", first.step.row)],
            advice="Call unscale_, clip, step and update once, after the last micro-batch of a step.",
        )


DIAGNOSES = (
    Diagnosis(
        code="unscaled-term-added",
        title="what lacks the loss scale is added to gradients that carry it",
        severity="warning",
        explanation=Explanation(
            meaning="""Backward ran from a loss that a GradScaler had scaled. Before the scaler divided the gradients by
                the scale, something was added to them that was not multiplied by it: a term made of the weights or of
                noise, or the gradients of a loss that was not scaled.""",
            reason="""scaler.step() divides all of a gradient by the scale, which is thousands: what was added without
                it is thousands of times too small, and changes nothing.""",
            remedy="""scaler.unscale_(optimizer) after backward and before the term is added; scaler.step() then does
                not divide again. Or add the term to the loss before it is scaled.""",
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
    for p in layer.parameters():
        p.grad.add_(p.detach(), alpha=0.01)
    scaler.step(optimizer)
    scaler.update()
""",
            instead_of="p.grad.add_(p.detach(), alpha=0.01)",
            silent="p.grad.add_(p.detach(), alpha=0.01 * scaler.get_scale())",
        ),
        find=_find,
    ),
    Diagnosis(
        code="loss-not-scaled",
        title="a loss that was not scaled, and a step that a GradScaler makes",
        severity="warning",
        explanation=Explanation(
            meaning="""A GradScaler made a step of an optimizer, and backward had run from a loss that it had not
                scaled. Other losses of the program were scaled.""",
            reason="""scaler.step() divides the gradients by the loss scale, which is thousands, without knowing where
                they come from. What was never multiplied by it is thousands of times too small: with SGD the weights
                stay as they are.""",
            remedy="""Call backward on scaler.scale(loss) for each loss whose optimizer steps by the scaler; or call the
                optimizer's own step().""",
        ),
        example=Example(
            shows="""\
import torch

first, second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (first, second)]
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(3):
    for optimizer in optimizers:
        optimizer.zero_grad()
    scaler.scale(first(torch.ones(2, 4)).sum()).backward()
    second(torch.ones(2, 4)).sum().backward()
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
""",
            instead_of="second(torch.ones(2, 4)).sum().backward()",
            silent="scaler.scale(second(torch.ones(2, 4)).sum()).backward()",
        ),
        find=_find_unscaled,
    ),
    Diagnosis(
        code="unscaled-while-accumulating",
        title="gradients are divided by the loss scale while passes still add to them",
        severity="warning",
        explanation=Explanation(
            meaning="""A GradScaler's unscale_ divided gradients by the loss scale. Backward from a scaled loss then
                added to them, and the scaler's step took the sum: nothing cleared or stepped them in between.""",
            reason="""unscale_ divides what is in .grad, all of it. Called after each micro-batch (with update() after
                it, or it raises), it divides the sum of the earlier ones again each time, by thousands: only the last
                counts. Called after the first alone, what is added later stays multiplied by the scale, and counts
                thousands of times.""",
            remedy="""Backward for each micro-batch; then, once, unscale_, clipping, step and update.""",
        ),
        example=Example(
            shows="""\
import torch

layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(3):
    optimizer.zero_grad()
    for part in range(4):
        scaler.scale(layer(torch.randn(2, 4)).sum() / 4).backward()
        if part == 0:
            scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
""",
            instead_of="if part == 0:",
            silent="if part == 3:",
        ),
        find=_find_divided,
    ),
)
