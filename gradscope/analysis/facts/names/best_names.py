"""What the program calls a tensor: the best of the names under which it was seen, by identity."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property

from gradscope.analysis.facts.names.held_names import MODULE, HeldName, HeldNames
from gradscope.analysis.facts.names.parameters_of_rounds import named_in_other_rounds
from gradscope.analysis.facts.names.slots import find_slots
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import BindingKind, OpKind

SOURCE_AS_NAME = 24
"""Characters up to which the text of a call stands for its result."""

_OPS_OF_CALL = 256
"""Ops of one call in the source that are looked through for its last."""

_AT_BIRTH, _VISIBLE, _ELSEWHERE = 3, 2, 1
_STEPS = 256
"""Ranks between two kinds of names, for paths of different lengths."""
_OWN = ("self.", "cls.")
_ITERATES = (".__iter__", ".__next__")
"""Functions of torch's own Python that give several tensors."""
_IMPORTS = ("import ", "from ")
_STEADY = 128


class BestNames:
    """Best names of tensors.

    Where no line is in question: the name stored by the statement that made the tensor comes first; then names of the
    module, or of the scope where it was made; then those that other functions gave it. In one scope a name that no
    other tensor bears comes first (``blocks[0].weight``, not the loop's ``block.weight``), then the shortest path. Of
    names of other functions the longest path of a parameter is the outermost object's (``model.fc.weight``, not a
    layer's ``fc.weight``). Among equals the first one seen. For a line see :meth:`at`.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._strings = index.recording.strings
        self._held = HeldNames(index)
        self._by_statement: dict[int, array[int]] = {}

    @cached_property
    def _seen(self) -> tuple[array[int], array[int], bytearray]:
        """For each tensor the text id of the best name under which it was seen itself, the name's rank, and 1 if the
        module held it so.
        """
        held = self._held
        tensors = self._index.recording.tensors
        flags = tensors.column("flags")
        best = array("i", [NONE]) * len(tensors)
        ranks, by_module = array("h", [0]) * len(tensors), bytearray(len(tensors))
        for tensor, bindings in held.of_tensor.items():
            born_at = self._born_at(tensor)
            for binding in bindings:
                rank = self._rank(binding, born_at, bool(flags[tensor] & PARAMETER))
                if rank > ranks[tensor]:
                    ranks[tensor] = rank
                    best[tensor], by_module[tensor] = binding.name, binding.scope == MODULE
        return best, ranks, by_module

    def _rank(self, binding: HeldName, born_at: int, is_parameter: bool) -> int:
        if binding.stored and binding.statement == born_at:
            return _AT_BIRTH * _STEPS
        length, is_own = self._length(binding.name)
        born_in = self._held.scopes[born_at] if born_at > 0 else MODULE
        is_of_loop = self._held.is_of_loop(binding.name)
        if binding.scope in (MODULE, born_in):
            is_steady = self._held.is_steady(binding.scope, binding.name)
            if is_of_loop and not is_steady:
                return _STEADY - 1 - min(2 * length + is_own, _STEADY - 2)  # (``p``, of each parameter in its turn)
            is_steady = is_steady and not is_of_loop
            steady = _STEADY if is_steady else 0
            return _VISIBLE * _STEPS + steady + _STEADY - 1 - min(2 * length + is_own, _STEADY - 1)
        if is_parameter:
            return _ELSEWHERE * _STEPS + min(2 * length + (not is_own), _STEADY - 1)
        return _ELSEWHERE * _STEPS + _STEADY - 1 - min(2 * length + is_own, _STEADY - 1)

    def _length(self, name: int) -> tuple[int, bool]:
        """How many steps lead from a frame to what a name holds, and whether others as long come first.

        Those of a method's object do, and those of a module before those of a dict that holds what it has, too.
        """
        text = self._strings[name]
        return text.count(".") + text.count("["), text.startswith(_OWN) or "[" in text

    @cached_property
    def best(self) -> array[int]:
        """The text id of each tensor's best name; NONE for a tensor that no name held.

        In loops only the first runs of a call are matched with names, then ever fewer: the results of the others have
        the best name that the same result had in an earlier run; one that another function stored, where a call takes
        them that read it under that name.
        """
        return self._repeated[0]

    @property
    def _ranks(self) -> array[int]:
        return self._repeated[1]

    @cached_property
    def _repeated(self) -> tuple[array[int], array[int], bytearray]:
        best, ranks, by_module = self._seen[0][:], self._seen[1][:], self._seen[2][:]
        stored_as, at_birth = dict[int, tuple[int, int, int]](), _AT_BIRTH * _STEPS
        read_as, reads = dict[tuple[int, int], set[int]](), self._reads(best)
        for tensor, slot in enumerate(self.slots):
            if slot < 0:
                continue
            rank, name, is_modules = stored_as.get(slot, (0, NONE, 0))
            if ranks[tensor] >= rank:
                stored_as[slot] = ranks[tensor], best[tensor], by_module[tensor]
                if 0 < ranks[tensor] < at_birth:
                    read_as.setdefault((slot, best[tensor]), set()).update(reads.get(tensor, ()))
            elif rank == at_birth or (not ranks[tensor] and not read_as[slot, name].isdisjoint(self._takers(tensor))):
                best[tensor], ranks[tensor], by_module[tensor] = name, rank, is_modules
        for tensor, earlier in named_in_other_rounds(self._index, self._seen[0]).items():
            best[tensor], ranks[tensor], by_module[tensor] = best[earlier], ranks[earlier], by_module[earlier]
        return best, ranks, by_module

    def _reads(self, best: array[int]) -> dict[int, set[int]]:
        """For each tensor the calls in the source that were seen to read it under its best name."""
        bindings, reads = self._index.recording.bindings, dict[int, set[int]]()
        columns = (bindings.column(name) for name in ("name", "tensor", "span", "kind"))
        for name, tensor, span, kind in zip(*columns, strict=True):
            if kind == BindingKind.LOAD and name == best[tensor]:
                reads.setdefault(tensor, set()).add(span)
        return reads

    def _takers(self, tensor: int) -> set[int]:
        """The calls in the source that took a tensor.

        A name that another function stored (``q = critic(x)``) is that of what a call there reads under it, and not of
        what the same function gave to somebody else.
        """
        spans = self._index.recording.ops.column("span")
        return {spans[op] for op in (*self._index.users.of(tensor), *self._started_by.get(tensor, ()))}

    @cached_property
    def _started_by(self) -> dict[int, list[int]]:
        """The backward passes that started from each tensor."""
        started: dict[int, list[int]] = {}
        for op, roots in self._index.roots.items():
            for root in roots:
                started.setdefault(root, []).append(op)
        return started

    @cached_property
    def slots(self) -> array[int]:
        """For each tensor, an id that it shares with the same result of the same call in other runs."""
        at_birth = _AT_BIRTH * _STEPS
        return find_slots(self._index, bytearray(rank == at_birth for rank in self._seen[1]))

    @cached_property
    def visible(self) -> bytearray:
        """1 for each tensor whose best name is one that the scope holds where it was made, if that was seen."""
        pairs = zip(self._ranks, self._index.recording.tensors.column("flags"), strict=True)
        return bytearray(
            0 < rank < _STEADY or rank >= (_ELSEWHERE if flags & EXTERNAL else _VISIBLE) * _STEPS
            for rank, flags in pairs
        )

    def at(self, tensor: int, op: int) -> str:
        """What the frame that ran an op calls a tensor; a name from elsewhere for one that was made elsewhere."""
        if not 0 <= op < self._index.op_count or tensor < 0:
            return self.of(tensor)
        name = self.held_at(tensor, op)
        if name.endswith("]"):
            # (in a long loop names are looked at ever more rarely: the last round's loss is seen in a list alone)
            usual = self._held_in_other_runs(tensor, op)
            return usual if usual.isidentifier() else name
        return name or self._from_elsewhere(tensor, op)

    def held_at(self, tensor: int, op: int) -> str:
        """The name under which the frame that ran an op held a tensor; empty where none was seen.

        For the number of ops it is the module's, when the run was over.
        The names that its function holds come first, then the module's: of each those that are no item of a container,
        those of no loop that holds one tensor after the other at this statement, then those that nothing stored since
        they were seen, then the steady ones, those that the statement reads itself, the shortest, and what it was seen
        under last.
        """
        held, strings = self._held, self._strings
        statement = self._index.op_statement[op] if op < self._index.op_count else NOWHERE
        is_born_here = self._born_at(tensor) == statement
        found: tuple[tuple[bool, bool, bool, bool, bool, bool, int, bool, int], int] | None = None
        for binding in held.of_tensor.get(tensor, ()):
            is_own = is_born_here and binding.statement == statement
            if is_own and binding.stored:
                return strings[binding.name]
            is_global = binding.scope != held.scopes[statement]
            is_held = is_own or held.is_held(binding, tensor, op, statement)
            if not is_held or (is_global and binding.scope != MODULE):
                continue
            is_of_loop = held.is_of_loop(binding.name)
            varies = is_of_loop or not held.is_steady(binding.scope, binding.name)
            varies_here = is_of_loop and held.varies_at(statement, binding.name)
            seen = -binding.op if binding.op <= op else 0
            is_unread = binding.stored or binding.statement != statement
            is_old = held.is_stored_between(binding, statement)
            # What a list keeps of each round is called as the round calls it: loss, and not losses[199].
            is_second = is_of_loop or is_old or strings[binding.name].endswith("]")
            rank = (is_global, is_second, varies_here, is_old, varies, is_unread, *self._length(binding.name), seen)
            if found is None or rank < found[0]:
                found = (rank, binding.name)
        return strings[found[1]] if found is not None else ""

    def _from_elsewhere(self, tensor: int, op: int) -> str:
        """The name of a tensor that no name of the frame was seen to hold, or that has one by repetition only."""
        name, born_at = self.of(tensor), self._born_at(tensor)
        if self.best[tensor] < 0:
            return name
        if born_at == self._index.op_statement[op] and (stored := self._held.as_stored(tensor, born_at)):
            return stored
        is_matched = tensor in self._held.of_tensor
        made_at, flags = (self._index.recording.tensors.column(column)[tensor] for column in ("op", "flags"))
        if born_at == self._index.op_statement[op] and not flags & EXTERNAL:
            least, scope = _AT_BIRTH if is_matched else _VISIBLE, self._held.scopes[born_at]
            # (the module's name of what a function gave may be one that the function has for another)
            is_others = self._repeated[2][tensor] and scope != MODULE and self._held.holds(scope, self.best[tensor])
            is_its = (self._ranks[tensor] >= least * _STEPS and not is_others) or self._is_part(tensor)
            return name if is_its else self._described(tensor)
        if repeated := self._held_in_other_runs(tensor, op):
            return repeated
        if is_matched and (held_here := self._without_own(tensor, op)):
            return held_here
        line = self._index.op_line(made_at) if born_at > 0 else self._line_of_store(tensor)
        if line and (self._held.is_taken(self.best[tensor], made_at, op) or self._is_given_again(tensor, op)):
            return f"{name} of line {line}"
        return name

    def _held_in_other_runs(self, tensor: int, op: int) -> str:
        """What the frame that ran an op held the same result as in the last run of which names were looked at."""
        slot, statement = self.slots[tensor], self._index.op_statement[op]
        if slot < 0 or op in self._looked_at:
            return ""
        ops, made_at = self._ops_of_statement(statement), self._index.recording.tensors.column("op")
        for matched in (self._matched_of_slot.get((slot, one), ()) for one in (statement, NOWHERE)):
            if at := bisect_left(matched, tensor):
                then = bisect_left(ops, made_at[matched[at - 1]])
                name = self.held_at(matched[at - 1], ops[then]) if then < len(ops) else ""
                is_stored = bool(name) and self._is_stored_anew(matched[at - 1], tensor, name)
                if name and (is_stored or not self._is_held_on(matched[at - 1], name, op)):
                    return name
        return ""

    def _is_stored_anew(self, before: int, tensor: int, name: str) -> bool:
        """Whether the statement that made two tensors stores what it makes under a name, which is the later one's."""
        born_at, strings = self._born_at(before), self._strings
        return self._born_at(tensor) == born_at and any(
            binding.stored and binding.statement == born_at and strings[binding.name] == name
            for binding in self._held.of_tensor.get(before, ())
        )

    def _is_held_on(self, tensor: int, name: str, op: int) -> bool:
        """Whether a tensor has a name still: it is another item of one list, and not the result of a run before."""
        died = self._index.recording.tensors.column("died")[tensor]
        return not 0 <= died <= op and self.held_at(tensor, op) == name

    @cached_property
    def _looked_at(self) -> frozenset[int]:
        """The ops at which names of their own statements were looked at and found."""
        at, statements = self._index.op_statement, self._index.statement_of_span
        columns = (self._index.recording.bindings.column(name) for name in ("op", "span"))
        return frozenset(op for op, span in zip(*columns, strict=True) if op < len(at) and at[op] == statements[span])

    @cached_property
    def _matched_of_slot(self) -> dict[tuple[int, int], list[int]]:
        """By slot and statement the tensors that were seen under a name there, in order; by slot and NOWHERE all."""
        found: dict[tuple[int, int], list[int]] = {}
        for tensor, bindings in sorted(self._held.of_tensor.items()):
            if self.slots[tensor] >= 0:
                for statement in {NOWHERE, *(binding.statement for binding in bindings)}:
                    found.setdefault((self.slots[tensor], statement), []).append(tensor)
        return found

    def _ops_of_statement(self, statement: int) -> array[int]:
        """The ops of a statement, in order."""
        if not self._by_statement:
            for op, at in enumerate(self._index.op_statement):
                self._by_statement.setdefault(at, array("i")).append(op)
        return self._by_statement.get(statement, array("i"))

    def _is_given_again(self, tensor: int, op: int) -> bool:
        """Whether the module gave the name of a tensor to another one that it made after this, up to an op."""
        if not self._repeated[2][tensor]:
            return False
        births, made_at = self._births.get(self.best[tensor], array("i")), self._index.recording.tensors.column("op")
        return bisect_right(births, op) > bisect_right(births, made_at[tensor])

    @cached_property
    def _births(self) -> dict[int, array[int]]:
        """By name of the module's the ops that made what it was given to at once, in order."""
        best, ranks, by_module = self._repeated
        made_at = self._index.recording.tensors.column("op")
        births: dict[int, array[int]] = {}
        for tensor, (name, rank, is_modules) in enumerate(zip(best, ranks, by_module, strict=True)):
            if is_modules and rank == _AT_BIRTH * _STEPS:
                births.setdefault(name, array("i")).append(made_at[tensor])
        return births

    def _line_of_store(self, tensor: int) -> int:
        """The line that stored a tensor under its best name, first seen or the only one there is; 0 for none known."""
        named = [one for one in self._held.of_tensor.get(tensor, ()) if one.name == self.best[tensor]]
        stores = [self._index.statements[one.statement].line for one in named if one.stored]
        only = {line for one in named for line in self._held.lines_that_store(one)}
        return stores[0] if stores else only.pop() if len(only) == 1 else 0

    def _without_own(self, tensor: int, op: int) -> str:
        """What to call a tensor whose best name begins with one that the frame has for something else; else empty.

        A method's ``self`` is what it is to another method of the class.
        """
        held, statement = self._held, self._index.op_statement[op]
        kind = self._class_of(statement)
        is_methods_own = bool(kind) and self._strings[self.best[tensor]].startswith(_OWN)
        if not is_methods_own and not held.has_own(statement, self.best[tensor]):
            return ""
        others = [
            binding
            for binding in held.of_tensor[tensor]
            if binding.scope != held.scopes[statement] and not held.is_of_loop(binding.name)
        ]
        alike = [
            binding
            for binding in others
            if kind and self._strings[binding.name].startswith(_OWN) and self._class_of(binding.statement) == kind
        ]
        free = [binding for binding in others if not held.has_own(statement, binding.name)]
        for several in (alike, free):
            if several:
                return self._strings[min(several, key=lambda one: self._length(one.name)).name]
        return ""

    def _class_of(self, statement: int) -> str:
        """The class of the method that a statement stands in; empty for other functions."""
        return self._strings[self._index.statements[statement].function].rpartition(".")[0]

    def _born_at(self, tensor: int) -> int:
        """The statement that made a tensor; NONE where no call was seen that did."""
        op = self._index.recording.tensors.column("op")[tensor]
        is_outside = self._index.recording.tensors.column("flags")[tensor] & EXTERNAL
        is_seen = op < self._index.op_count and (not is_outside or self._index.is_new_parameter(tensor))
        return self._index.op_statement[op] if is_seen else NONE

    def of(self, tensor: int) -> str:
        """The best name of a tensor, or what made it: ``<y.detach()>``, ``<pow>``; empty for NONE."""
        if tensor < 0:
            return ""
        seen, ending = {tensor}, ""
        while self.best[tensor] < 0 and (owner := self._gradient_owner.get(tensor, tensor)) not in seen:
            seen.add(owner)  # two tensors may be each other's gradient
            tensor, ending = owner, f"{ending}.grad"
        return self._own_name(tensor) + ending

    def _own_name(self, tensor: int) -> str:
        name = self.best[tensor]
        if name < 0:
            return self._described(tensor)
        text = self._strings[name]
        is_parts = text.startswith(_OWN) and self._index.recording.tensors.column("flags")[tensor] & PARAMETER
        return self._outermost(tensor) or text if is_parts else text

    def _outermost(self, tensor: int) -> str:
        """The longest name of a parameter that does not begin with a method's object, nor with a loop's variable."""
        held, strings = self._held, self._strings
        names = {binding.name for binding in held.of_tensor.get(tensor, ()) if not held.is_of_loop(binding.name)}
        others = [text for text in map(strings.__getitem__, names) if not text.startswith(_OWN) and "." in text]
        return max(others, key=lambda text: (self._depth(text), text), default="")

    @staticmethod
    def _depth(text: str) -> int:
        return text.count(".") + text.count("[")

    def _described(self, tensor: int) -> str:
        """What made a tensor without a name."""
        tensors = self._index.recording.tensors
        if tensors.column("flags")[tensor] & EXTERNAL:
            swapped = self._swapped.get((tensors.column("storage")[tensor], tensors.column("layout")[tensor]), NONE)
            is_parameter = tensors.column("flags")[tensor] & PARAMETER
            return self._own_name(swapped) if swapped >= 0 and is_parameter else "<unnamed>"
        op = tensors.column("op")[tensor]
        if self._is_inside(tensor, op):
            return f"<made in {self._index.call_name(op)}>"
        source = self._index.span_source(op, exact=True)
        is_short = 0 < len(source) <= SOURCE_AS_NAME and not source.startswith(_IMPORTS)
        is_result = is_short and self._is_result(tensor, op)
        return f"<{source if is_result else self._index.call_name(op).removeprefix('Tensor.')}>"

    @cached_property
    def _swapped(self) -> dict[tuple[int, int], int]:
        """By memory and layout a parameter that has a name: what ``swap_tensors`` gave it has the same memory."""
        tensors = self._index.recording.tensors
        columns = (tensors.column(name) for name in ("storage", "layout", "flags"))
        return {
            (storage, layout): tensor
            for tensor, (storage, layout, flags) in enumerate(zip(*columns, strict=True))
            if storage >= 0 and flags & PARAMETER and self.best[tensor] >= 0
        }

    def _is_part(self, tensor: int) -> bool:
        """Whether a module's initialisation made a tensor that the module was seen to hold: a buffer."""
        op = self._index.recording.tensors.column("op")[tensor]
        return self._index.func(op).endswith(".__init__") and "." in self._strings[self.best[tensor]]

    def _is_inside(self, tensor: int, op: int) -> bool:
        """Whether a tensor is one that torch's own Python made on its way to what it gave, which comes last."""
        is_group = op < self._index.op_count and self._index.recording.ops.column("kind")[op] == OpKind.GROUP
        if not is_group or self._index.func(op).endswith(_ITERATES):
            return False
        stored = self._seen[1]
        is_other = any(stored[one] == _AT_BIRTH * _STEPS for one in self._index.tensors_made(op))
        return is_other or self._index.places_in_call[tensor] != -1

    def _is_result(self, tensor: int, op: int) -> bool:
        """Whether a tensor is what the call in the source gave, as far as is known, and no step on its way.

        A module's layers, or what a library's function calls, are ops of one span: the last is what it gives. Those of
        the next element of a comprehension may follow at once.
        """
        spans, funcs = (self._index.recording.ops.column(name) for name in ("span", "func"))
        last = op
        while last + 1 < self._index.op_count and spans[last + 1] == spans[op] and last < op + _OPS_OF_CALL:
            last += 1
        taken = self._index.users.of(tensor)
        return funcs[last] == funcs[op] and not any(op < taker <= last for taker in taken)

    @cached_property
    def of_parameters(self) -> frozenset[str]:
        """Names of all parameters: a beginning that stands for some of them must not seem to stand for others."""
        flags = self._index.recording.tensors.column("flags")
        return frozenset(self.of(tensor) for tensor, flag in enumerate(flags) if flag & PARAMETER)

    def is_named(self, tensor: int) -> bool:
        """Whether the program was seen to hold the tensor under a name."""
        return self.best[tensor] >= 0

    @cached_property
    def _gradient_owner(self) -> dict[int, int]:
        gradients = self._index.recording.gradients
        owners = zip(gradients.column("grad"), gradients.column("tensor"), strict=True)
        return {gradient: owner for gradient, owner in owners if gradient >= 0 and gradient != owner}

    def all_of(self, tensors: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Every name of each of some tensors, the best first."""
        wanted = {tensor: [self.of(tensor)] if self.is_named(tensor) else [] for tensor in tensors}
        bindings = self._index.recording.bindings
        for name, tensor in zip(bindings.column("name"), bindings.column("tensor"), strict=True):
            if tensor in wanted and (text := self._strings[name]) not in wanted[tensor]:
                wanted[tensor].append(text)
        return {tensor: tuple(names) for tensor, names in wanted.items()}
