"""requires_grad was set on the loss itself: backward runs, and reaches nothing."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.worded_lines import numbers
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    index, made_at = sources.index, sources.index.recording.tensors.column("op")
    hooked = _made_for_hooks(sources)
    for group in sources.gradients.groups:
        op = group.last_op
        for root in sources.gradients.roots[op]:
            others = [tensor for tensor in group.tensors if tensor != root]
            if not index.is_leaf_with_grad(root, op) or not others:
                continue
            if made_at[root] < index.op_count and index.op_statement[made_at[root]] in hooked:
                continue
            cuts = sources.gradients.cuts_behind(op)[:1]
            left = _values_left_at(sources, made_at[root])
            behind = ""
            inside = sources.gradients.run_inside(op) if cuts else []
            cut_causes = sources.cut_causes(cuts or [left])
            if inside:
                lines, region = numbers(statement.line for statement, _ in inside), inside[-1][1]
                cut_causes = [*sources.causes_at("cut", (statement for statement, _ in inside)), *cut_causes]
                behind = f"; the graph was cut at line {lines}, inside the {region.mode} of line {region.line}"
            elif cuts:
                behind = f"; the graph was cut at {sources.cuts.where(cuts[0])}"
            elif left >= 0:
                behind = f"; the values left torch at line {index.op_line(left)} by {index.func(left)}"
            yield sources.finding(
                f"Line {index.op_line(op)}: backward reached nothing but {sources.names.at(root, op)} itself",
                why=f"requires_grad was set on it, which does not bring back the graph behind it{behind}",
                op=op,
                tensors=[root],
                causes=[*cut_causes, *sources.made_at(root)],
            )


def _made_for_hooks(sources: Sources) -> set[int]:
    """The statements that made tensors on which the program registered hooks.

    A hook on a loss goes on from there: gradients that were kept are handed to what gave the values.
    """
    made_at, index = sources.index.recording.tensors.column("op"), sources.index
    hooks = (one for one in sources.hooks.all if one.is_on_tensor)
    ops = (made_at[tensor] for one in hooks for event in one.registered for tensor in event.tensors)
    return {index.op_statement[op] for op in ops if 0 <= op < index.op_count}


def _values_left_at(sources: Sources, made: int) -> int:
    """The last call before ``made`` in its statement that took values out of torch; NONE where there is none."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    op = made - 1 if made < index.op_count else NONE
    while op >= 0 and index.op_statement[op] == index.op_statement[made]:
        if kinds[op] == OpKind.EXPORT:
            return op
        op -= 1
    return NONE


DIAGNOSIS = Diagnosis(
    code="backward-reached-nothing",
    title="requires_grad set on the loss itself",
    severity="problem",
    explanation=Explanation(
        meaning="""A backward pass ran without an error and gave a gradient to nothing but the tensor that it
            started from.""",
        reason="""requires_grad=True on a tensor that autograd did not track makes it a new leaf: a starting
            point, with no way back to what it was computed from. The error "does not require grad" goes away, and
            so does training.""",
        remedy="""Take requires_grad off the loss, and change the line that cut the graph between the parameters
            and it.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
loss = torch.tensor((w * 2).sum().item(), requires_grad=True)
loss.backward()
""",
        instead_of="loss = torch.tensor((w * 2).sum().item(), requires_grad=True)",
        silent="loss = (w * 2).sum()",
    ),
    find=_find,
)
