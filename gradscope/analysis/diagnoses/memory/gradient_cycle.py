"""Leaves that nothing holds any more but their own gradients: ``backward(create_graph=True)`` makes a cycle."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

KEPT = 2
"""Such leaves of one origin from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line of a backward pass."""
    index = sources.index
    kinds = index.recording.ops.column("kind")
    by_line: dict[int, set[int]] = {}
    for op in sorted(index.creating_graphs):
        if kinds[op] == OpKind.BACKWARD:
            by_line.setdefault(index.op_statement[op], set()).add(op)
    for ops in by_line.values():
        kept = _kept(sources, ops)
        made: dict[int, list[int]] = {}
        for tensor in kept:
            made.setdefault(index.op_statement[op] if (op := index.made_by(tensor)) >= 0 else NONE, []).append(tensor)
        origin, tensors = max(made.items(), key=lambda item: len(item[1]), default=(NONE, []))
        rounds = len({kept[tensor] for tensor in tensors})  # the parameters of one model have one last pass
        if origin >= 0 and rounds >= KEPT:
            yield _finding(sources, max(ops), tensors, rounds)


def _kept(sources: Sources, ops: set[int]) -> dict[int, int]:
    """Leaves whose gradient has a graph, which live on without a name at the end: the pass that gave it that.

    A pass that adds to a gradient since, without a graph of its own, does so in place: the graph stays.
    """
    index, died = sources.index, sources.index.recording.tensors.column("died")
    return {
        tensor: given[-1]
        for tensor, passes in sources.lives.passes.items()
        if died[tensor] == NONE
        and (given := [one for one in passes if one in ops])
        and not any(one > given[-1] for one in index.cleared_at.get(tensor, ()))
        and not any(span == NONE for _, _, span in sources.names_held.get(tensor, ()))
    }


def _finding(sources: Sources, op: int, tensors: list[int], rounds: int) -> Finding:
    index = sources.index
    flags = index.recording.tensors.column("flags")
    what = "parameters" if all(flags[tensor] & PARAMETER for tensor in tensors) else "tensors"
    return sources.finding(
        f"Line {index.op_line(op)}: backward(create_graph=True) gives {what} gradients whose graph leads back to "
        f"them: {len(tensors):,} {what} of {rounds:,} rounds are in memory at the end, and no name holds one",
        op=op,
        tensors=[tensors[-1]],
        causes=sources.cause("backward", op),
        evidence=[Evidence("tensors", tensor) for tensor in tensors],
        advice=f"Use torch.autograd.grad(loss, {what}, create_graph=True), which fills no .grad; or set .grad to "
        "None once the second pass is over.",
    )


DIAGNOSIS = Diagnosis(
    code="gradient-cycle",
    title="parameters or inputs that only their own gradients keep in memory",
    severity="warning",
    explanation=Explanation(
        meaning="""backward(create_graph=True) gave parameters, or inputs, gradients that have a graph themselves. The
            models, or the batches, were given up since, and these leaves are still in memory.""",
        reason="""A leaf holds its .grad, the gradient holds its graph, and the graph leads to the leaf. The
            link through the graph is in C++, where Python's garbage collector does not see it.""",
        remedy="""torch.autograd.grad(loss, parameters, create_graph=True) returns the gradients and fills no .grad.
            Where backward() has to be used, set .grad to None as soon as the second pass is over.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

def curvature():
    layer = nn.Linear(3, 1)
    layer(torch.ones(2, 3)).pow(2).sum().backward(create_graph=True)
    total = sum(torch.autograd.grad(layer.weight.grad.sum(), layer.weight)[0].flatten())
    return total.item()

print([curvature() for _ in range(3)])
""",
        instead_of="return total.item()",
        silent="return layer.zero_grad() or total.item()",
    ),
    find=_find,
)
