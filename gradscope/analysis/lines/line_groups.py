"""Which rows the line table has: one for each statement and each tensor that it made or changed, loops as one row.

Only ids and sums are collected here, for any number of ops; :mod:`.line_table` describes the rows.
"""

from __future__ import annotations

import ast
from array import array
from dataclasses import dataclass, field
from heapq import heappop, heappush
from textwrap import dedent

from gradscope.analysis.facts.library_calls import LibraryCalls
from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.facts.modes.grad_modes import is_user_code
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import RowKind
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, GRAD, GRADIENT, RAISED, REQUIRES_GRAD
from gradscope.recording.rows import Field, OpKind

TENSORS_A_STATEMENT = 8
"""A statement that makes or changes more named tensors than these (a module, a list) is one row with their number."""

_EFFECT_OPS = frozenset((OpKind.BACKWARD, OpKind.STEP, OpKind.READ_GRAD))
"""What these make and change (gradients, parameters) is told by other tables; the line gets one row."""

_IMPORTS = ("import ", "from ")

_KIND_OF_OP: dict[int, RowKind] = {
    OpKind.BACKWARD: "backward",
    OpKind.GRAD: "backward",
    OpKind.MODE: "mode",
    OpKind.READ_GRAD: "read",
    OpKind.EXPORT: "export",
    OpKind.STEP: "step",
    OpKind.SET: "call",
    OpKind.GROUP: "call",
    OpKind.COLLECTIVE: "call",
}


@dataclass(eq=False, repr=False)
class RowGroup:
    """One row of the line table to be."""

    statement: int
    kind: RowKind
    first_op: int
    last_op: int
    count: int
    first_tensor: int = NONE
    last_tensor: int = NONE
    """The tensor that the row describes: of the last run, or of the last one that autograd followed."""
    tracked: int = 0
    """Runs whose tensor required grad."""
    told: bool = False
    """Whether autograd followed that run: it made something that requires grad, or cut the graph."""
    named: bool = False
    by_library: bool = True
    """Whether all that it made is a library's own."""
    temporaries: int = 0
    allocated: int = 0
    saved: int = 0
    in_every_run: int = -1
    in_any_run: int = 0
    """Flags of the ops that made the row's tensors."""
    others: list[int] = field(default_factory=list)
    """Further tensors that the row stands for, where a statement had too many for a row each."""
    changed_at: dict[int, int] = field(default_factory=dict)
    """For each tensor that it changed the first op that did: several may have one name."""
    members: int = 1
    """Tensors that the row stands for."""


