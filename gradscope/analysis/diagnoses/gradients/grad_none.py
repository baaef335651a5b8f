"""``.grad`` was read and is None: five reasons, each a diagnosis of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from gradscope.analysis.diagnoses.compiled_results import beside_compiled
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.never_tracked import why_untracked
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.none_reads import NoneKind, NoneRead
from gradscope.analysis.facts.reaching.unreached import Unreached
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.values.none_checks import asks_for_none
from gradscope.recording.flags import EXTERNAL, RAISED
from gradscope.recording.rows import OpKind

Reason = tuple[str, list[Cause]]
"""Why it is None, in words, and the lines to change."""


def _find(sources: Sources, kind: NoneKind, reason: Callable[[Sources, NoneRead], Reason]) -> Iterable[Finding]:
    """One finding for tensors that were read at one line and have the same reason."""
    alike: dict[tuple[int, str], list[tuple[NoneRead, list[Cause]]]] = {}
    for read in sources.none_reads.last_of.values():
        if read.kind == kind:
            why, causes = reason(sources, read)
            alike.setdefault((sources.index.op_line(read.op), why), []).append((read, causes))
    return _findings(sources, alike)


def _findings(sources: Sources, alike: dict[tuple[int, str], list[tuple[NoneRead, list[Cause]]]]) -> Iterator[Finding]:
    for (line, why), reads in alike.items():
        tensors = [read.tensor for read, _ in reads]
        names = [sources.names.at(read.tensor, read.op) for read, _ in reads]
        subject = f"{names[0]}.grad" if len(set(names)) == 1 else f"{sources.listed(names)}: .grad"
        yield sources.finding(
            f"{subject} is None at line {line}",
            why=why,
            op=reads[0][0].op,
            tensors=tensors,
            causes=[cause for _, causes in reads for cause in causes],
            evidence=[Evidence("ops", read.because) for read, _ in reads if read.because >= 0],
            severity="note" if _is_expected(sources, reads) else None,
        )


def _is_expected(sources: Sources, reads: list[tuple[NoneRead, list[Cause]]]) -> bool:
    """Whether the statement asks which gradients are None, or passes by those, and nothing is known to have kept them
    from being there.

    A check of what does not require grad, too: that it is frozen is what the program looks at. So it is where all of
    them were frozen by a line of the program and are left out of its training.
    """
    index, read = sources.index, reads[0][0]
    if read.kind == "untracked" and all(_is_kept_out(sources, one) for one, _ in reads):
        return True
    statement = index.statements[index.op_statement[read.op]]
    if statement.file < 0:
        return False
    asks = asks_for_none(index.recording.files[statement.file].text, index.op_line(read.op))
    if asks == "wants" and index.recording.info.outcome.line not in range(statement.line, statement.end_line + 1):
        return True  # (it is asserted, and holds)
    if read.kind == "untracked" and (
        asks in ("checks", "wants") or all(_is_plain_leaf(sources, one.tensor) for one, _ in reads)
    ):
        return bool(asks)
    is_average = all(sources.left_out.is_average(one.tensor) for one, _ in reads)
    is_passed_by = asks == "guards" and all(_is_given_by_others(sources, one) for one, _ in reads)
    return bool(asks) and (is_average or is_passed_by or not any(causes for _, causes in reads))


def _is_given_by_others(sources: Sources, read: NoneRead) -> bool:
    """Whether another pass of the line whose last one gave a leaf nothing gave it a gradient."""
    statement = sources.index.op_statement
    given = sources.lives.passes.get(read.tensor, ())
    return read.kind == "unreached" and any(statement[op] == statement[read.because] for op in given)


def _is_kept_out(sources: Sources, read: NoneRead) -> bool:
    """Whether a leaf was frozen by a line of the program, never had a gradient, and no optimizer was given it.

    One that is trained, or was, may have been frozen by mistake; so may any where no optimizer says what is trained.
    """
    index, tensor = sources.index, read.tensor
    held = sources.events.in_optimizers
    if not held or tensor in held or tensor in sources.lives.passes or not _is_plain_leaf(sources, tensor):
        return False
    changes = [index.recording.changes[row] for row in index.changed_ops.get(tensor, ())]
    return any(one.op < read.op and not one.after for one in changes) and index.op_line(changes[0].op) > 0


def explain(sources: Sources, tensor: int, op: int, symptom: str) -> tuple[str, Finding]:
    """Why the ``.grad`` of a tensor was None, where the program itself did not read it: a code, and the finding.

    Args:
        sources: What was recorded.
        tensor: The tensor.
        op: The number of ops seen before somebody looked.
        symptom: What was seen; a clause.
    """
    read = sources.none_reads.reason(tensor, op)
    if read.kind == "unreached" and (other := _by_no_backward(sources, read)) is not None:
        read, why = other
        causes: list[Cause] = []
    else:
        why, causes = _REASONS[read.kind](sources, read)
    known = next(one for one in DIAGNOSES if one.code == f"grad-none-{read.kind.replace('_', '-')}")
    evidence = [Evidence("ops", read.because)] if read.because >= 0 else []
    found = sources.finding(symptom, why=why, op=op, tensors=[tensor], causes=causes, evidence=evidence)
    seen = tuple(one for one in found.evidence if one != Evidence("ops", op) or op < sources.index.op_count)
    return known.code, found._replace(evidence=seen, severity=known.severity)


def _by_no_backward(sources: Sources, read: NoneRead) -> tuple[NoneRead, str] | None:
    """That no ``backward()`` was about a leaf: only ``autograd.grad`` was called."""
    index = sources.index
    kinds = index.recording.ops.column("kind")
    asked = [op for op in index.users.of(read.tensor) if kinds[op] == OpKind.GRAD and op < read.op]
    reason = sources.gradients.unreached.get((index.op_statement[read.because], read.tensor))
    if asked and (reason is None or (reason.unused and reason.cut_op < 0)):
        line, call = index.op_line(asked[-1]), index.call_name(asked[-1])
        why = f"line {line} ({call}) returned its gradient, which leaves .grad as it is"
        return read._replace(kind="no_backward", because=asked[-1]), why
    return None


def _untracked(sources: Sources, read: NoneRead) -> Reason:
    index, tensor = sources.index, read.tensor
    if index.is_cut_view(tensor) and index.requires_grad(tensor, read.op):
        return (
            f"it was {sources.made(tensor)} under no_grad, and no gradient goes to such a view",
            sources.made_at(tensor),
        )
    if _is_plain_leaf(sources, tensor):
        because, causes = why_untracked(sources, tensor, read.op)
        return f"it does not require grad{': ' * bool(because)}{because}", causes
    name = sources.names.at(tensor, read.op)
    return f"it does not require grad; {name} was {sources.made(tensor)}", sources.made_at(tensor)


def _is_plain_leaf(sources: Sources, tensor: int) -> bool:
    """Whether a tensor that does not require grad is no result of a cut."""
    index = sources.index
    op, flags = (index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
    is_made = (
        op < index.op_count and not flags & EXTERNAL
    )  # (what was first seen when it was frozen was not made there)
    return index.is_leaf(tensor) and not (is_made and sources.cuts.is_cut[op])


def _non_leaf(sources: Sources, read: NoneRead) -> Reason:
    tensor, retained = read.tensor, sources.none_reads.retained_at(read.tensor, read.op)
    name, leaf = sources.names.at(tensor, read.op), _leaf_behind(sources, read)
    not_leaf = f"{name} is not a leaf, it was {sources.made(tensor)}"
    if read.because >= 0 and retained > read.because:
        late, over = sources.index.op_line(retained), _the_pass(sources, read.because)
        why = f"line {late} calls {name}.retain_grad() after {over}, which had dropped its gradient by then"
        return why, sources.cause("used", retained)
    if retained >= 0:
        return f"{not_leaf}, and nothing gave it a gradient after retain_grad()", sources.made_at(tensor)
    if read.because < 0 and not sources.none_reads.is_followed_by_pass(tensor, read.op):
        before = f"{not_leaf}, and no backward pass had run by then"
        return f"{before}. For its gradient: call {name}.retain_grad(), then backward", sources.made_at(tensor)
    # Where no name holds the leaf (``torch.randn(3, requires_grad=True).double()``), it was meant for one.
    or_a_leaf = "" if leaf else ", or set requires_grad on it last, so that it is a leaf"
    why = (
        f"{not_leaf}. Backward fills .grad of leaves only{leaf}. "
        f"For {name} itself: call {name}.retain_grad() before backward{or_a_leaf}"
    )
    return why, sources.made_at(tensor)


def _leaf_behind(sources: Sources, read: NoneRead) -> str:
    """The named leaves to which the graph of a tensor leads, and which the pass that came through gave a gradient.

    One that it was computed from and that was cut off has the gradient of another pass, if any.
    """
    index, op = sources.index, read.op
    at, node = (index.recording.tensors.column(name)[read.tensor] for name in ("op", "node"))
    reached = sources.passes.leaves_behind(node, index.node_after(read.tensor))
    # (where it is not known which pass came through, it was one since the tensor was made)
    through = [read.because] if read.because >= 0 else range(index.made_not_before(read.tensor) + 1, op)
    leaves = [
        name
        for origin in sources.flow.origins(read.tensor, at)
        if origin in reached
        and index.is_leaf_with_grad(origin, at)
        and sources.lives.is_there(origin, op)
        and any(given in through for given in sources.lives.passes[origin])
        and (name := sources.names.held_at(origin, op))
    ]
    return f": read {listed([f'{leaf}.grad' for leaf in dict.fromkeys(leaves)])} instead" if leaves else ""


def _no_backward(sources: Sources, read: NoneRead) -> Reason:
    index = sources.index
    made, kinds = index.made_not_before(read.tensor), index.recording.ops.column("kind")
    if any(kinds[op] == OpKind.BACKWARD and op < made for op in sources.gradients.roots):
        return f"no backward pass ran after line {index.op_line(made)} had made it", []
    asked = [op for op in index.of_kind(OpKind.GRAD) if op < read.op]
    if asked:
        line = index.op_line(asked[-1])
        return f"only autograd.grad ran before (line {line}), which returns gradients and fills no .grad", []
    if not (started := index.recording.info.children):
        return "no backward pass ran before", []
    others = "another" if started == 1 else f"{started:,} others"
    why = f"no backward pass ran before in this process; it starts {others}, and gradients stay in the process that"
    return f"{why} computes them", []


def _the_pass(sources: Sources, op: int) -> str:
    """A backward pass by its line; one that a pool's thread ran has none."""
    line = sources.index.op_line(op)
    return f"the backward pass of line {line}" if line else "the backward pass of another thread"


