"""Further facts about a row of the line table, in words."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any

from gradscope.analysis.facts.done_in_passes import DoneInPasses
from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.program.states_after import State
from gradscope.analysis.facts.ranks.collectives import special
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.index import Index
from gradscope.analysis.lines.line_groups import RowGroup
from gradscope.analysis.lines.mode_notes import ModeNotes
from gradscope.analysis.wording import listed
from gradscope.recording.flags import HOOKED, RAISED
from gradscope.recording.rows import Change, EventKind, Field, OpKind

_PASSES = (OpKind.BACKWARD, OpKind.GRAD)
_DONE_INSIDE = 4
"""Places that are told of which did something inside the passes of one row."""
_DID = {
    "wrote": "wrote {} in place",
    "cleared": "set .grad of {} to None",
    "set": "set .grad of {}",
    "asked": "asks for the gradient of {}",
}


class LineNotes:
    """Writes the notes of rows."""

    def __init__(self, index: Index, runs: StatementRuns, names: BestNames) -> None:
        self._runs = runs
        self._names = names
        self._done_inside = DoneInPasses(index)
        self._modes = ModeNotes(index)
        self._index = index
        self._recording = index.recording

    def of(self, group: RowGroup, state: State | None, name: str, first_name: str) -> tuple[str, ...]:
        """What is to be said of a row whose tensor has a name, the most important first.

        Args:
            group: The row.
            state: Its tensor's.
            name: What that is called there.
            first_name: What the tensor of the statement's first run was called: maybe another layer's.
        """
        notes: list[str] = []
        row = self._recording.ops[group.last_op]
        is_one_a_run = group.count == self._runs.of[group.statement]
        if row.flags & RAISED:
            notes += [self._error_of(group.last_op)]
        if row.kind == OpKind.STEP:
            notes.append(self._step_note(group.last_op))
        if row.kind == OpKind.COLLECTIVE:
            notes.append(self._collective_note(group.last_op))
        if cleared := self._cleared(group.last_op):
            notes.append(f"set .grad of {_counted(cleared)} to None")
        if row.flags & HOOKED:
            notes.append("saved-tensor hooks in force: what it saved was not read")
        if row.kind in _PASSES:
            notes += self._inside_notes(group)
        if again := self._runs.again[group.statement]:
            runs = again + self._runs.of[group.statement]
            within = self._runs.inside[group.statement]
            notes.append(f"{again:,} of {runs:,} runs inside backward ({within}); shown are the others")
        if 0 < group.tracked < group.count and group.members == 1:
            what = "runs" if is_one_a_run else "tensors"
            notes.append(f"requires_grad in {group.tracked:,} of {group.count:,} {what}")
        if state is not None and group.kind == "made" and group.members == 1 and is_one_a_run:
            # (as it was when the statement was through: what it makes empty and fills is not of that shape)
            first = self._recording.layouts[self._index.layout_at(group.first_tensor, group.last_op + 1)]
            is_other = group.first_tensor != group.last_tensor and first_name == name
            if is_other and first.shape != self._recording.layouts[state.layout].shape:
                notes.append(f"{name}: {self._recording.text(first.shape)} in the first run")
        if row.kind == OpKind.MODE:
            notes += self._modes.of(group.statement)
        if group.kind == "read":
            notes.append("" if self._index.gave_a_tensor(group.last_op) else f"{name}.grad is None")
        return tuple(note for note in notes if note)

    def _inside_notes(self, group: RowGroup) -> list[str]:
        """What hooks and the like did to tensors inside the passes that a row stands for."""
        done = self._done_inside.by_statement.get(group.statement, [])
        told = []
        for line, did, tensors in done[:_DONE_INSIDE]:
            names = listed([self._names.at(tensor, group.last_op) for tensor in tensors])
            told.append(f"inside it line {line} {_DID.get(did, did).format(names)}")
        left = len(done) - len(told)
        return [*told, f"{left:,} more lines inside it wrote"] if left else told

    def _collective_note(self, op: int) -> str:
        detail = self._collectives.get(op, {})
        group = detail.get("group")
        among = f"ranks {', '.join(map(str, group))}" if isinstance(group, list) else "all ranks"
        who = "" if self._index.func(op).rpartition(".")[2] in ("send", "isend", "recv", "irecv") else f" with {among}"
        said = " ".join([f"{self._index.func(op).rpartition('.')[2]}{who}", *special(detail)])
        return said + ", goes on meanwhile" * bool(detail.get("async"))

    @cached_property
    def _collectives(self) -> dict[int, dict[str, Any]]:
        return {event.subject: event.detail for event in Events(self._index).of(EventKind.COLLECTIVE)}

    def _cleared(self, last: int) -> set[int]:
        """The tensors whose gradient a run of a statement let go, up to its last op."""
        ops = self._of_run(last)
        return {change.tensor for op in ops for change in self._changed_by_op(op, Field.GRAD) if change.after < 0}

    def _of_run(self, last: int) -> list[int]:
        """The ops of a run of a statement, up to its last one; of a call that it made several times the last."""
        spans, statement, op = self._recording.ops.column("span"), self._index.op_statement[last], last
        found, seen = list[int](), set[int]()
        while op >= 0 and self._index.op_statement[op] == statement and spans[op] not in seen:
            found.append(op)
            seen.add(spans[op])
            op -= 1
        return found

    def _step_note(self, op: int) -> str:
        """The parameters that a step wrote, be it what they held; its own state only when made."""
        kinds = self._recording.ops.column("kind")
        steps = [one for one in self._of_run(op) if kinds[one] == OpKind.STEP]  # (``first.step(), second.step()``)
        made = {tensor for one in steps for tensor in self._index.tensors_made(one)}
        past = [change for one in steps for change in self._changed_by_op(one, Field.WRITTEN)]
        certain = [change for one in steps for change in self._changed_by_op(one, Field.VERSION)]
        certain += [change for change in past if change.after]
        changed = {change.tensor for change in certain} - made
        possible = {change.tensor for change in past if not change.after}
        state = f", made {_counted(made)} of its own" if made else ""
        if possible and not changed:
            return f"wrote {_counted(possible, 'parameter')} in place unless GradScaler skipped it{state}"
        which = " in the last run" if self._index.op_statement[op] in self._of_several_sizes else ""
        return f"wrote {_counted(changed, 'parameter')} in place{which}{state}"

    @cached_property
    def _of_several_sizes(self) -> set[int]:
        """The statements of which one step wrote more than another."""
        places, written = self._recording.ops.column("span"), self._recording.ops.column("calls")
        known, found = dict[int, int](), set[int]()
        for op in self._index.of_kind(OpKind.STEP):
            if known.setdefault(places[op], written[op]) != written[op]:
                found.add(self._index.op_statement[op])
        return found

    def _error_of(self, op: int) -> str:
        for row in self._recording.errors:
            if row.op == op:
                return f"{self._recording.text(row.type_name)}: {self._recording.text(row.message)}"
        return ""

    def _changed_by_op(self, op: int, field: Field) -> list[Change]:
        changes = map(self._recording.changes.__getitem__, self._index.changes.of(op))
        return [change for change in changes if change.field == field and change.before != change.after]


def _counted(tensors: Collection[int], what: str = "tensor") -> str:
    """``1 tensor``, ``500 parameters``"""
    return f"{len(tensors):,} {what}{'s' * (len(tensors) != 1)}"
