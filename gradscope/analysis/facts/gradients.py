"""Which leaves a backward pass reached, which not, and why not."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from gradscope.analysis.facts.memory_use import bytes_of_gradients
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.names.parameters_of_rounds import parameters_of_calls
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.unreached import WALKED_IN_ALL, Reasons, Unreached
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.unsharded_parameters import unsharded_parameters
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import BackwardPass, GradientOutcome, GradientRow
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, NO_STORAGE, PARAMETER, RAISED
from gradscope.recording.rows import EventKind, GradOutcome

if TYPE_CHECKING:
    from gradscope.analysis.facts.derivatives.function_sources import Lines
    from gradscope.analysis.facts.tracking.grad_regions import Region

_OUTCOMES: dict[int, GradientOutcome] = {
    GradOutcome.CREATED: "created",
    GradOutcome.ACCUMULATED: "accumulated",
    GradOutcome.UNTOUCHED: "untouched",
    GradOutcome.MISSING: "missing",
}

_MISSED = (GradOutcome.MISSING, GradOutcome.UNTOUCHED)
_GIVEN = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)
PASSES_TRIED = 8
"""Last passes of one line that are looked at for a tensor that none of them reached: a line may serve many models."""
_TOO_MUCH = f"not looked into, after {WALKED_IN_ALL:,} tensors that were followed for other rows"
PASSES_OF_ANEW = 64
"""The same for parameters of models that are made anew in each round, of which the last ones were looked into."""


@dataclass(eq=False, repr=False)
class PassGroup:
    """Backward passes from one statement."""

    statement: int
    first_op: int
    last_op: int
    ops: list[int] = field(default_factory=list)
    """Every pass."""
    nbytes: int = 0
    tensors: dict[int, TensorGradients] = field(default_factory=dict)
    frozen: list[int] = field(default_factory=list)
    """Parameters that did not require grad in the last pass, though they had before."""


@dataclass(eq=False, repr=False)
class TensorGradients:
    """What the passes of one place did for one tensor."""

    outcome: int
    count: int = 0
    nbytes: int = 0
    received: int = 0
    """Passes that gave it a gradient."""
    last_op: int = NONE
    """The last pass with a row of it."""

    def note_frozen(self, outcome: int, op: int, times: int) -> None:
        """A pass ran, so many times, in which it did not require grad."""
        self.outcome, self.last_op = outcome, op
        self.count += times


class Gradients:
    """Backward passes by place, and what they did for each tensor."""

    def __init__(self, index: Index, names: BestNames, cuts: Cuts, flow: Flow, passes: Passes) -> None:
        self._index = index
        self._names = names
        self._cuts = cuts
        self._flow = flow
        self._reasons = Reasons(index, names, cuts, flow, passes)

    @property
    def roots(self) -> dict[int, list[int]]:
        """The tensors from which each backward pass (an op) started."""
        return self._index.roots

    @cached_property
    def unsharded(self) -> frozenset[int]:
        """Parameters that stand in modules only while these run; see :func:`unsharded_parameters`."""
        return unsharded_parameters(self._index)

    @cached_property
    def groups(self) -> list[PassGroup]:
        """Passes by statement, in the order in which they first ran."""
        groups: dict[int, PassGroup] = {}
        for op in sorted(self.roots):
            statement = self._index.op_statement[op]
            group = groups.setdefault(statement, PassGroup(statement, op, op))
            group.ops.append(op)
            group.last_op = op
        recording = self._index.recording
        flags = recording.tensors.column("flags")
        columns = (recording.gradients.column(name) for name in ("op", "tensor", "outcome"))
        for op, tensor, outcome, nbytes in zip(*columns, bytes_of_gradients(self._index), strict=True):
            found, times = groups.get(self._index.op_statement[op]), self._index.weights[op]
            if found is None or self._index.is_cut_view(tensor):
                continue
            if outcome == GradOutcome.MISSING and self._is_a_librarys_own(tensor):
                continue  # (the unsharded parameters of FSDP, whose gradients it takes on; a constraint's way back)
            if outcome == GradOutcome.MISSING and flags[tensor] & (NO_STORAGE | PARAMETER) == NO_STORAGE:
                continue  # (what torch.func wraps for itself, which a function that it gave holds)
            if tensor in self.unsharded:
                continue  # (the sharded ones are given the gradients)
            if outcome == GradOutcome.MISSING and tensor in self._index.given_by_functions:
                continue  # (it was no leaf, as may be seen later: a Function gave it a grad_fn once it was done)
            if not self._index.requires_grad(tensor, op):
                if op == found.last_op and flags[tensor] & PARAMETER:
                    found.frozen.append(tensor)
                if tensor in found.tensors:  # (it did in earlier passes)
                    found.tensors[tensor].note_frozen(outcome, op, times)
                continue
            entry = found.tensors.setdefault(tensor, TensorGradients(outcome))
            entry.outcome, entry.last_op = outcome, op
            entry.count += times
            entry.nbytes += nbytes * times
            entry.received += times if outcome in _GIVEN else 0
            found.nbytes += nbytes * times
        for group in groups.values():
            self._tell_what_raised(group)
        return list(groups.values())

    def last_met(self, op: int, tensor: int) -> int:
        """The last pass of a statement with a row of a tensor; ``op`` is the last of these passes."""
        found = self._last_passes[op].tensors.get(tensor)
        return op if found is None or found.last_op < 0 else found.last_op

    @cached_property
    def _last_passes(self) -> dict[int, PassGroup]:
        return {group.last_op: group for group in self.groups}

    def _is_a_librarys_own(self, tensor: int) -> bool:
        """Whether no name was seen to hold a tensor, and a library made it or it came from outside."""
        op, flags = (self._index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
        if self._names.is_named(tensor):
            return False
        inner = self._index.recording.ops.column("inner")
        return bool(flags & EXTERNAL) or (op < self._index.op_count and inner[op] >= 0)

    def _tell_what_raised(self, group: PassGroup) -> None:
        """A pass that raised has rows of what it gave: the others are as they were left before it."""
        if not self._index.recording.ops.column("flags")[group.last_op] & RAISED:
            return
        recording, last = self._index.recording, group.last_op
        columns = (recording.gradients.column(name) for name in ("op", "tensor", "outcome"))
        rows = zip(*columns, strict=True)
        there = {tensor: op for op, tensor, outcome in rows if op < last and outcome != GradOutcome.MISSING}
        died = recording.tensors.column("died")
        for tensor, entry in group.tensors.items():
            if entry.last_op < last and tensor in there and not 0 <= died[tensor] <= last:
                is_gone = any(there[tensor] < at < last for at in self._index.cleared_at.get(tensor, ()))
                entry.outcome = GradOutcome.MISSING if is_gone else GradOutcome.UNTOUCHED

    @property
    def leaves_reached(self) -> dict[int, bool]:
        """For each leaf that required grad in a backward pass: whether one gave it a gradient."""
        reached: dict[int, bool] = {}
        for group in self.groups:
            for tensor, entry in self._own(group).items():
                if self._index.is_leaf(tensor):
                    reached[tensor] = reached.get(tensor, False) or self._has_received(group, tensor, entry)
        return reached

    def _has_received(self, group: PassGroup, tensor: int, entry: TensorGradients) -> bool:
        """Whether a tensor got a gradient from passes of a statement, though a hook may have taken it at once."""
        if entry.received:
            return True
        reason = self._taken_inside(group, tensor)
        return reason is not None and not reason.asked

    def _own(self, group: PassGroup) -> dict[int, TensorGradients]:
        """What the passes of a statement did, without the leaves whose gradients others that ran inside them return:
        those are no more a matter of these than what ``autograd.grad`` is asked for elsewhere.
        """
        asked = {
            tensor
            for tensor, entry in group.tensors.items()
            if not entry.received and (reason := self._taken_inside(group, tensor)) is not None and reason.asked
        }
        return {tensor: entry for tensor, entry in group.tensors.items() if tensor not in asked}

    def _taken_inside(self, group: PassGroup, tensor: int) -> Unreached | None:
        """Why a tensor has no gradient of passes, where code that ran inside them is why."""
        if not self._index.events_by_kind.get(EventKind.INSIDE_PASS):
            return None
        reason = self.unreached.get((group.statement, tensor))
        return reason if reason is not None and reason.taken else None

    def passes(self) -> tuple[BackwardPass, ...]:
        """Passes as a report shows them."""
        return tuple(self._describe(group) for group in self.groups)

    def _describe(self, group: PassGroup) -> BackwardPass:
        recording, op, own = self._index.recording, group.last_op, self._own(group)
        rows = [row for row in recording.backwards if row.op == op]
        names = self._told_apart(own)
        gradients = tuple(
            self._gradient(group, tensor, entry, name) for (tensor, entry), name in zip(own.items(), names, strict=True)
        )
        errors = [recording.text(error.message) for error in recording.errors if error.op == op]
        received = [tensor for tensor, entry in own.items() if self._has_received(group, tensor, entry)]
        return BackwardPass(
            place=self._index.place(group.statement),
            op=self._index.func(op),
            executions=self._index.times(group.ops),
            roots=tuple(self._names.at(root, op) for root in self.roots[op]),
            retain_graph=any(row.retain_graph == 1 for row in rows),
            create_graph=any(row.create_graph == 1 for row in rows),
            error=errors[0] if errors else "",
            received=self._index.times_made(received),
            unreached=self._index.times_made(own.keys() - set(received)),
            allocated_bytes=group.nbytes,
            gradients=gradients,
        )

    def _told_apart(self, tensors: dict[int, TensorGradients]) -> list[str]:
        """The names of a group's tensors; of several that the line called the same, one's own name elsewhere, or what
        ``named_parameters()`` calls it.
        """
        names = [self._names.at(tensor, entry.last_op) for tensor, entry in tensors.items()]
        elsewhere = [self._names.of(tensor) for tensor in tensors]
        counts, others = Counter(names), Counter(elsewhere)
        told = [
            other if counts[name] > 1 and others[other] == 1 else name
            for name, other in zip(names, elsewhere, strict=True)
        ]
        if all(count == 1 for count in Counter(told).values()):
            return told
        again, paths = Counter(told), self._names_in_modules
        return [
            paths.get(tensor, (NONE, name))[1] if again[name] > 1 else name
            for tensor, name in zip(tensors, told, strict=True)
        ]

    @cached_property
    def _names_in_modules(self) -> dict[int, tuple[int, str]]:
        from gradscope.analysis.facts.modules.names_in_modules import names_in_modules

        return names_in_modules(self._index)

    def _gradient(self, group: PassGroup, tensor: int, entry: TensorGradients, name: str) -> GradientRow:
        recording = self._index.recording
        row = recording.tensors[tensor]
        reason = self.unreached.get((group.statement, tensor), self._unexplained(group, entry))
        return GradientRow(
            name=name,
            shape=recording.text(recording.layouts[self._index.layout_at(tensor, group.last_op)].shape),
            is_leaf=self._index.is_leaf(tensor),
            is_parameter=bool(row.flags & PARAMETER),
            outcome=_OUTCOMES[entry.outcome],
            executions=entry.count,
            nbytes=entry.nbytes,
            why=reason.why,
            cut_line=self._index.op_line(reason.cut_op) if reason.cut_op >= 0 else 0,
            received=entry.received or int(self._has_received(group, tensor, entry)),
        )

    def _unexplained(self, group: PassGroup, entry: TensorGradients) -> Unreached:
        if entry.outcome not in _MISSED:
            return Unreached("")
        if entry.received and self._index.recording.ops.column("flags")[group.last_op] & RAISED:
            return Unreached("the last pass here raised")
        if entry.received:
            return Unreached(f"in {entry.received:,} of {self._index.times(group.ops):,} passes here, not in the last")
        at, last = bisect_left(group.ops, entry.last_op), len(group.ops)
        if at >= last - PASSES_TRIED:
            return Unreached(_TOO_MUCH)
        tried = PASSES_OF_ANEW if at < last - PASSES_OF_ANEW else PASSES_TRIED
        return Unreached(f"not looked into: only the last {tried} passes of this line are, and it was in earlier ones")

    @cached_property
    def unreached(self) -> dict[tuple[int, int], Unreached]:
        """For each statement with passes and each tensor that they did not reach: why, as far as it was looked into."""
        reasons: dict[tuple[int, int], Unreached] = {}
        for group in self.groups:
            missed = [tensor for tensor, entry in group.tensors.items() if not entry.received]
            self._look_into(group, group.ops[-PASSES_TRIED:], missed, reasons)
        for group, missed in self._missed_anew(reasons):
            self._look_into(group, group.ops[-PASSES_OF_ANEW:-PASSES_TRIED], missed, reasons)
        return reasons

    def _look_into(
        self, group: PassGroup, ops: list[int], missed: list[int], reasons: dict[tuple[int, int], Unreached]
    ) -> None:
        """Find why some passes of a group missed tensors, the last passes first, and put it to the reasons."""
        for op in reversed(ops) if missed else ():
            before = max((other for other in self.roots if other < op), default=NONE)
            rows = self._index.gradients.of(op)
            there = {self._index.recording.gradients.column("tensor")[row] for row in rows}
            looked_at = [tensor for tensor in missed if tensor in there]
            found = self._reasons.of_pass(op, before, self.roots[op], looked_at) if looked_at else {}
            for tensor, reason in found.items():
                known = reasons.get((group.statement, tensor))
                if known is None or (known.unused and not reason.unused):
                    reasons[group.statement, tensor] = reason
            missed = [tensor for tensor in missed if tensor not in found or found[tensor].unused]

    def _missed_anew(self, reasons: dict[tuple[int, int], Unreached]) -> Iterator[tuple[PassGroup, list[int]]]:
        """The tensors that were in earlier passes only and are made anew in each round, as others that have a reason.

        The walks for the others come first: there is an allowance for all of them together.
        """
        call_of = {tensor: call for call, made in enumerate(parameters_of_calls(self._index)) for tensor in made}
        for group in self.groups if call_of else ():
            known = {call_of[one] for one in group.tensors if one in call_of and (group.statement, one) in reasons}
            yield (
                group,
                [
                    tensor
                    for tensor, entry in group.tensors.items()
                    if call_of.get(tensor) in known and not entry.received and (group.statement, tensor) not in reasons
                ],
            )

    def reason_for(self, op: int, tensor: int) -> Unreached | None:
        """Why a pass that asked for the gradient of a tensor found none; None where that was not looked into."""
        before = max((other for other in self.roots if other < op), default=NONE)
        return self._reasons.of_pass(op, before, self.roots.get(op, []), [tensor]).get(tensor)

    def values_left_before(self, op: int) -> tuple[list[int], int] | None:
        """The cuts by which values left torch, and the call that built what a pass started from of such values."""
        before = max((other for other in self.roots if other < op), default=NONE)
        return self._reasons.left_values.between(op, before, self.roots[op])

    @cached_property
    def cuts_on_path(self) -> frozenset[int]:
        """Cuts that kept a gradient from a leaf, or all of it from the root of a pass that could not start."""
        found = {reason.cut_op for reason in self.unreached.values() if reason.cut_op >= 0}
        for op in self.untracked_roots:
            found.update(self.cuts_behind(op))
        return frozenset(found)

    @cached_property
    def untracked_roots(self) -> list[int]:
        """The last pass of each place that raised because its root did not require grad."""
        flags = self._index.recording.ops.column("flags")
        return [
            group.last_op
            for group in self.groups
            if flags[group.last_op] & RAISED
            and self.roots[group.last_op]
            and not any(self._index.requires_grad(root, group.last_op) for root in self.roots[group.last_op])
        ]

    def run_inside(self, op: int) -> list[tuple[Lines, Region]]:
        """The statements of a region meant for others that cut all that is trained off the roots of a pass."""
        return self._reasons.run_inside(op, self.roots[op])

    def cuts_behind(self, op: int) -> list[int]:
        """Cuts among the calls that led to the root of a pass, in the order of the run.

        Those that the most leaves lie behind: other tensors may be meant to be cut off (a target, a mask).
        """
        steps = self._flow.origins_of_all(self.roots[op], op)
        behind: Counter[int] = Counter()
        for leaf in (tensor for tensor in steps if self._index.is_leaf_with_grad(tensor, op)):
            behind.update({step.op for step in self._flow.path(steps, leaf) if step.loses})
        if behind:
            most = max(behind.values())
            return sorted(step for step, leaves in behind.items() if leaves == most)
        ops = {step.op for step in steps.values() if step.op >= 0}
        made_at = self._index.recording.tensors.column("op")
        ops.update(made_at[root] for root in self.roots[op] if made_at[root] < self._index.op_count)
        return sorted(step for step in ops if self._cuts.is_cut[step])