def _cleared(sources: Sources, read: NoneRead) -> Reason:
    at = read.because
    line, call = sources.index.op_line(at), sources.index.call_name(at)
    return f"line {line} ({call}) had set it to None", sources.cause("cleared", at)


def _not_through(sources: Sources, read: NoneRead, reason: Unreached) -> Reason:
    """That no pass came through what was computed from others: keeping its gradient would keep nothing."""
    name = sources.names.at(read.tensor, read.op)
    is_kept = sources.none_reads.retained_at(read.tensor, read.op) >= 0
    if reason.cut_op >= 0:
        too = "" if is_kept else f", and as {name} is not a leaf, {name}.retain_grad() has to be called as well"
        causes = [*sources.causes_at("cut", reason.changed_at), *_at_the_cut(sources, reason)]
    else:
        too, causes = f". {name} was {sources.made(read.tensor)}", sources.made_at(read.tensor)
    return f"{_the_pass(sources, read.because)} did not come through {name}: {reason.why}{too}", causes


def _at_the_cut(sources: Sources, reason: Unreached) -> list[Cause]:
    return [] if reason.is_kept else sources.cut_causes([reason.cut_op])


def _unreached(sources: Sources, read: NoneRead) -> Reason:
    if read.reason is not None:
        return _not_through(sources, read, read.reason)
    last = read.because
    reason = sources.gradients.unreached.get((sources.index.op_statement[last], read.tensor))
    compiled = beside_compiled(sources, read.tensor, sources.gradients.roots.get(last, [])) if reason is None else None
    if compiled is not None:
        return compiled
    if reason is None and sources.index.recording.ops.column("flags")[last] & RAISED:
        return f"{_the_pass(sources, last)} raised, and gave none", []
    if reason is None:
        return _missed_by_the_last(sources, read)
    before, returned = (
        sources.causes_at("cut", reason.changed_at),
        sources.causes_at("returned", reason.none_at),
    )
    return reason.why, [*before, *_at_the_cut(sources, reason), *returned]


