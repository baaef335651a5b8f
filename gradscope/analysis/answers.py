"""Plain sentences that answer what people ask most. Each is derived from recorded rows and names its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gradscope.analysis.cuts import Cuts
from gradscope.analysis.flags import EXTERNAL, LEAF, RAISED, REQUIRES_GRAD
from gradscope.analysis.flow import Flow
from gradscope.analysis.gradients import Gradients
from gradscope.analysis.growth import carried_graphs, kept_alive, never_used
from gradscope.analysis.index import Index
from gradscope.analysis.names import Names
from gradscope.analysis.passes import Passes
from gradscope.analysis.report_model import Answer, InplaceWrite
from gradscope.analysis.unreached import Unreached
from gradscope.analysis.wording import listed
from gradscope.analysis.write_answers import inplace_errors, silently_wrong, written_through_alias
from gradscope.recording import NONE
from gradscope.recording.rows import GradOutcome, OpKind


@dataclass(frozen=True)
class Sources:
    """What the answers are derived from."""

    index: Index
    names: Names
    cuts: Cuts
    flow: Flow
    gradients: Gradients
    passes: Passes
    writes: tuple[InplaceWrite, ...]


def find_answers(sources: Sources) -> tuple[Answer, ...]:
    """Every answer that the recording gives, problems first."""
    found = [
        *_backward_without_gradient(sources),
        *inplace_errors(sources.writes),
        *silently_wrong(sources.writes),
        *_grad_is_none(sources),
        *_gradient_of_the_loss_only(sources),
        *_leaves_not_reached(sources),
        *_frozen(sources),
        *carried_graphs(sources.index, sources.names, sources.passes),
        *kept_alive(sources.index, sources.names, sources.passes),
        *never_used(sources.index, sources.passes),
        *written_through_alias(sources.writes),
    ]
    order = ("problem", "warning", "note")
    unique = {(answer.code, answer.text): answer for answer in found}
    return tuple(sorted(unique.values(), key=lambda answer: order.index(answer.severity)))


def _answer(
    sources: Sources, code: str, severity: Literal["problem", "warning", "note"], text: str, op: int, tensor: int
) -> Answer:
    return Answer(code, severity, text, sources.index.op_place(op), sources.names.of(tensor))


def _made(sources: Sources, tensor: int) -> str:
    """``made at line 3 by Tensor.cuda from x``"""
    index = sources.index
    op = index.recording.tensors.column("op")[tensor]
    if index.recording.tensors.column("flags")[tensor] & EXTERNAL or op >= index.op_count:
        return "which no call that was seen made"
    taken = dict.fromkeys(sources.names.of(use) for use in index.uses.of(op))
    source = f" from {listed(list(taken))}" if taken else ""
    return f"made at line {index.op_line(op)} by {index.call_name(op)}{source}"


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
            text += f"Nothing that it was made from requires grad; it was {_made(sources, root)}."
        yield _answer(sources, "backward-no-grad", "problem", text, cuts[0] if cuts else op, root)


def _grad_is_none(sources: Sources) -> Iterator[Answer]:
    """``.grad`` was read and is None: why. One sentence for tensors with the same reason."""
    read = _read_none(sources.index)
    alike: dict[tuple[str, int, str], list[int]] = {}
    for tensor, op in read.items():
        code, why = _why_none(sources, op, tensor)
        alike.setdefault((code, sources.index.op_line(op), why), []).append(tensor)
    for (code, line, why), tensors in alike.items():
        op = read[tensors[0]]
        names = list(dict.fromkeys(map(sources.names.of, tensors)))
        subject = f"{names[0]}.grad" if len(names) == 1 else f"{listed(names)}: .grad"
        text = f"{subject} is None at line {line}: {why}."
        yield _answer(sources, code, _SEVERITY[code], text, op, tensors[0])


_SEVERITY: dict[str, Literal["problem", "warning", "note"]] = {
    "grad-none-untracked": "warning",
    "grad-none-non-leaf": "problem",
    "grad-none-no-backward": "note",
    "grad-none-unreached": "problem",
}


def _read_none(index: Index) -> dict[int, int]:
    """Tensors whose ``.grad`` was read and None, and the last op that read it."""
    found: dict[int, int] = {}
    for op, kind in enumerate(index.recording.ops.column("kind")):
        if kind != OpKind.READ_GRAD or index.recording.ops.column("flags")[op] & RAISED:
            continue
        taken = index.uses.of(op)
        if not len(taken) or len(index.results.of(op)) or len(index.made.of(op)) > _externals(index, op):
            continue
        found[taken[0]] = op
    return found


def _externals(index: Index, op: int) -> int:
    """Tensors that were first seen as inputs of the op."""
    flags = index.recording.tensors.column("flags")
    return sum(bool(flags[tensor] & EXTERNAL) for tensor in index.made.of(op))


def _why_none(sources: Sources, op: int, tensor: int) -> tuple[str, str]:
    """The code of the answer, and why the ``.grad`` of a tensor is None."""
    index, name = sources.index, sources.names.of(tensor)
    kinds = index.recording.ops.column("kind")
    passes = [at for at in sources.gradients.roots if at < op and kinds[at] == OpKind.BACKWARD]
    is_leaf = bool(index.recording.tensors.column("flags")[tensor] & LEAF)
    if not index.requires_grad(tensor, op):
        made_by_cut = _was_cut(sources, index.recording.tensors.column("op")[tensor])
        made = f"; {name} was {_made(sources, tensor)}" if not is_leaf or made_by_cut else ""
        return "grad-none-untracked", f"it does not require grad{made}"
    if index.is_cut_view(tensor):
        return (
            "grad-none-untracked",
            f"it was {_made(sources, tensor)} under no_grad, and no gradient goes to such a view",
        )
    if not is_leaf:
        why = (
            f"{name} is not a leaf, it was {_made(sources, tensor)}. Backward fills .grad of leaves only"
            f"{_leaf_behind(sources, tensor)}. For {name} itself: call {name}.retain_grad() before backward"
            f"{_make_it_a_leaf(sources, tensor)}"
        )
        return "grad-none-non-leaf", why
    if not passes:
        return "grad-none-no-backward", "no backward pass ran before"
    reason = sources.gradients.unreached.get((index.op_statement[passes[-1]], tensor))
    return "grad-none-unreached", reason.why if reason else f"the backward pass of line {index.op_line(passes[-1])}"


def _was_cut(sources: Sources, op: int) -> bool:
    return op < sources.index.op_count and bool(sources.cuts.is_cut[op])


def _leaf_behind(sources: Sources, tensor: int) -> str:
    """The named leaf that requires grad and from which a tensor was made: its .grad is what was meant."""
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    at = index.recording.tensors.column("op")[tensor]
    wanted = LEAF | REQUIRES_GRAD
    leaves = [
        sources.names.of(origin)
        for origin in sources.flow.origins(tensor, at)
        if flags[origin] & wanted == wanted and sources.names.is_named(origin)
    ]
    return f": read {listed([f'{leaf}.grad' for leaf in dict.fromkeys(leaves)])} instead" if leaves else ""


def _make_it_a_leaf(sources: Sources, tensor: int) -> str:
    """Where no name holds the leaf (``torch.randn(3, requires_grad=True).double()``), it was meant for one."""
    return "" if _leaf_behind(sources, tensor) else ", or set requires_grad on it last, so that it is a leaf"


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
            yield _answer(sources, "backward-reached-nothing", "problem", text, op, root)


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
    told = set(_read_none(index))
    told |= _meant_by_failed_passes(sources)
    alike: dict[tuple[int, Unreached], list[int]] = {}
    for group in sources.gradients.groups:
        for tensor, entry in group.tensors.items():
            reason = sources.gradients.unreached.get((group.statement, tensor))
            if entry.outcome != GradOutcome.MISSING or tensor in received or tensor in told:
                continue
            if reason is not None:
                told.add(tensor)
                alike.setdefault((group.last_op, reason), []).append(tensor)
    for (op, reason), tensors in alike.items():
        if index.recording.ops.column("flags")[op] & RAISED:
            continue
        shown = listed([sources.names.of(tensor) for tensor in tensors])
        text = f"Line {index.op_line(op)}: backward gave {shown} no gradient: {reason.why}."
        yield _answer(sources, "leaf-unreached", "note" if reason.unused else "warning", text, op, tensors[0])


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
        text = f"{where}: {listed(names)} did not require grad in the backward pass, so {received}."
        yield _answer(sources, "frozen", "note", text, ops[-1], frozen[0])
