"""Leaves that required grad and never received one, one finding for those with the same reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.errors.messages_of_autograd import explained
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.gradients import PassGroup
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import first_after
from gradscope.analysis.facts.reaching.unreached import Unreached
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.worded_lines import NamedLine, numbers
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import GradOutcome, OpKind

STEPS = 3
"""Steps of an optimizer without any gradient from which on it is a warning that only a copy of its leaves was used."""

_OF_GRADIENTS = re.compile(r"\bgrad(ient)?s?\b", re.IGNORECASE)


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for (op, _, _, left_out), found in _alike(sources).items():
        tensors, reason = [tensor for tensor, _ in found], found[0][1]
        if index.recording.ops.column("flags")[op] & RAISED:
            continue
        met_at = {tensor: sources.gradients.last_met(op, tensor) for tensor in tensors}  # (made anew, in one round)
        shown = sources.listed([sources.names.at(tensor, at) for tensor, at in met_at.items()])
        if reason.unused and (line := _ended_for_want_of(sources, op)):
            yield _that_ended(sources, op, tensors, shown, reason, line)
            continue
        stepped = _stepped_in_vain(sources, tensors) or _copied_anew(sources, tensors) if reason.copied else ""
        causes = [
            *sources.causes_at("cut", (at for _, one in found for at in one.changed_at)),
            *sources.cut_causes(one.cut_op for _, one in found if not one.is_kept),
            *sources.causes_at("returned", (at for _, one in found for at in one.none_at)),
        ]
        yield sources.finding(
            f"{sources.backward_at(op, causes)} gave {shown} no gradient",
            why=", ".join(filter(None, (reason.why, left_out, stepped))),
            op=op,
            tensors=tensors,
            causes=causes,
            severity="note" if left_out or (reason.unused and not stepped) else "warning",
        )


def _ended_for_want_of(sources: Sources, op: int) -> NamedLine:
    """The line that then raised what speaks of gradients, no error of torch's, and ended the program; 0 for none.

    opacus: "Per sample gradient is not initialized. Not updated in backward pass?"
    """
    index, outcome = sources.index, sources.index.recording.info.outcome
    is_last = op == max(sources.gradients.roots)
    if outcome.kind != "exception" or not is_last or not _OF_GRADIENTS.search(outcome.message):
        return NamedLine(0)
    if len(index.recording.errors) or explained(outcome.message):  # (torch's own have diagnoses of theirs)
        return NamedLine(0)
    return index.line(outcome.file, max(outcome.line, 0))


def _that_ended(
    sources: Sources, op: int, tensors: list[int], shown: str, reason: Unreached, line: NamedLine
) -> Finding:
    """What wants a gradient of each leaf raised where some had none."""
    index = sources.index
    outcome, passed = index.recording.info.outcome, index.op_line(op)
    made = dict.fromkeys(index.op_line(index.made_by(tensor)) for tensor in tensors)
    lines = numbers(number for number in made if number)
    return sources.finding(
        f"Line {line} raised {outcome.error_type} about gradients, and backward (line {passed}) gave {shown} none",
        why=f"{reason.why} (made at line {lines})" if lines else reason.why,
        op=op,
        tensors=tensors,
        causes=[cause for tensor in tensors for cause in sources.cause("made", index.made_by(tensor))],
        advice="Use them in forward, or set requires_grad_(False) on them before the optimizer is made.",
        severity="problem",
    )


def _stepped_in_vain(sources: Sources, tensors: list[int]) -> str:
    """What steps did of an optimizer that holds some leaves, and nothing with a gradient; empty where none was made."""
    index, written = sources.index, last_written(sources.index)
    for optimizer in seen_optimizers(index, sources.events):
        had_none = sources.lives.passes.keys().isdisjoint(optimizer.tensors)
        if not had_none or not optimizer.tensors.issuperset(tensors):
            continue
        empty = [
            op
            for op in index.of_kind(OpKind.STEP)
            if op >= optimizer.made.op and index.func(op) == f"{optimizer.name}.step" and not index.uses.of(op)
        ]
        is_written = any(
            written.get(index.storage_at(tensor, index.op_count), NONE) >= optimizer.made.op
            for tensor in optimizer.tensors
        )
        if len(empty) >= STEPS and not is_written:
            steps = f"{index.times(empty):,} steps of the {optimizer.name}"
            return f"and the {steps} that was given it had nothing to apply"
    return ""


def _copied_anew(sources: Sources, tensors: list[int]) -> str:
    """The same where the optimizer had others to step: the leaves were copied for each round, and never trained.

    A layer that is the template of others is copied once; the weights of an average, or of first-order meta-learning,
    are written by hand.
    """
    index, written, flow = sources.index, last_written(sources.index), sources.flow
    for optimizer in seen_optimizers(index, sources.events):
        if not optimizer.tensors.issuperset(tensors) or not sources.lives.passes.keys().isdisjoint(tensors):
            continue
        made = optimizer.made.op
        steps = [op for op in index.of_kind(OpKind.STEP) if op >= made and index.func(op) == f"{optimizer.name}.step"]
        is_written = any(written.get(index.storage_at(tensor, index.op_count), NONE) >= made for tensor in tensors)
        copies = min(sum(op >= made and flow.is_copy(op) for op in index.users.of(tensor)) for tensor in tensors)
        if not is_written and min(len(steps), copies) >= STEPS and any(len(index.uses.of(op)) for op in steps):
            return f"and {index.times(steps):,} steps of the {optimizer.name} that was given it had no gradient of it"
    return ""


def _followed_by_a_step_in_vain(sources: Sources) -> set[int]:
    """The statements of passes that were, the last time, followed by a step that updated nothing they gave gradients.

    The steps of a generator's optimizer, where its loss reaches the discriminator only.
    """
    index = sources.index
    steps = index.of_kind(OpKind.STEP)
    passes = sorted(sources.gradients.roots)
    found = set[int]()
    for group in sources.gradients.groups:
        step, next_pass = first_after(steps, group.last_op), first_after(passes, group.last_op)
        if step >= 0 and not 0 <= next_pass < step:
            given = {tensor for tensor, entry in group.tensors.items() if entry.received}
            if given.isdisjoint(index.uses.of(step)):
                found.add(group.statement)
    return found


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
    received |= _stepped(sources) | _asked_for(sources)
    reported = set(sources.none_reads.last_of) | _meant_by_failed_passes(sources)
    alike: dict[tuple[int, str, bool, str], list[tuple[int, Unreached]]] = {}
    named = _cuts_named(sources)
    unreached = sources.gradients.unreached
    used = {tensor for (_, tensor), reason in unreached.items() if not reason.unused}
    told = {other for tensor in used for other in sources.values_given.in_place_of(tensor)}
    meant, held = _MeantPasses(sources), sources.events.in_optimizers
    in_vain = _followed_by_a_step_in_vain(sources) if unreached else set[int]()
    for group in sources.gradients.groups:
        for tensor, entry in group.tensors.items():
            reason = unreached.get((group.statement, tensor))
            if reason is not None and reason.unused and (tensor in used or tensor in told):
                continue  # (a pass over something else: another one, or the leaf in whose place it is, says why)
            others = (unreached.get((other, tensor)) for other in in_vain if group.statement not in in_vain)
            if any(other is not None and not other.unused for other in others):
                continue  # (a pass for other leaves, which its step updated)
            if entry.outcome != GradOutcome.MISSING or tensor in received or tensor in reported:
                continue
            if reason is not None and reason.cut_op < 0 and sources.left_out.is_kept_by_writes(tensor):
                continue
            if reason is not None and reason.evaluated and tensor not in held:
                continue  # (a member of an ensemble that is only evaluated, beside what is trained)
            if sources.is_a_librarys_own(tensor) or _is_taken_over(sources, tensor, reason, received):
                continue
            if reason is not None and not reason.unused and meant.is_another(group, tensor):
                continue  # (the same: another pass gave gradients to those that are stepped with it)
            if reason is not None and (reason.taken or (reason.reached and sources.hooks.may_take_gradients)):
                continue
            if reason is not None and not (reason.unused and sources.names.of(tensor) in names_received):
                reported.add(tensor)
                if reason.cut_op < 0 or sources.cuts.line_to_change(reason.cut_op) not in named:
                    left_out = sources.left_out.because(tensor, reason.cut_op)
                    if not left_out and not reason.unused:
                        left_out = sources.values_given.because(tensor)
                    key = (group.last_op, reason.why, reason.unused, left_out)
                    alike.setdefault(key, []).append((tensor, reason))
    return alike


def _is_taken_over(sources: Sources, tensor: int, reason: Unreached | None, received: set[int]) -> bool:
    """Whether a call of torch's put another leaf in its place, on its memory, which a pass gave a gradient."""
    index = sources.index
    if reason is None or reason.cut_op < 0 or not index.func(reason.cut_op).startswith("nn.utils."):
        return False
    block = index.storage_at(tensor, index.op_count)
    return any(index.storage_at(other, index.op_count) == block for other in received if other != tensor)