def _missed_by_the_last(sources: Sources, read: NoneRead) -> Reason:
    """Of a leaf to which other passes of the line gave a gradient: one branch of the program only chooses by it.

    What else may keep it from the last pass is not looked for: passes of one line may be for several models in turn.
    So the pass has to be one for its optimizer, as another leaf's gradient shows.
    """
    last, none = read.because, f"{_the_pass(sources, read.because)} gave none"
    held, passes = sources.events.in_optimizers, sources.lives.passes
    holders = {event.subject for event in held.get(read.tensor, ())}
    together = (leaf for leaf, events in held.items() if any(event.subject in holders for event in events))
    if not any(last in passes.get(leaf, ()) for leaf in together):
        return none, []
    reason = sources.gradients.reason_for(last, read.tensor)
    if reason is None or not reason.by_integers:
        return none, []
    return f"{none}, {reason.why}", [*sources.causes_at("cut", reason.changed_at), *_at_the_cut(sources, reason)]


_REASONS: dict[NoneKind, Callable[[Sources, NoneRead], Reason]] = {
    "untracked": _untracked,
    "non_leaf": _non_leaf,
    "no_backward": _no_backward,
    "cleared": _cleared,
    "unreached": _unreached,
}

_LEAVES_ONLY = (
    "Backward accumulates into .grad of leaves: tensors that were not computed from others that require grad. What is "
    "computed on the way gets its gradient too, but it is dropped as soon as it has been used."
)