class LineGroups:
    """Collects the rows of one recording."""

    def __init__(self, index: Index, names: BestNames, use: MemoryUse, cuts: Cuts, libraries: LibraryCalls) -> None:
        self._index = index
        self._names = names
        self._use = use
        self._libraries = libraries
        self._kinds = index.recording.ops.column("kind")
        self._cuts = cuts
        self._of_op = array("i", [NONE]) * index.op_count
        self._of_tensor = array("i", [NONE]) * len(index.recording.tensors)
        self._groups: list[RowGroup] = []

    def collect(self) -> list[RowGroup]:
        """Every row, in the order of the source."""
        self._collect_made()
        self._collect_changed()
        self._collect_effects()
        self._collect_calls()
        self._charge()
        groups = self._merge_temporaries([group for group in self._groups if not self._is_import(group)])
        order = self._index.statements
        return sorted(
            groups, key=lambda group: (order[group.statement].file, order[group.statement].line, group.last_op)
        )

    def _is_import(self, group: RowGroup) -> bool:
        """Whether a row is about what a library did while it was imported."""
        if group.kind == "error" or not self._libraries.makes[group.last_op]:
            return False
        return self._index.place(group.statement).source.startswith(_IMPORTS)

    def _collect_made(self) -> None:
        """A group for each result of each call in the source, whatever its names: the runs of a loop are one."""
        ops, tensors = self._index.recording.ops, self._index.recording.tensors
        spans, funcs, modes, kinds = ops.column("span"), ops.column("func"), ops.column("flags"), self._kinds
        skipped = bytes(kind in _EFFECT_OPS for kind in range(256))
        statements, visible, is_cut = self._index.op_statement, self._names.visible, self._cuts.is_cut
        groups, of_op, of_tensor = self._groups, self._of_op, self._of_tensor
        made: dict[tuple[int, int, int, int, int], int] = {}
        inner = ops.column("inner")
        slots, places = self._names.slots, self._index.places_in_call
        own, unclaimed, weights = self._libraries.own, self._libraries.unclaimed, self._index.weights
        wrapped = self._libraries.wrapped
        followed = GRAD
        for tensor, (op, flags) in enumerate(zip(tensors.column("op"), tensors.column("flags"), strict=True)):
            if flags & (EXTERNAL | GRADIENT) and not self._index.is_new_parameter(tensor):
                continue
            if op >= self._index.op_count or skipped[kinds[op]] or not statements[op]:
                continue
            key = (spans[op], inner[op], funcs[op], places[tensor], slots[tensor])
            position = made.get(key, NONE)
            if position < 0:
                position = made[key] = len(groups)
                groups.append(RowGroup(statements[op], "made", op, op, 0, tensor))
            group = groups[position]
            group.last_op = op
            group.count += weights[op]
            # (what was made is a row of its own where a parameter lies on it, which a name holds later)
            is_shown = not own[tensor] if unclaimed[tensor] else visible[tensor] or wrapped[tensor]
            group.named = group.named or bool(is_shown)
            required = flags & REQUIRES_GRAD
            group.tracked += weights[op] if required else 0
            group.by_library = group.by_library and bool(own[tensor])
            group.in_every_run &= modes[op]
            group.in_any_run |= modes[op]
            telling = bool(required) or bool(is_cut[op] and modes[op] & followed)
            if telling or not group.told:
                group.last_tensor = tensor
                group.told = telling
            of_op[op] = of_tensor[tensor] = position

    def _collect_changed(self) -> None:
        """A group for each statement and name of a tensor that it changed and did not make."""
        changes, index, found = self._index.recording.changes, self._index, self._index.found_versions
        made_at, flags = index.recording.tensors.column("op"), index.recording.tensors.column("flags")
        own, by_library = self._libraries.own, self._libraries.makes
        modes, spans = (index.recording.ops.column(name) for name in ("flags", "span"))
        changed: dict[tuple[int, int], int] = {}
        columns = (changes.column(name) for name in ("op", "tensor", "field", "before", "after"))
        for row, (op, tensor, what, before, after) in enumerate(zip(*columns, strict=True)):
            born_here = row in found or (op == made_at[tensor] and not flags[tensor] & EXTERNAL)
            if born_here or before == after or op >= index.op_count or self._kinds[op] in _EFFECT_OPS:
                continue
            statement, made = index.op_statement[op], self._of_tensor[tensor]
            if statement == NOWHERE or what == Field.GRAD or flags[tensor] & GRADIENT:
                continue
            if own[tensor] and by_library[op]:
                continue
            if made >= 0 and self._groups[made].statement == statement:
                group = self._groups[made]
                group.last_op = max(op, group.last_op)
                if op != made_at[tensor] and self._of_op[op] != made and self._is_run_of_twin(op, made_at[tensor]):
                    group.count += index.weights[op]
                    group.tracked += index.weights[op] if index.requires_grad(tensor, op) else 0
                self._of_op[op] = made
                continue
            name, is_given = self._names.best[tensor], index.given_by_functions.get(tensor, NONE) == op
            # (what a Function gave and nothing named is one row for all runs of the call, as other results are)
            alone = -2 - (len(made_at) + spans[op] if is_given else tensor)
            key = (statement, name if name >= 0 else alone)
            position = changed.get(key, NONE)
            if position < 0:
                position = changed[key] = len(self._groups)
                self._groups.append(RowGroup(statement, "changed", op, op, 0, tensor, named=name >= 0 or not is_given))
            group = self._groups[position]
            group.count += index.weights[op] if group.last_op != op or not group.count else 0
            group.last_op, group.last_tensor = op, tensor
            group.changed_at.setdefault(tensor, op)
            group.in_every_run &= modes[op]
            group.in_any_run |= modes[op]
            if self._of_op[op] < 0:  # (what batch_norm keeps and allocates is of its result, and not of its statistics)
                self._of_op[op] = position

    def _is_run_of_twin(self, op: int, made_at: int) -> bool:
        """Whether an op is a later run of the call that made its tensor: ``total += loss``, first of a number."""
        ops = self._index.recording.ops
        spans, funcs = ops.column("span"), ops.column("func")
        return spans[op] == spans[made_at] and self._index.twin(funcs[op]) == self._index.twin(funcs[made_at])

    def _collect_effects(self) -> None:
        """A group for each statement that ran a backward pass, a step, set a mode, took values out, or raised."""
        ops = self._index.recording.ops
        found: dict[tuple[int, RowKind], int] = {}
        for op, (kind, flags) in enumerate(zip(self._kinds, ops.column("flags"), strict=True)):
            raised = flags & RAISED
            if kind == OpKind.MODE and not is_user_code(self._index, op):
                continue
            if (not kind and not raised) or not self._index.op_statement[op]:
                continue
            if self._of_op[op] >= 0 and kind not in (OpKind.GRAD, OpKind.BACKWARD):
                continue
            key: tuple[int, RowKind] = (self._index.op_statement[op], "error" if raised else _KIND_OF_OP[kind])
            position = found.get(key, NONE)
            if position < 0:
                position = found[key] = len(self._groups)
                self._groups.append(RowGroup(key[0], key[1], op, op, 0))
            group = self._groups[position]
            group.last_op = op
            group.in_every_run &= flags
            group.in_any_run |= flags
            if self._of_op[op] < 0:
                self._of_op[op] = position
        for position in found.values():
            self._groups[position].count = self._index.calls_like(self._groups[position].last_op)

    def _collect_calls(self) -> None:
        """A group for each statement that would have no row otherwise."""
        described = {group.statement for group in self._groups}
        for statement, op in self._index.last_op.items():
            if statement != NOWHERE and statement not in described:
                self._groups.append(RowGroup(statement, "call", op, op, self._index.calls_like(op)))

    def _charge(self) -> None:
        """Put new memory down to the row of the tensor that it was allocated for, what is saved to the op's row.

        What has no such row goes to the first row of its statement.
        """
        first = {group.statement: position for position, group in reversed(list(enumerate(self._groups)))}
        statements, made_for = self._index.op_statement, self._tensors_by_storage()
        for storage, op, nbytes in self._use.blocks():
            tensor = made_for[storage]
            position = self._of_tensor[tensor] if tensor >= 0 else NONE
            if position >= 0 and self._groups[position].statement != statements[op]:
                position = NONE  # a gradient of a backward pass, which a later line made something of
            position = position if position >= 0 else self._of_op[op]
            target = position if position >= 0 else first.get(statements[op], NONE)
            if target >= 0:
                self._groups[target].allocated += nbytes
        for position, statement, saved in zip(self._of_op, statements, self._use.saved, strict=False):
            target = position if position >= 0 or not saved else first.get(statement, NONE)
            if saved and target >= 0:
                self._groups[target].saved += saved

    def _tensors_by_storage(self) -> array[int]:
        """For each memory block a tensor on it that has a row: the first, or one with a name that the same op made."""
        tensors, storages = self._index.recording.tensors, self._index.recording.storages
        places, made_at, allocated_at = tensors.column("storage"), tensors.column("op"), storages.column("op")
        best = self._names.best
        found = array("i", [NONE]) * len(storages)
        for tensor, storage in enumerate(places):
            if storage < 0 or self._of_tensor[tensor] < 0:
                continue
            known = found[storage]
            if known < 0 or (best[known] < 0 <= best[tensor] and made_at[tensor] == allocated_at[storage]):
                found[storage] = tensor
        return found

    def _merge_temporaries(self, groups: list[RowGroup]) -> list[RowGroup]:
        """Put what a statement made without a name into its named row, and too many named ones into one row."""
        by_statement: dict[int, list[RowGroup]] = {}
        for group in groups:
            by_statement.setdefault(group.statement, []).append(group)
        kept: list[RowGroup] = []
        for rows in by_statement.values():
            rows = self._without_unnamed_changes(self._once_a_parameter(rows))
            made = [row for row in rows if row.kind == "made"]
            named = [row for row in made if row.named]
            unnamed = [row for row in made if not row.named]
            if self._tensors(named) > TENSORS_A_STATEMENT:
                # (one row with their number: of what a loop goes through only the first are seen under its name)
                named += [row for row in unnamed if any(self._is_of_one_call(row, one) for one in named)]
                unnamed = [row for row in unnamed if row not in named]
            else:
                named = self._once_a_name(named)
            others = [row for row in rows if row.kind != "made"]
            target = self._target(named, others)
            if target is None and unnamed:
                target = self._shown(unnamed)
                unnamed.remove(target)
                kept.append(target)
            elif target is not None and target.kind == "changed" and unnamed:
                # (what a statement gives, beside what it changed on the way: the statistics of a normalization)
                result = self._telling(unnamed)
                if result.last_op > max(row.last_op for row in others):
                    unnamed.remove(result)
                    kept.append(result)
                    target = result
            if target is not None and target.kind == "error":
                given = [row for row in unnamed if self._is_of_same_call(row, target)]
                if given:  # (what the call gave in the runs in which it did not raise)
                    unnamed.remove(given[-1])
                    kept.append(given[-1])
                    target = given[-1]
            for row in unnamed:
                self._absorb(target, row)
            reads = [row for row in others if row.kind in ("call", "export", "read")]
            if made:
                others = [row for row in others if row not in reads or row.kind == "read" or row is target]
            kept += self._fold(named) + self._fold(others)
        return kept

    def _fold(self, rows: list[RowGroup]) -> list[RowGroup]:
        """One row for many of a kind."""
        folded: list[RowGroup] = []
        for kind in dict.fromkeys(row.kind for row in rows):
            alike = [row for row in rows if row.kind == kind]
            if len(alike) <= TENSORS_A_STATEMENT:
                folded += alike
                continue
            first = alike[0]
            first.others = [row.last_tensor for row in alike[1:]]
            first.members = self._tensors(alike)
            for row in alike[1:]:
                first.allocated += row.allocated
                first.saved += row.saved
            first.last_op = max(row.last_op for row in alike)
            folded.append(first)
        return folded

    def _tensors(self, rows: list[RowGroup]) -> int:
        """The tensors of some rows: the results of one call that one name held in turn are one a place in the call.

        In some of its runs they were seen under their name, in others not, which gives each place two rows.
        """
        made_at, best, places = self._index.recording.tensors.column("op"), self._names.best, self._index.places_in_call
        columns = [self._index.recording.ops.column(name) for name in ("span", "func", "inner")]
        found: dict[tuple[int, ...], dict[int, int]] = {}
        alone = 0
        for row in rows:
            if row.kind != "made" or made_at[row.last_tensor] >= self._index.op_count:
                alone += self._standing(row)
                continue
            key = (*(column[made_at[row.last_tensor]] for column in columns), places[row.last_tensor])
            names, name = found.setdefault(key, {}), best[row.last_tensor]
            names[name] = max(names.get(name, 0), self._standing(row))
        for names in found.values():
            if len(names) > 1:
                names.pop(NONE, None)
        return alone + sum(sum(names.values()) for names in found.values())

    def _standing(self, row: RowGroup) -> int:
        """The tensors of a row: one, but where it is about a single one that stands for others as well, or changed
        several of one name (``self.weight`` of two layers); one that its round made takes the place of the last one's.
        """
        if row.first_tensor == row.last_tensor != NONE:
            return self._index.times_made([row.last_tensor])
        died, alive, most = self._index.recording.tensors.column("died"), list[int](), 1
        for tensor, op in row.changed_at.items():
            while alive and alive[0] <= op:
                heappop(alive)
            heappush(alive, died[tensor] if died[tensor] >= 0 else self._index.op_count + 1)
            most = max(most, len(alive))
        return most

    def _once_a_parameter(self, rows: list[RowGroup]) -> list[RowGroup]:
        """Rows without those of what a library made a parameter of where another row is about that parameter."""
        storages, best = self._index.recording.tensors.column("storage"), self._names.best
        told = {storages[row.last_tensor]: row for row in rows if row.last_tensor >= 0 <= best[row.last_tensor]}
        kept = []
        for row in rows:
            again = row.kind == "made" and row.named and best[row.last_tensor] < 0
            about = told.get(storages[row.last_tensor]) if again else None
            if about is None:
                kept.append(row)
            else:
                self._absorb(about, row)
        return kept

    def _without_unnamed_changes(self, rows: list[RowGroup]) -> list[RowGroup]:
        """Rows without those of what a Function gave on the way to what the statement makes: ``F.apply(x) / 4``."""
        kept = rows
        for row in rows:
            others = [one for one in kept if one is not row and (one.named or one.last_op > row.last_op)]
            target = next((one for one in reversed(others) if one.kind in ("made", "changed")), None)
            if row.kind == "changed" and not row.named and target is not None:
                target.allocated, target.saved = target.allocated + row.allocated, target.saved + row.saved
                kept = [one for one in kept if one is not row]
        return kept

    def _once_a_name(self, named: list[RowGroup]) -> list[RowGroup]:
        """One row for the results of one call that one name held in turn: ``for step in x`` over a tensor."""
        tensors, ops = self._index.recording.tensors, self._index.recording.ops
        made_at, spans, funcs = tensors.column("op"), ops.column("span"), ops.column("func")
        last: dict[tuple[int, int, int], RowGroup] = {}
        for row in named:
            op, name = made_at[row.last_tensor], self._names.best[row.last_tensor]
            known = last.setdefault((spans[op], funcs[op], name if name >= 0 else -2 - row.last_tensor), row)
            if known is not row:
                known.allocated, known.saved = known.allocated + row.allocated, known.saved + row.saved
                known.last_tensor = max(known.last_tensor, row.last_tensor)
                known.first_op, known.last_op = min(known.first_op, row.first_op), max(known.last_op, row.last_op)
        return list(last.values())

    def _shown(self, unnamed: list[RowGroup]) -> RowGroup:
        """The row of a statement that made nothing with a name; of a library's own, one without a tensor."""
        telling = [row for row in unnamed if not row.by_library or self._is_users_cut(row)]
        if not telling and not self._is_call_alone(unnamed[0].statement):
            telling = [row for row in unnamed if row.tracked]  # (maybe what it gives: ``return self.conv(x)``)
        if telling:
            return self._telling(telling)
        row = self._telling(unnamed)
        row.kind, row.first_tensor, row.last_tensor = "call", NONE, NONE
        return row

    def _is_call_alone(self, statement: int) -> bool:
        """Whether a statement keeps nothing of what it calls: ``trainer.fit(model)``."""
        try:
            body = ast.parse(dedent(self._index.place(statement).source)).body
        except SyntaxError:
            return False  # the first line of a block, or the last of one
        return len(body) == 1 and isinstance(body[0], ast.Expr)

    def _is_users_cut(self, row: RowGroup) -> bool:
        op = self._index.recording.tensors.column("op")[row.last_tensor]
        return bool(self._cuts.is_cut[op]) and not self._libraries.is_own_cut(op)

    def _is_of_one_call(self, row: RowGroup, named: RowGroup) -> bool:
        """Whether the same op made what two rows are about."""
        made_at = self._index.recording.tensors.column("op")
        return made_at[row.last_tensor] == made_at[named.last_tensor]

    def _is_of_same_call(self, row: RowGroup, other: RowGroup) -> bool:
        """Whether the last ops of two rows are runs of one call."""
        columns = (self._index.recording.ops.column(name) for name in ("span", "func", "inner"))
        return all(column[row.last_op] == column[other.last_op] for column in columns)

    def _target(self, named: list[RowGroup], others: list[RowGroup]) -> RowGroup | None:
        if named:  # (of several results of one call one that may have a gradient: not the sizes of a packed sequence)
            return max(named, key=lambda row: (row.last_op, self._index.is_floating(row.last_tensor)))
        telling = [row for row in others if row.kind in ("changed", "backward", "step", "error", "export")]
        # (what a statement makes on the way to its pass is of that, and not of a step behind it)
        return next((row for row in telling if row.kind == "backward"), telling[-1] if telling else None)

    def _telling(self, unnamed: list[RowGroup]) -> RowGroup:
        """The last result of a statement; of one that autograd followed in earlier runs only (training, then
        evaluation), the last of those. Of several results of one call the first: the output of ``lstm``, and no state.
        """
        last = max(reversed(unnamed), key=lambda row: row.last_op)  # (a network's last layer may be like its first)
        if self._kinds[last.last_op] != OpKind.GROUP:  # (of torch's Python only the last is what it returns)
            last = next(row for row in unnamed if row.last_op == last.last_op)
        followed = [row for row in unnamed if row.tracked and row.last_op < last.first_op]
        return max(followed, key=lambda row: row.last_op) if followed and not last.tracked else last

    @staticmethod
    def _absorb(target: RowGroup | None, row: RowGroup) -> None:
        if target is None:
            return
        target.temporaries += row.count
        target.allocated += row.allocated
        target.saved += row.saved
        target.first_op = min(target.first_op, row.first_op)
