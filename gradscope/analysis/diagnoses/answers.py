"""Plain sentences that answer what people ask most. Each is derived from recorded rows and names its line."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.applied_again import applied_again
from gradscope.analysis.diagnoses.grad_answers import grad_is_none, read_none
from gradscope.analysis.diagnoses.growth import carried_graphs, kept_alive, never_used
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.diagnoses.unstepped import never_stepped
from gradscope.analysis.diagnoses.used_up_graphs import second_passes
from gradscope.analysis.diagnoses.write_answers import inplace_errors, silently_wrong, written_through_alias
from gradscope.analysis.facts.unreached import Unreached
from gradscope.analysis.report_model import Answer
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import LEAF, RAISED
from gradscope.recording.rows import GradOutcome, OpKind


def find_answers(sources: Sources) -> tuple[Answer, ...]:
    """Every answer that the recording gives, problems first."""
    found = [
        *_backward_without_gradient(sources),
        *second_passes(sources),
        *inplace_errors(sources.writes),
        *silently_wrong(sources.writes),
        *grad_is_none(sources),
        *_gradient_of_the_loss_only(sources),
        *_leaves_not_reached(sources),
        *_frozen(sources),
        *never_stepped(sources),
        *applied_again(sources),
        *carried_graphs(sources.index, sources.names, sources.passes),
        *kept_alive(sources.index, sources.names, sources.passes),
        *never_used(sources.index, sources.passes),
        *written_through_alias(sources.index, sources.names, sources.sharing, sources.writes),
    ]
    order = ("problem", "warning", "note")
    unique = {(answer.code, answer.text): answer for answer in found}
    return tuple(sorted(unique.values(), key=lambda answer: order.index(answer.severity)))


def _backward_without_gradient(sources: Sources) -> Iterator[Answer]:
    """``element 0 of tensors does not require grad``: where the graph was cut."""
    index, names = sources.index, sources.names
    for op in sources.gradients.untracked_roots:
        root = sources.gradients.roots[op][0]
        cuts = sources.gradients.cuts_behind(op)
        text = f"Line {index.op_line(op)}: backward failed, since {names.of(root)} does not require grad. "
        if cuts:
            where = dict.fromkeys(map(sources.cuts.where, cuts))
            text += f"The graph was cut at {listed(list(where))}."
        else:
            text += f"Nothing that it was made from requires grad; it was {sources.made(root)}."
        yield sources.answer("backward-no-grad", "problem", text, cuts[0] if cuts else op, root)


def _gradient_of_the_loss_only(sources: Sources) -> Iterator[Answer]:
    """requires_grad was set on the loss itself: backward runs, and reaches nothing."""
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    for group in sources.gradients.groups:
        op = group.last_op
        for root in sources.gradients.roots[op]:
            others = [tensor for tensor in group.tensors if tensor != root]
            if not flags[root] & LEAF or not others or not index.requires_grad(root, op):
                continue
            text = (
                f"Line {index.op_line(op)}: backward reached nothing but {sources.names.of(root)} itself: "
                f"requires_grad was set on it, which does not bring back the graph behind it"
                f"{_what_is_behind(sources, root, op)}."
            )
            yield sources.answer("backward-reached-nothing", "problem", text, op, root)


def _what_is_behind(sources: Sources, root: int, op: int) -> str:
    index, made = sources.index, sources.index.recording.tensors.column("op")[root]
    cuts = sources.gradients.cuts_behind(op)
    if cuts:
        return f"; the graph was cut at {sources.cuts.where(cuts[0])}"
    left = _values_left_at(sources, made) if made < index.op_count else NONE
    return f"; the values left torch at line {index.op_line(left)} by {index.func(left)}" if left >= 0 else ""


def _values_left_at(sources: Sources, made: int) -> int:
    """The last call before ``made`` in its statement that took values out of torch; NONE where there is none."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    op = made - 1
    while op >= 0 and index.op_statement[op] == index.op_statement[made]:
        if kinds[op] == OpKind.EXPORT:
            return op
        op -= 1
    return NONE


def _leaves_not_reached(sources: Sources) -> Iterator[Answer]:
    """Leaves that required grad and never received one, one sentence for those with the same reason."""
    index = sources.index
    received = {
        tensor
        for group in sources.gradients.groups
        for tensor, entry in group.tensors.items()
        if entry.outcome != GradOutcome.MISSING
    }
    names_received = set(map(sources.names.of, received))
    told = set(read_none(index))
    told |= _meant_by_failed_passes(sources)
    alike: dict[tuple[int, Unreached], list[int]] = {}
    for group in sources.gradients.groups:
        for tensor, entry in group.tensors.items():
            reason = sources.gradients.unreached.get((group.statement, tensor))
            if entry.outcome != GradOutcome.MISSING or tensor in received or tensor in told:
                continue
            if reason is not None and not (reason.unused and sources.names.of(tensor) in names_received):
                told.add(tensor)
                alike.setdefault((group.last_op, reason), []).append(tensor)
    for (op, reason), tensors in alike.items():
        if index.recording.ops.column("flags")[op] & RAISED:
            continue
        shown = sources.listed([sources.names.of(tensor) for tensor in tensors])
        text = f"Line {index.op_line(op)}: backward gave {shown} no gradient: {reason.why}."
        yield sources.answer("leaf-unreached", "note" if reason.unused else "warning", text, op, tensors[0])


def _meant_by_failed_passes(sources: Sources) -> set[int]:
    """What the roots of passes that raised were made from: it would have got its gradient there."""
    flags = sources.index.recording.ops.column("flags")
    failed = [group.last_op for group in sources.gradients.groups if flags[group.last_op] & RAISED]
    return {
        tensor for op in failed for root in sources.gradients.roots[op] for tensor in sources.flow.origins(root, op)
    }


def _frozen(sources: Sources) -> Iterator[Answer]:
    """Parameters that were frozen before backward passes; one sentence for passes with the same ones."""
    alike: dict[tuple[int, ...], list[int]] = {}
    for group in sources.gradients.groups:
        if group.frozen:
            alike.setdefault(tuple(group.frozen), []).append(group.last_op)
    for frozen, ops in alike.items():
        lines = sorted({sources.index.op_line(op) for op in ops})
        where = f"Line{'s' * (len(lines) > 1)} {listed([str(line) for line in lines])}"
        names = [sources.names.of(tensor) for tensor in frozen]
        received = "it received no gradient" if len(names) == 1 else "they received no gradient"
        text = f"{where}: {sources.listed(names)} did not require grad in the backward pass, so {received}."
        yield sources.answer("frozen", "note", text, ops[-1], frozen[0])