DIAGNOSES = (
    Diagnosis(
        code="grad-none-untracked",
        title=".grad is None: the tensor does not require grad",
        severity="warning",
        explanation=Explanation(
            meaning=".grad was read of a tensor that autograd does not track, so no backward pass can fill it.",
            reason="""requires_grad is False by default for tensors that a program makes, and for every result of
                detach(), .data, operations under no_grad, and operations whose inputs do not require grad.""",
            remedy="""Set requires_grad=True where the tensor is made (or requires_grad_() on it before it is
                used). If it was cut from another tensor at the named line, read the .grad of that one, or do not
                cut.""",
        ),
        example=Example(
            shows="""\
import torch

w = torch.ones(3, requires_grad=True)
v = w.detach()
(w * v).sum().backward()
print(v.grad)
""",
            instead_of="print(v.grad)",
            silent="print(w.grad)",
        ),
        find=partial(_find, kind="untracked", reason=_untracked),
    ),
    Diagnosis(
        code="grad-none-non-leaf",
        title=".grad is None: the tensor is not a leaf",
        severity="problem",
        explanation=Explanation(
            meaning=""".grad was read of a tensor that was computed from others, often by .cuda(), .to(),
                .double(), .view(), a slice or arithmetic right after requires_grad=True.""",
            reason=_LEAVES_ONLY,
            remedy="""Read .grad of the leaf that the sentence names. If the result itself was meant to be the
                leaf, move or reshape first and set requires_grad_() last. For a tensor on the way: call
                retain_grad() before backward.""",
        ),
        example=Example(
            shows="""\
import torch

x = torch.ones(3, requires_grad=True)
y = x * 2
y.sum().backward()
print(y.grad)
""",
            instead_of="print(y.grad)",
            silent="print(x.grad)",
        ),
        find=partial(_find, kind="non_leaf", reason=_non_leaf),
    ),
    Diagnosis(
        code="grad-none-no-backward",
        title=".grad is None: no backward pass ran before",
        severity="note",
        explanation=Explanation(
            meaning=".grad of a leaf was read before any backward pass.",
            reason="Only backward() fills .grad. autograd.grad() returns gradients and leaves .grad as it is.",
            remedy="Call backward() first, or use what autograd.grad() returned.",
        ),
        example=Example(
            shows="""\
import torch

w = torch.ones(3, requires_grad=True)
loss = (w * 2).sum()
print(w.grad)
""",
            instead_of="print(w.grad)",
            silent="loss.backward()\nprint(w.grad)",
        ),
        find=partial(_find, kind="no_backward", reason=_no_backward),
    ),
    Diagnosis(
        code="grad-none-cleared",
        title=".grad is None: it was cleared after backward",
        severity="note",
        explanation=Explanation(
            meaning=".grad was read after something had set it to None.",
            reason="""zero_grad() sets gradients to None (set_to_none=True is its default), which gives their
                memory back.""",
            remedy="Read .grad between backward() and zero_grad().",
        ),
        example=Example(
            shows="""\
import torch

w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w], lr=0.1)
w.sum().backward()
optimizer.zero_grad()
print(w.grad)
""",
            instead_of="optimizer.zero_grad()",
            silent="optimizer.step()",
        ),
        find=partial(_find, kind="cleared", reason=_cleared),
    ),
    Diagnosis(
        code="grad-none-unreached",
        title=".grad is None: backward did not reach the tensor",
        severity="problem",
        explanation=Explanation(
            meaning="""Of a leaf that requires grad, or of a result (even one whose retain_grad() was called), .grad was
                read after a backward pass that did not reach it.""",
            reason="""Backward goes from the loss along the graph. A tensor that the loss was not computed from, or
                from which the way was cut (detach, .data, no_grad, .item(), a result without a gradient), is not
                on any way. A custom Function may also return None for it.""",
            remedy="Change the line that is named as the cut, or use the tensor in the loss.",
        ),
        example=Example(
            shows="""\
import torch

x = torch.ones(3, requires_grad=True)
w = torch.ones(3, requires_grad=True)
loss = (x.detach() * w).sum()
loss.backward()
print(x.grad)
""",
            instead_of="loss = (x.detach() * w).sum()",
            silent="loss = (x * w).sum()",
        ),
        find=partial(_find, kind="unreached", reason=_unreached),
    ),
)
