"""Leaves that required grad and never received one, one finding for those with the same reason."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.unreached import Unreached
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import GradOutcome


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for (op, _, _, left_out), found in _alike(sources).items():
        tensors, reason = [tensor for tensor, _ in found], found[0][1]
        if index.recording.ops.column("flags")[op] & RAISED:
            continue
        shown = sources.listed([sources.names.at(tensor, op) for tensor in tensors])
        yield sources.finding(
            f"Line {index.op_line(op)}: backward gave {shown} no gradient",
            why=f"{reason.why}, {left_out}" if left_out else reason.why,
            op=op,
            tensors=tensors,
            causes=[
                *sources.causes_at("cut", (at for _, one in found for at in one.changed_at)),
                *sources.cut_causes(one.cut_op for _, one in found),
                *sources.causes_at("returned", (at for _, one in found for at in one.none_at)),
            ],
            severity="note" if reason.unused or left_out else "warning",
        )


def _alike(sources: Sources) -> dict[tuple[int, str, bool, str], list[tuple[int, Unreached]]]:
    """Leaves that no pass gave a gradient, by the last pass of a place, the reason, and what says that it is meant.

    A cut that a sentence about ``.grad`` names already is not named again.
    """
    received = {
        tensor
        for group in sources.gradients.groups
        for tensor, entry in group.tensors.items()
        if entry.received or entry.outcome != GradOutcome.MISSING
    }
    names_received = set(map(sources.names.of, received))
    reported = set(sources.none_reads.last_of) | _meant_by_failed_passes(sources)
    alike: dict[tuple[int, str, bool, str], list[tuple[int, Unreached]]] = {}
    named = _cuts_named(sources)
    unreached = sources.gradients.unreached
    used = {tensor for (_, tensor), reason in unreached.items() if not reason.unused}
    for group in sources.gradients.groups:
        for tensor, entry in group.tensors.items():
            reason = unreached.get((group.statement, tensor))
            if reason is not None and reason.unused and tensor in used:
                continue  # (a pass over something else: another one says why the leaf got none)
            if entry.outcome != GradOutcome.MISSING or tensor in received or tensor in reported:
                continue
            if sources.is_a_librarys_own(tensor):
                continue
            if reason is not None and reason.reached and sources.hooks.may_take_gradients:
                continue
            if reason is not None and not (reason.unused and sources.names.of(tensor) in names_received):
                reported.add(tensor)
                if reason.cut_op < 0 or sources.cuts.line_to_change(reason.cut_op) not in named:
                    left_out = sources.left_out.because(tensor, reason.cut_op)
                    key = (group.last_op, reason.why, reason.unused, left_out)
                    alike.setdefault(key, []).append((tensor, reason))
    return alike


def _cuts_named(sources: Sources) -> set[int]:
    """The cuts that kept a gradient from a tensor whose ``.grad`` was read and None."""
    reads = (read for read in sources.none_reads.last_of.values() if read.kind == "unreached")
    reasons = (
        sources.gradients.unreached.get((sources.index.op_statement[read.because], read.tensor)) for read in reads
    )
    return {
        sources.cuts.line_to_change(reason.cut_op) for reason in reasons if reason is not None and reason.cut_op >= 0
    }


def _meant_by_failed_passes(sources: Sources) -> set[int]:
    """What the roots of passes that raised were made from: it would have got its gradient there."""
    flags = sources.index.recording.ops.column("flags")
    failed = [group.last_op for group in sources.gradients.groups if flags[group.last_op] & RAISED]
    return {
        tensor for op in failed for root in sources.gradients.roots[op] for tensor in sources.flow.origins(root, op)
    }


DIAGNOSIS = Diagnosis(
    code="leaf-unreached",
    title="a leaf that requires grad got no gradient",
    severity="warning",
    explanation=Explanation(
        meaning="""A leaf that requires grad was there when backward passes ran, and none of them gave it a
            gradient. It is a warning where the loss was computed from it. It is a note where the loss was not, as
            far as was seen, and where no_grad or detach keeps out a leaf that no optimizer holds, or, in a program
            without one, a leaf whose values are written from others: a teacher, a target, an average.""",
        reason="""Backward fills .grad of the leaves that the graph behind the loss leads to. A cut on the way
            (detach, .data, no_grad, .item(), a result without a gradient), a layer that forward does not use, or
            a custom Function whose backward returns None keep a leaf out of it.""",
        remedy="""Where a line is named as the cut, compute with the tracked tensor there. Where the leaf is not
            used, use it or take it out of the model. Where it is meant to stay as it is, requires_grad_(False)
            says so and saves memory.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.ones(3, requires_grad=True)
w = torch.ones(3, requires_grad=True)
loss = (x.detach() * w).sum()
loss.backward()
""",
        instead_of="loss = (x.detach() * w).sum()",
        silent="loss = (x * w).sum()",
    ),
    find=_find,
)
