"""``autograd.grad`` with respect to a view that was made beside the way to the loss."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import BELOW, RAISED, VIEW
from gradscope.recording.rows import Field, OpKind

_MESSAGE = "appears to not have been used in the graph"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each call, about the last run that asked for such a view."""
    index = sources.index
    unused = {op: severity or "problem" for op, _, severity in sources.raised(_MESSAGE)}
    for op, tensor, base in asked_in_vain(sources).values():
        whole, made = sources.names.at(base, op), sources.made_at(tensor)
        gave = "failed" if op in unused else "gave no gradient (None)"
        if made:  # (the call may stand in a helper, which is right)
            symptom = f"Line {made[0].line}: autograd.grad {gave} for the view of {whole} that is made here"
        else:
            symptom = (
                f"Line {index.op_line(op)}: autograd.grad {gave} for {sources.names.at(tensor, op)}, a view of {whole}"
            )
        yield sources.finding(
            symptom,
            why=f"the result was computed from {whole}, not from this view",
            op=op,
            tensors=[tensor, base],
            causes=made,
            evidence=[Evidence("nodes", index.recording.tensors.column("node")[tensor])],
            advice=f"Ask for the gradient of {whole} and take the part of it.",
            severity=unused.get(op),
        )


def asked_in_vain(sources: Sources) -> dict[int, tuple[int, int, int]]:
    """By statement the last call that asked for the gradient of a view beside the way, that view, and its base."""
    index = sources.index
    flags, kinds = (index.recording.ops.column(name) for name in ("flags", "kind"))
    unused = {op for op, *_ in sources.raised(_MESSAGE)}
    roots: dict[int, list[int]] = {}
    for row in index.recording.backwards:
        # (what torch or a library asks, and takes None for, is no question of the program's)
        is_told = row.op in unused or not flags[row.op] & (RAISED | BELOW)
        if kinds[row.op] == OpKind.GRAD and row.node >= 0 and is_told:
            roots.setdefault(row.op, []).append(row.node)
    last: dict[int, tuple[int, int, int]] = {}
    for op, nodes in roots.items():
        candidates = [tensor for tensor in index.uses.of(op)[len(nodes) :] if _is_settled_view(sources, tensor)]
        if not candidates:
            continue
        behind = {node for root in nodes for node in sources.passes.behind(root)}
        for tensor in candidates:
            base = sources.sharing.base_of(tensor)
            if base >= 0 and not _is_among(sources, tensor, behind) and _is_among(sources, base, behind):
                last[index.op_statement[op]] = op, tensor, base
    return last


def _is_settled_view(sources: Sources, tensor: int) -> bool:
    """Whether a tensor is a view with a node of its own that no write in place replaced."""
    tensors = sources.index.recording.tensors
    return (
        bool(tensors.column("flags")[tensor] & VIEW)
        and tensors.column("node")[tensor] >= 0
        and not _moved(sources, tensor)
    )


def _moved(sources: Sources, tensor: int) -> bool:
    changes = sources.index.recording.changes
    if Field.GRAD_FN not in changes.column("field"):
        return False
    columns = zip(changes.column("tensor"), changes.column("field"), strict=True)
    return any(changed == tensor and field == Field.GRAD_FN for changed, field in columns)


def _is_among(sources: Sources, tensor: int, nodes: set[int]) -> bool:
    """Whether some nodes lead to a tensor: to its own node, or to that which accumulates its gradient."""
    recording = sources.index.recording
    node = recording.tensors.column("node")[tensor]
    if node >= 0:
        return node in nodes
    variable = recording.nodes.column("variable")
    return any(variable[one] == tensor for one in nodes)


DIAGNOSIS = Diagnosis(
    code="grad-of-other-view",
    title="autograd.grad was asked for a view that the result was not computed from",
    severity="warning",
    explanation=Explanation(
        meaning="""torch.autograd.grad was asked for the gradient of a view (a row, a slice) of a tensor, and the result
            depends on that tensor, but not by way of this view.""",
        reason="""Each slice, each iteration over a tensor makes a new view with a node of its own. Gradients are those
            of tensors on the way that was walked; another view of the same memory is none of them. With
            allow_unused=True its gradient is None, without it autograd raises.""",
        remedy="""Ask for the gradient of the whole tensor and take its part; or make the views first and compute the
            result from them.""",
    ),
    example=Example(
        shows="""\
import torch

stacked = torch.ones(3, 2, requires_grad=True)
row = stacked[0]
loss = (stacked * 2).sum()
(grad,) = torch.autograd.grad(loss, row, allow_unused=True)
""",
        instead_of="loss = (stacked * 2).sum()",
        silent="loss = (row * 2).sum()",
    ),
    find=_find,
)
