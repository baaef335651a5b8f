"""Parameters that a function freezes for a computation of its own and does not set back: training goes on without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import OpKind

PASSES = 2
"""Passes of the training that came after from which on it is reported."""
_PASSES = (OpKind.BACKWARD, OpKind.GRAD)


class _Left(NamedTuple):
    """A parameter that a function left frozen."""

    change: int
    """The row of ``changes`` that says so."""
    op: int
    passes: tuple[int, ...]
    """Passes of a line that had given it gradients before, and gave it none."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line froze."""
    index, lives = sources.index, sources.lives
    alike: dict[int, list[tuple[int, _Left]]] = {}
    for tensor in lives.steps:
        if (left := _left(sources, tensor)) is not None:
            alike.setdefault(index.op_statement[left.op], []).append((tensor, left))
    for group in alike.values():
        tensors, last = [tensor for tensor, _ in group], group[0][1]
        names = sources.listed([sources.names.of(tensor) for tensor in tensors])
        function = index.op_place(last.op).function
        yield sources.finding(
            f"Line {index.op_line(last.op)}: {function} switches requires_grad off for {names}, for a gradient of its "
            f"own, and does not set it back; training has given them none since ({len(last.passes):,} passes)",
            op=last.passes[-1],
            tensors=tensors,
            causes=sources.cause("set", last.op),
            evidence=[*(Evidence("changes", left.change) for _, left in group), Evidence("ops", last.op)],
            advice="Set it back at the end, or leave it out: autograd.grad computes for the tensors it is asked about.",
        )


def _left(sources: Sources, tensor: int) -> _Left | None:
    """The change that left a trained parameter frozen, where the function that made it had a gradient to compute."""
    index, lives = sources.index, sources.lives
    rows = index.changed_ops.get(tensor, [])
    if not rows:
        return None
    change = index.recording.changes[rows[-1]]
    function = index.op_place(change.op).function
    trained = [step for step in lives.steps[tensor] if step < change.op]
    if change.after or not change.before or not trained or function in ("<module>", "") or "__init__" in function:
        return None
    if not _computes_for_itself(index, change.op):
        return None
    places = {index.op_statement[op] for op in lives.passes[tensor] if op < change.op}
    after = tuple(
        op
        for op in sources.hooks.pass_ops
        if op > change.op and index.op_statement[op] in places and index.op_place(op).function != function
    )
    return _Left(rows[-1], change.op, after) if len(after) >= PASSES else None


def _computes_for_itself(index: Index, op: int) -> bool:
    """Whether the next pass after an op is one of the same function, and no optimizer steps in that function."""
    ops, where = index.recording.ops, index.statements[index.op_statement[op]]
    kinds, own = ops.column("kind"), (where.file, where.function)
    following = [index.statements[index.op_statement[one]] for one in range(op, index.op_count)]
    is_own = [(one.file, one.function) == own for one in following]
    first = next((at for at in range(len(is_own)) if kinds[op + at] in _PASSES), None)
    steps = any(mine and kinds[op + at] == OpKind.STEP for at, mine in enumerate(is_own))
    return first is not None and is_own[first] and not steps


DIAGNOSIS = Diagnosis(
    code="left-frozen",
    title="parameters that were frozen for a computation and never set back",
    severity="warning",
    explanation=Explanation(
        meaning="""A function switched requires_grad off on parameters that were being trained, computed a gradient of
            its own (a saliency map, an attack, a report), and returned. The training that went on has given them no
            gradient since.""",
        reason="""requires_grad is a property of the tensor, not of the function that sets it: it stays as it was set
            for all who use the parameter. The loss still decreases, by what is not frozen, and no error tells.""",
        remedy="""Set it back when the computation is over (try … finally), or do not change it: autograd.grad(score, x)
            gives the gradient for x alone and leaves .grad of all parameters as they are.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)

def saliency(x):
    body.requires_grad_(False)
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(head(body(x)).sum(), x)
    return slope.abs()

for step in range(6):
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).sum().backward()
    optimizer.step()
    if step == 2:
        saliency(torch.ones(1, 3))
""",
        instead_of="body.requires_grad_(False)",
        silent="body.zero_grad()",
    ),
    find=_find,
)
