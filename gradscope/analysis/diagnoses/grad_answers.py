"""Answers about ``.grad`` that was read and is None."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Answer
from gradscope.analysis.wording import listed
from gradscope.recording.flags import EXTERNAL, LEAF, RAISED
from gradscope.recording.rows import OpKind


def grad_is_none(sources: Sources) -> Iterator[Answer]:
    """``.grad`` was read and is None: why. One sentence for tensors with the same reason."""
    read = read_none(sources.index)
    alike: dict[tuple[str, int, str], list[int]] = {}
    for tensor, op in read.items():
        code, why = _why_none(sources, op, tensor)
        alike.setdefault((code, sources.index.op_line(op), why), []).append(tensor)
    for (code, line, why), tensors in alike.items():
        op = read[tensors[0]]
        names = list(dict.fromkeys(map(sources.names.of, tensors)))
        subject = f"{names[0]}.grad" if len(names) == 1 else f"{sources.listed(names)}: .grad"
        text = f"{subject} is None at line {line}: {why}."
        yield sources.answer(code, _SEVERITY[code], text, op, tensors[0])


_SEVERITY: dict[str, Literal["problem", "warning", "note"]] = {
    "grad-none-untracked": "warning",
    "grad-none-non-leaf": "problem",
    "grad-none-no-backward": "note",
    "grad-none-cleared": "note",
    "grad-none-unreached": "problem",
}


def read_none(index: Index) -> dict[int, int]:
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
        made = f"; {name} was {sources.made(tensor)}" if not is_leaf or made_by_cut else ""
        return "grad-none-untracked", f"it does not require grad{made}"
    if index.is_cut_view(tensor):
        return (
            "grad-none-untracked",
            f"it was {sources.made(tensor)} under no_grad, and no gradient goes to such a view",
        )
    if not is_leaf:
        why = (
            f"{name} is not a leaf, it was {sources.made(tensor)}. Backward fills .grad of leaves only"
            f"{_leaf_behind(sources, tensor)}. For {name} itself: call {name}.retain_grad() before backward"
            f"{_make_it_a_leaf(sources, tensor)}"
        )
        return "grad-none-non-leaf", why
    if not passes:
        return "grad-none-no-backward", "no backward pass ran before"
    cleared = [at for at in index.cleared_at.get(tensor, ()) if passes[-1] < at < op]
    if cleared:
        return (
            "grad-none-cleared",
            f"line {index.op_line(cleared[-1])} ({index.call_name(cleared[-1])}) had set it to None",
        )
    reason = sources.gradients.unreached.get((index.op_statement[passes[-1]], tensor))
    return "grad-none-unreached", reason.why if reason else f"the backward pass of line {index.op_line(passes[-1])}"


def _was_cut(sources: Sources, op: int) -> bool:
    return op < sources.index.op_count and bool(sources.cuts.is_cut[op])


def _leaf_behind(sources: Sources, tensor: int) -> str:
    """The named leaf that requires grad and from which a tensor was made: its .grad is what was meant."""
    at = sources.index.recording.tensors.column("op")[tensor]
    leaves = [
        sources.names.of(origin)
        for origin in sources.flow.origins(tensor, at)
        if sources.index.is_leaf_with_grad(origin, at) and sources.names.is_named(origin)
    ]
    if sources.names.of(tensor) in leaves:
        return ""  # the name holds another tensor than the leaf by now
    return f": read {listed([f'{leaf}.grad' for leaf in dict.fromkeys(leaves)])} instead" if leaves else ""


def _make_it_a_leaf(sources: Sources, tensor: int) -> str:
    """Where no name holds the leaf (``torch.randn(3, requires_grad=True).double()``), it was meant for one."""
    return "" if _leaf_behind(sources, tensor) else ", or set requires_grad on it last, so that it is a leaf"