def _stepped(sources: Sources) -> set[int]:
    """Leaves that a step found a gradient of: where no pass gave it, the program did (``leaf.grad = ...``)."""
    index = sources.index
    return {tensor for op in index.of_kind(OpKind.STEP) for tensor in index.uses.of(op)}


def _asked_for(sources: Sources) -> set[int]:
    """Leaves that no optimizer holds and whose gradient ``autograd.grad`` was asked for: that is what they are for."""
    index, held = sources.index, sources.events.in_optimizers
    asked = (set(index.uses.of(op)).difference(index.roots.get(op, ())) for op in index.of_kind(OpKind.GRAD))
    return {tensor for tensors in asked for tensor in tensors if tensor not in held}


class _MeantPasses:
    """The passes that are meant for a leaf: those that give gradients to others of the optimizer that holds it."""

    def __init__(self, sources: Sources) -> None:
        self._groups, self._unreached = sources.gradients.groups, sources.gradients.unreached
        self._holders = {
            tensor: frozenset(event.subject for event in events)
            for tensor, events in sources.events.in_optimizers.items()
        }

    @cached_property
    def _given(self) -> dict[int, frozenset[int]]:
        """By the statement of passes: the optimizers to whose leaves they gave gradients."""
        found: dict[int, frozenset[int]] = {}
        for group in self._groups:
            given = (self._holders.get(leaf, frozenset()) for leaf, entry in group.tensors.items() if entry.received)
            found[group.statement] = frozenset[int]().union(found.get(group.statement, frozenset()), *given)
        return found

    def is_another(self, group: PassGroup, tensor: int) -> bool:
        """Whether a pass is for others, and one that is for the leaf did not reach it either, though it was used."""
        own = self._holders.get(tensor, frozenset[int]())
        if not own or own & self._given[group.statement]:
            return False
        meant = (self._unreached.get((other, tensor)) for other, given in self._given.items() if own & given)
        return any(reason is not None and not reason.unused for reason in meant)


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
            gradient. It is a problem where the program then ended by an error about gradients that torch did not
            raise (opacus wants one of each leaf). It is a warning where the loss was computed from it, or from a copy
            of it alone while the optimizer of the original went on stepping. It is a note where the loss was not, as
            far as was seen, and where no_grad or detach keeps out a leaf that no optimizer holds, or, in a program
            without one, a leaf whose values are written from others: a teacher, a target, an average; and where the
            program itself gives it new values in each round, or puts others in its place, from what is trained: a
            codebook that follows running sums.""",
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
