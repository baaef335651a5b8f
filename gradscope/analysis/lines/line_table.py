"""The line table: what each statement did to each tensor, described."""

from __future__ import annotations

from gradscope.analysis.facts.library_calls import LibraryCalls
from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.facts.modes.grad_modes import is_user_code
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.program.states_after import State, StatesAfter
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.facts.storage_groups import Letters, StorageGroups
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.index import APPLIED, Index
from gradscope.analysis.lines.called_below import CalledBelow
from gradscope.analysis.lines.changed_runs import tell_of_tracked_runs
from gradscope.analysis.lines.folded_rows import about_all
from gradscope.analysis.lines.line_groups import RowGroup
from gradscope.analysis.lines.line_notes import LineNotes
from gradscope.analysis.lines.wrapped_rows import about_parameter
from gradscope.analysis.report_model import LineRow, RowKind
from gradscope.analysis.wording import BEFORE, listed
from gradscope.recording import NONE
from gradscope.recording.flags import AUTOCAST, GRAD, INFERENCE, LEAF, PARAMETER
from gradscope.recording.rows import OpKind

TEMPORARIES = 50
"""Ops of one statement that are looked through for the cut of a temporary."""
_OF_A_CALL = 4096
"""Ops of one statement that are gone back over for what set a mode within it: a library's model is made of many."""


