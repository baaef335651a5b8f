"""Steps for which nothing called backward: losses are computed in each round, and no gradient ever comes."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.analysis.facts.passes.passes_of_closures import idle_closures
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.report_model import Evidence
from gradscope.frames.without_effect.misspelt_grads import set_in_place_of_grad
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import Field, OpKind

STEPS = 3
"""Steps after a loss each from which on it is reported."""
_TRACKED = (OpKind.CALL, OpKind.GROUP)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer whose steps all found nothing, though a number was computed before each."""
    index = sources.index
    kinds, calls, flags = (index.recording.ops.column(name) for name in ("kind", "calls", "flags"))
    given = set(sources.lives.passes) | _set_by_program(sources)
    asked = index.of_kind(OpKind.BACKWARD, OpKind.GRAD)
    closures = {index.op_statement[one.step] for one in idle_closures(index)}
    for optimizer in seen_optimizers(index, sources.events):
        steps = [op for op in all_steps(index) if index.func(op) in _steps_of(optimizer)]
        # (one with a closure is recorded op by op, and is idle where nothing was asked for gradients)
        is_idle = not any((kinds[op] == OpKind.STEP and calls[op]) or flags[op] & RAISED for op in steps)
        if closures.intersection(index.op_statement[op] for op in steps):
            continue  # (the backward that is left out is one of the closure's)
        if len(steps) < STEPS or not is_idle or not given.isdisjoint(optimizer.tensors):
            continue
        if asked:
            returned = _returned(sources, optimizer, steps)
            if len(returned) >= STEPS and not index.of_kind(OpKind.BACKWARD):
                yield _of_returned(sources, optimizer, steps, returned[-1])
            continue
        losses = [
            loss
            for since, step in zip([optimizer.made.op, *steps], steps, strict=False)
            for loss in _loss(sources, optimizer, since, step)
        ]
        if len(losses) >= STEPS:
            yield _finding(sources, optimizer, steps, losses[-1])


def _steps_of(optimizer: Optimizer) -> tuple[str, str]:
    """How its steps are called, without a closure and with one."""
    return f"{optimizer.name}.step", f"optim.{optimizer.name}.step"


def _set_by_program(sources: Sources) -> set[int]:
    """Tensors whose ``.grad`` was set, by whomever."""
    changes = sources.index.recording.changes
    columns = (changes.column(name) for name in ("tensor", "field", "after"))
    return {tensor for tensor, field, after in zip(*columns, strict=True) if field == Field.GRAD and after >= 0}


def _loss(sources: Sources, optimizer: Optimizer, since: int, step: int) -> list[int]:
    """The last number that was computed between two steps from what the optimizer holds, with a graph."""
    index, layouts = sources.index, sources.index.recording.layouts
    kinds, of = index.recording.ops.column("kind"), index.recording.tensors.column("layout")
    for op in range(step - 1, since, -1):
        for made in index.tensors_made(op) if kinds[op] in _TRACKED else ():
            is_number = index.recording.text(layouts[of[made]].shape) == "()"
            if is_number and index.requires_grad(made, step) and not index.is_leaf(made):
                behind = sources.flow.origins(made, op + 1)
                return [op] if not optimizer.tensors.isdisjoint(behind) else []
    return []


def _returned(sources: Sources, optimizer: Optimizer, steps: list[int]) -> list[int]:
    """The last call before each step that returned gradients of what the optimizer holds, by its memory.

    What torch.func is asked about is wrapped, and has none.
    """
    index = sources.index
    memory = {index.storage_at(tensor, index.op_count) for tensor in optimizer.tensors} | {NONE}
    calls = [
        op
        for op in index.of_kind(OpKind.GRAD)
        if not memory.isdisjoint(index.storage_at(tensor, op) for tensor in index.uses.of(op))
    ]
    last = (last_before(calls, step) for step in steps)
    return list(dict.fromkeys(op for op in last if op >= 0))


def _of_returned(sources: Sources, optimizer: Optimizer, steps: list[int], asked: int) -> Finding:
    index, last = sources.index, steps[-1]
    file = index.statements[index.op_statement[asked]].file
    misspelt = list(set_in_place_of_grad(index.recording.files[file].text)) if file >= 0 else []
    causes = [*sources.cause("step", last), *sources.cause("made", asked)]
    for line, _, function in misspelt:
        causes.insert(0, sources.cause_of_line("set", file, line, line, function))
    where = "".join(f"; line {line} sets .{attribute}, at which no step looks" for line, attribute, _ in misspelt)
    return sources.finding(
        f"Line {index.op_line(last)}: {index.func(last)} changed nothing ({index.times(steps):,} steps)",
        why=f"line {index.op_line(asked)} returns gradients and puts none into .grad, where a step looks for "
        f"them, and nothing calls backward{where}",
        op=last,
        tensors=sorted(optimizer.tensors)[:1],
        causes=causes,
        evidence=[Evidence("ops", asked), Evidence("events", optimizer.made.row)],
        advice="Give each parameter its own: p.grad = g.",
    )


def _finding(sources: Sources, optimizer: Optimizer, steps: list[int], loss: int) -> Finding:
    index, last = sources.index, steps[-1]
    return sources.finding(
        f"Line {index.op_line(last)}: {index.func(last)} changed nothing ({index.times(steps):,} steps)",
        why=f"nothing calls backward on the loss of line {index.op_line(loss)}, so that no parameter gets a gradient",
        op=last,
        tensors=sorted(optimizer.tensors)[:1],
        causes=[*sources.cause("step", last), *sources.cause("made", loss)],
        evidence=[Evidence("ops", loss), Evidence("events", optimizer.made.row)],
        advice="Call backward() on it before the step.",
    )


DIAGNOSIS = Diagnosis(
    code="step-without-backward",
    title="an optimizer steps and nothing calls backward",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss was computed from an optimizer's parameters before each of its steps, backward was never
            called in the whole run, and the steps changed nothing. Or torch.autograd.grad or torch.func.grad returned
            gradients of them before each step, and the program put none into .grad.""",
        reason="""A step applies what is in .grad. Without a backward pass that is None for every parameter, and a step
            passes over those without a word.""",
        remedy="""Call loss.backward() between the loss and the step, or give each parameter its gradient:
            p.grad = g.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    loss = layer(torch.ones(2, 3)).sum()
    optimizer.step()
""",
        instead_of="loss = layer(torch.ones(2, 3)).sum()",
        silent="loss = layer(torch.ones(2, 3)).sum()\nloss.backward()",
    ),
    find=_find,
)