class LineTable:
    """Describes collected rows.

    Args:
        index: The recording.
        names: Best names.
        cuts: Cuts of the graph.
        libraries: What libraries did for themselves.
        sharing: Which tensors share memory.
        use: Bytes by op.
        runs: How often each statement ran.
        letters: Letters of memory blocks, shared with the other tables of the report.
    """

    def __init__(
        self,
        index: Index,
        names: BestNames,
        cuts: Cuts,
        libraries: LibraryCalls,
        sharing: StorageGroups,
        use: MemoryUse,
        runs: StatementRuns,
        letters: Letters,
    ) -> None:
        self._index = index
        self._recording = index.recording
        self._names = names
        self._cuts = cuts
        self._libraries = libraries
        self._sharing = sharing
        self._use = use
        self._runs = runs
        self._letters = letters
        self._notes = LineNotes(index, runs, names)
        self._below = CalledBelow(index)

    def describe(self, groups: list[RowGroup]) -> tuple[LineRow, ...]:
        """Rows as a report shows them."""
        tell_of_tracked_runs(self._index, self._names, groups)
        described = ((group.first_tensor, group.last_tensor, *group.others) for group in groups)
        tensors = {tensor for several in described for tensor in several if tensor >= 0}
        states = StatesAfter(self._index, tensors)
        all_names = self._names.all_of(tensors)
        values = self._values(tensors)
        rows = [
            self._about_all(group, states, self._row(group, states, all_names.get(group.last_tensor, ()), values))
            for group in groups
        ]
        return tuple(
            about_parameter(self._index, self._names, self._sharing, group, row)
            for group, row in zip(groups, rows, strict=True)
        )

    def _about_all(self, group: RowGroup, states: StatesAfter, row: LineRow) -> LineRow:
        tensors = [tensor for tensor in (group.last_tensor, *group.others) if tensor >= 0]
        if group.members == 1 or not tensors:
            return row
        ends = {tensor: self._below.end(group.last_op, tensor) for tensor in tensors}
        return about_all(self._recording, row, [states.after(tensor, end) for tensor, end in ends.items()])

    def _values(self, tensors: set[int]) -> dict[tuple[int, int], str]:
        rows = self._recording.values
        return {(row.op, row.tensor): self._recording.text(row.text) for row in rows if row.tensor in tensors}

    def _row(
        self, group: RowGroup, states: StatesAfter, names: tuple[str, ...], values: dict[tuple[int, int], str]
    ) -> LineRow:
        place = self._index.place(group.statement)
        tensor, op = group.last_tensor, self._last_op(group)
        end = self._below.end(op, tensor)
        state = states.after(tensor, end, since=self._run_start(group)) if tensor >= 0 else None
        layout = self._recording.layouts[state.layout] if state is not None else None
        base = self._sharing.base_of(tensor) if tensor >= 0 else NONE
        return LineRow(
            file=place.file,
            line=place.line,
            end_line=place.end_line,
            function=place.function,
            source=place.source,
            kind=self._kind(group, state),
            op=self._index.func(self._telling_op(group)),
            executions=self._runs.of[group.statement] + self._runs.again[group.statement],
            name=self._name(group),
            names=self._names_of(group, names),
            temporaries=round(group.temporaries / self._runs.of[group.statement]),
            shape=self._recording.text(layout.shape) if layout else "",
            dtype=self._recording.text(layout.dtype) if layout else "",
            device=self._recording.text(layout.device) if layout else "",
            type_name=self._recording.text(layout.type_name) if layout else "",
            requires_grad=state.requires_grad if state else None,
            requires_grad_before=state.requires_grad_before if state else None,
            requires_grad_why=self._why(group, state, end),
            is_leaf=state.is_leaf if state else None,
            grad_fn=self._grad_fn(state),
            storage=self._letters.of(state.storage) if state else "",
            alias_of=self._alias_of(base, group),
            offset=self._sharing.offset_of(tensor) if tensor >= 0 else 0,
            version=state.version if state else None,
            version_before=state.version_before if state else None,
            allocated_bytes=group.allocated,
            saved_bytes=group.saved,
            saved=self._saved(state, self._telling_op(group)),
            live_bytes=self._use.live_after(op),
            modes=self._modes(group, op, state),
            notes=self._notes.of(group, state, self._name(group), self._first_name(group)),
            value=values.get((op, tensor), ""),
            first_op=group.first_op,
            last_op=group.last_op,
        )

    def _name(self, group: RowGroup) -> str:
        if group.members > 1:
            return f"{group.members} tensors"
        if group.last_tensor >= 0:
            return self._names.at(group.last_tensor, self._telling_op(group))
        if group.kind == "export":
            return listed(self._exported(group))
        roots = self._index.roots.get(group.last_op)
        taken = list(self._index.uses.of(group.last_op)) if roots is None else roots
        if not len(taken) or group.kind not in ("read", "backward", "error"):
            return ""
        told = taken if roots is not None and group.kind == "backward" else taken[:1]
        return listed([self._names.at(one, group.last_op) for one in told])

    def _first_name(self, group: RowGroup) -> str:
        """The name of the tensor that the first run made."""
        if group.kind != "made" or group.first_tensor < 0:
            return ""
        return self._names.at(group.first_tensor, self._recording.tensors.column("op")[group.first_tensor])

    def _exported(self, group: RowGroup) -> list[str]:
        """What the last run of a statement took out of torch by the function that did so last, in order."""
        spans, funcs = (self._recording.ops.column(name) for name in ("span", "func"))
        op, last, found = group.last_op, funcs[group.last_op], dict[int, str]()
        while op >= group.first_op and self._index.op_statement[op] == group.statement and spans[op] not in found:
            if funcs[op] == last:
                taken = self._index.uses.of(op)
                found[spans[op]] = self._names.at(taken[0], op) if len(taken) else ""
            op -= 1
        return list(dict.fromkeys(name for name in reversed(found.values()) if name))

    def _names_of(self, group: RowGroup, names: tuple[str, ...]) -> tuple[str, ...]:
        """Every name of the row's tensor, first the one that the row shows."""
        if group.members > 1 or group.last_tensor < 0:
            return ()
        shown = self._name(group)
        return (shown, *(name for name in names if name != shown)) if shown in names else names

    def _alias_of(self, base: int, group: RowGroup) -> str:
        if base < 0 or not self._names.is_named(base):
            return ""
        name = self._names.at(base, self._telling_op(group))
        return f"{name}{BEFORE}" if name == self._name(group) else name

    def _run_start(self, group: RowGroup) -> int:
        """The first op of the statement's last run, as far as it concerns the row's tensor."""
        if group.kind == "made":
            return max(self._recording.tensors.column("op")[group.last_tensor], self._given_at(group)) + 1
        op, statements = group.last_op, self._index.op_statement
        spans, funcs = (self._recording.ops.column(name) for name in ("span", "func"))
        seen = {(spans[op], funcs[op])} if op < self._index.op_count else set()
        while op > group.first_op and statements[op - 1] == group.statement:
            call = (spans[op - 1], funcs[op - 1])
            if call in seen and group.count > 1:
                break  # (the run before)
            seen.add(call)
            op -= 1
        return op

    def _last_op(self, group: RowGroup) -> int:
        """The last op of the run that the row describes."""
        if group.kind != "made" or group.last_tensor < 0:
            return group.last_op
        op = max(self._telling_op(group), self._given_at(group))
        last = min(group.last_op, self._index.op_count - 1)
        while op < last and self._index.op_statement[op + 1] == group.statement:
            op += 1
        return op

    def _given_at(self, group: RowGroup) -> int:
        """The op by which a custom Function that the row's statement applies gave the tensor its ``grad_fn``, or NONE.

        Where that is what a function returns, it is seen at the caller's next op.
        """
        op = self._index.given_by_functions.get(group.last_tensor, NONE)
        is_here = op >= 0 and self._index.op_statement[op] == group.statement
        return op if is_here or self._index.func(self._telling_op(group)) == APPLIED else NONE

    def _telling_op(self, group: RowGroup) -> int:
        """The op that made the tensor, rather than one of the same statement that changed it."""
        if group.kind == "made":
            return self._recording.tensors.column("op")[group.last_tensor]
        return group.last_op

    def _kind(self, group: RowGroup, state: State | None) -> RowKind:
        if group.kind in ("made", "changed") and self._cut_of(group, state) >= 0:
            return "cut"
        return group.kind

    def _cut_of(self, group: RowGroup, state: State | None) -> int:
        """The cut because of which the tensor does not require grad: its own op, or one of a temporary before it."""
        if self._is_users_cut(self._telling_op(group)):
            return self._telling_op(group)
        if group.kind != "made" or state is None or state.requires_grad or group.members > 1:
            return NONE
        made_by = self._telling_op(group)
        # (the sizes of a packed sequence, say: no region keeps whole numbers from having a gradient)
        is_whole = not self._index.is_floating(group.last_tensor)
        needed, on_way = set(self._index.uses.of(made_by)), [made_by]
        for op in range(made_by, max(group.first_op, group.last_op - TEMPORARIES) - 1, -1):
            if self._index.op_statement[op] != group.statement:
                break
            gave = {*self._index.tensors_made(op), *self._index.results.of(op)}
            is_on_way = not gave.isdisjoint(needed) if gave else any(self._is_within(op, one) for one in on_way)
            if self._is_users_cut(op) and is_on_way and not (is_whole and self._gives_floats(op)):
                return op
            if is_on_way:
                needed.update(self._index.uses.of(op))
                on_way.append(op)
        return NONE

    def _is_users_cut(self, op: int) -> bool:
        return bool(self._cuts.is_cut[op]) and not self._libraries.is_own_cut(op)

    def _gives_floats(self, op: int) -> bool:
        return any(map(self._index.is_floating, self._index.tensors_made(op)))

    def _is_within(self, op: int, outer: int) -> bool:
        """Whether the source of one call stands within another's: the number that it gave went in there."""
        spans = self._recording.ops.column("span")
        inner, around = (self._recording.spans[spans[one]] for one in (op, outer))
        start, end = (around.line, around.col), (around.end_line, around.end_col)
        return start <= (inner.line, inner.col) and (inner.end_line, inner.end_col) <= end

    def _grad_fn(self, state: State | None) -> str:
        if state is None or state.node < 0:
            return ""
        return self._recording.text(self._recording.nodes.column("name")[state.node])

    def _saved(self, state: State | None, op: int) -> tuple[str, ...]:
        """What the tensor's own node saved."""
        if state is None or state.node < 0:
            return ()
        shown = []
        for row in self._index.saved.of(state.node):
            saved = self._recording.saved[row]
            attr, name = self._recording.text(saved.attr), self._names.at(saved.tensor, op)
            shown.append(f"{attr}={name}" if name and not name.startswith("<") else attr)
        return tuple(shown)

    def _modes(self, group: RowGroup, op: int, state: State | None) -> tuple[str, ...]:
        """The modes in force: of rows that stand for the runs of one call, those of every run.

        What a custom Function gave was seen inside it, where grad mode is off; that it has a grad_fn tells that it was
        on around it.
        """
        if group.kind == "mode":
            return ()
        flags = self._recording.ops.column("flags")[op]
        if group.kind == "made" or group.tracked or group.in_any_run:
            flags = (flags & group.in_every_run) | (group.in_any_run & GRAD)
        modes = []
        if flags & INFERENCE:
            modes.append("inference_mode")
        elif not flags & GRAD and not (group.kind == "made" and state is not None and state.node >= 0):
            modes += [] if self._is_set_inside(op) else ["no_grad"]
        if flags & AUTOCAST:
            modes.append("autocast")
        return tuple(modes)

    def _is_set_inside(self, op: int) -> bool:
        """Whether torch's own Python or a library's set the mode of an op, within a call of the op's statement."""
        statements, kinds = self._index.op_statement, self._recording.ops.column("kind")
        if op < self._index.op_count and kinds[op] == OpKind.GROUP:  # (the mode of what ran within it)
            before, flags = op - 1, self._recording.ops.column("flags")
            while before >= 0 and kinds[before] == OpKind.MODE and not flags[before] & GRAD:
                if is_user_code(self._index, before):
                    return False
                before -= 1
            return before < 0 or bool(flags[before] & GRAD)
        of_ops = self._recording.ops.column("flags")
        for earlier in range(min(op, self._index.op_count) - 1, max(-1, op - _OF_A_CALL), -1):
            if statements[earlier] != statements[op]:
                break
            if of_ops[earlier] & GRAD:
                return True  # (it was on when the statement began)
            if kinds[earlier] == OpKind.MODE:
                is_exit = self._index.func(earlier).endswith("__exit__")
                return not is_exit and not is_user_code(self._index, earlier)
        return False

    def _why(self, group: RowGroup, state: State | None, end: int) -> str:
        """What set or changed requires_grad."""
        if state is None:
            return ""
        tensor = group.last_tensor
        if state.requires_grad_before is not None:
            cut = self._cut_of(group, state) if group.kind == "made" else NONE
            changed = self._changed_by(group, end)
            cause = self._cuts.cause(cut) if cut >= 0 else ""
            return f"{cause}, then {changed}" if cause and changed not in cause else changed
        if (cut := self._cut_of(group, state)) >= 0 and group.kind in ("made", "changed"):
            return self._switched(cut) or self._cuts.cause(cut)
        if group.members > 1:
            return ""
        if group.kind != "made" or not state.requires_grad:
            return ""
        op = self._telling_op(group)
        flags = self._recording.tensors.column("flags")[tensor]
        if flags & LEAF:
            return "Parameter" if flags & PARAMETER else "requires_grad=True"
        sources = [taken for taken in self._index.uses.of(op) if self._index.requires_grad(taken, op)]
        named = dict.fromkeys(self._names.at(taken, op) for taken in sources)
        return "from " + ", ".join(list(named)[:2]) if named else ""

    def _changed_by(self, group: RowGroup, end: int) -> str:
        for row in reversed(self._index.changed_ops.get(group.last_tensor, [])):
            change = self._recording.changes[row]
            if change.op <= max(group.last_op, end):
                return self._set_to(change.op, bool(change.after))
        return ""

    def _switched(self, cut: int) -> str:
        """The cut of a row in words, where it set requires_grad of a tensor, of which the row may be about several."""
        return self._set_to(cut, False) if self._cuts.kind(cut) == "requires_grad_false" else ""

    def _set_to(self, op: int, value: bool) -> str:
        func = self._index.func(op).rpartition("Tensor.")[2]
        if func.endswith(".__set__"):
            return f"{func.removesuffix('.__set__')} = {value}"
        return f"{func}({value})" if func == "requires_grad_" else func
