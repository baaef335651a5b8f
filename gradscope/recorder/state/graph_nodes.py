"""Autograd's graph: nodes, edges and what they save, as numbers and names; no node object is kept.

A node has no weak references, and holding one keeps all that it saved alive. Its identity is ``_sequence_nr()``, which
counts up in each thread; ``AccumulateGrad`` has none of its own and is known by its leaf.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from gradscope.recorder.state.foreign_memory import ForeignMemory
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.moves import Moves, change_from, numbers
from gradscope.recorder.state.node_numbers import OlderNumbers
from gradscope.recorder.state.pole_looks import Pole, PoleLooks, pole_of
from gradscope.recorder.state.same_numbers import SameNumbers
from gradscope.recorder.state.tensors_in import PLAIN, tensors_in
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, sequence_number
from gradscope.recorder.torch_internals.saved_now import saves_without_hooks
from gradscope.recording.rows import TensorFlag
from gradscope.recording.tables import NONE

_NO_SEQUENCE = 2**63
_NEVER = 2**64
LATER = _NO_SEQUENCE
"""As ``since``: every node was there before the op."""
_NODE_WIDTH = 3
_SAVED_WIDTH, _SAVED_STORAGE = 5, 2
_EXTERNAL_LEAF = int(TensorFlag.REQUIRES_GRAD | TensorFlag.LEAF | TensorFlag.EXTERNAL)
_CTX_NAMES = frozenset(("saved_tensors", "to_save", "non_differentiable", "dirty_tensors", "needs_input_grad"))


@cache
def _saved_attributes(kind: type) -> tuple[str, ...]:
    """The attributes in which nodes of a type of torch's may keep tensors."""
    return tuple(one for one in dir(kind) if one.startswith("_saved_") and hasattr(kind, "_raw" + one))


class _Numbers:
    """Rows of the nodes of one thread, by sequence number."""

    def __init__(self) -> None:
        self.begun = self.first = sequence_number()
        """The number that it gave first while it was recorded, and the first one in ``rows``."""
        self.rows = array("i", ())
        """From ``first`` on; NONE for what was not seen."""
        self.single: dict[int, int] = {}
        """Those below ``first`` that were seen after."""
        self.older = OlderNumbers()

    def older_row(self, number: int) -> int:
        """The row of a node below ``first``, or NONE."""
        row = self.single.get(number)
        return self.older.row(number) if row is None else row

    def put_aside(self, start: int) -> None:
        """Keep the rows that repeat, now that no row from one on is of a period that was taken out, once."""
        rows = numbers(self.rows)
        old = ((rows != NONE) & (rows < start)).nonzero()
        count = int(old[-1]) + 1 if len(old) else 0
        self.older.add(self.first, self.rows[:count])
        del self.rows[:count]
        self.first += count


class GraphNodes:
    """The nodes seen so far.

    Args:
        tape: Where rows go.
        identity: Tensors and storages seen so far.
        on_function: Called for each node of a custom Function with its type, its name and the thread's number.
    """

    __slots__ = ("__dict__", "__weakref__", "_accumulators", "_by_sequence", "_foreign", "_older", "begun", "first")

    def __init__(
        self, tape: Tape, identity: Identity, on_function: Callable[[type, str, int], None] | None = None
    ) -> None:
        self.tape = tape
        self.identity = identity
        self._on_function = on_function
        self._of_threads = {0: _Numbers()}
        self._thread = 0
        self.begun = self.first = self._of_threads[0].begun
        """Nodes of this thread with a lower sequence number were made before the recording; the first of whose rows
        are in ``_by_sequence``."""
        self._by_sequence = self._of_threads[0].rows
        self._older = self._of_threads[0].single
        self._accumulators: dict[int, int] = {}
        self._without_number: set[int] = set()
        self._types: dict[type, tuple[int, tuple[tuple[str, int], ...] | None]] = {}
        self._with_poles: dict[type, tuple[Pole, tuple[tuple[str, int], ...]]] = {}
        """The attributes of types that the native core leaves to Python, as it does with Functions of the user's."""
        self._poles = PoleLooks(tape)
        self._node_rows = tape.pending["nodes"]
        self._edge_rows = tape.pending["edges"]
        self._saved_rows = tape.pending["saved"]
        self._foreign: ForeignMemory | None = None
        self._same_numbers = SameNumbers(tape, self._candidates, self.op_of)

    def turn_to(self, thread: int) -> None:
        """Number nodes as the calling thread does from now on."""
        if thread not in self._of_threads:
            self._of_threads[thread] = _Numbers()
        self._thread = thread
        own = self._of_threads[thread]
        self.begun, self.first, self._by_sequence, self._older = own.begun, own.first, own.rows, own.single

    def move(self, moves: Moves) -> None:
        """Know nodes by their new rows."""
        nodes, tensors = moves["nodes"], moves["tensors"]
        for thread in self._of_threads.values():
            change_from(thread.rows, len(thread.rows), nodes.start, nodes.of_all)
            thread.single.update({number: nodes(row) for number, row in thread.single.items()})
            thread.older.move(nodes)
            thread.put_aside(nodes.start)
        self.turn_to(self._thread)
        self._accumulators = {tensors(leaf): nodes(row) for leaf, row in self._accumulators.items()}
        self._without_number = {nodes(row) for row in self._without_number}

    @property
    def has_one_thread(self) -> bool:
        """Whether one thread alone has made nodes; numbers of several repeat."""
        return len(self._of_threads) == 1

    def row_of(self, node: Any) -> int:
        """The row of a node that was seen, or NONE."""
        sequence = node._sequence_nr()
        return self._known(sequence) if self.has_one_thread else self._same_numbers.row_of(node)

    def op_of(self, row: int) -> int:
        """The op that made a node, or at which it was first seen."""
        ops = self.tape.recording.nodes.column("op")
        return ops[row] if row < len(ops) else self._node_rows[(row - len(ops)) * _NODE_WIDTH]

    def enter(
        self, root: Any, op: int, since: int, read_saved: bool, known: int = NONE, inputs: Sequence[Any] = ()
    ) -> int:
        """The row of a node; it and what leads to it are entered where they are unknown.

        Args:
            root: A ``grad_fn``.
            op: The op that made it.
            since: Nodes with a lower sequence number were there before the op: what they saved is read only where
                they can tell that no hook was in force when they were made.
            read_saved: No saved-tensor hooks are in force.
            known: The row that it has if it is still the node of the tensor that it was, or NONE.
            inputs: What the op took, where that is known: the node leads to theirs.
        """
        by_sequence, first = self._by_sequence, self.first
        sequence = root._sequence_nr()
        position = sequence - first
        # A tensor that was just made has a node that is not known: the usual case, so it is asked for first.
        if known != NONE and len(self._of_threads) > 1 and known in self._rows_at(sequence):
            return known
        if sequence >= _NO_SEQUENCE:
            row = self._unnumbered(root)
        elif len(self._of_threads) > 1 and not (inputs and sequence >= since):  # maybe another thread's
            row = self._same_numbers.row_of(root)
        else:
            row = self._known(sequence) if position != len(by_sequence) else NONE
        if row != NONE:
            return row
        row = self._new(root, sequence, op)
        readable_from = since if read_saved else _NEVER
        if read_saved and dispatch_modes():
            with no_dispatch():  # unpacking an output detaches it, which the program's mode would see
                self._complete(root, sequence, row, op, since, readable_from, inputs)
        else:
            self._complete(root, sequence, row, op, since, readable_from, inputs)
        return row

    def _complete(
        self, node: Any, sequence: int, row: int, op: int, since: int, readable_from: int, inputs: Sequence[Any]
    ) -> None:
        """Enter the edges of a new node and what it saved, and so on for every new node that it leads to.

        Written out in one piece: in a training step it runs for every node of the graph.
        """
        todo: list[tuple[Any, int, int]] = []
        unnumbered: list[tuple[Any, int]] = []
        edge_rows, by_sequence, first, begun = self._edge_rows, self._by_sequence, self.first, self.begun
        several_threads = len(self._of_threads) > 1
        while True:
            for following, _ in node.next_functions:
                if following is None:
                    edge_rows += (row, NONE)
                    continue
                number = following._sequence_nr()
                if number >= _NO_SEQUENCE:
                    target = self._accumulator(following, op)
                elif several_threads:
                    target = self._following(following, number, since, inputs)
                elif 0 <= number - first < len(by_sequence):
                    target = by_sequence[number - first]
                else:
                    target = self._known(number)
                if target == NONE and number >= _NO_SEQUENCE:  # no tensor has it: edges of this graph lead to it
                    target = next((known for met, known in unnumbered if met is following), NONE)
                if target == NONE:
                    target = self._new(following, number, op)
                    if number >= _NO_SEQUENCE:
                        unnumbered.append((following, target))
                    todo.append((following, number, target))
                edge_rows += (row, target)
            if sequence >= readable_from:
                self._read_saved(node, row, op)
            elif readable_from != _NEVER and begun <= sequence < _NO_SEQUENCE and saves_without_hooks(node):
                self._read_saved(node, row, op)  # of a call that was not seen: a scripted function, a Function's apply
            if not todo:
                return
            node, sequence, row = todo.pop()

    def _following(self, node: Any, sequence: int, since: int, inputs: Sequence[Any]) -> int:
        """The row of a node to which one that an op has just made leads, where numbers repeat; NONE if it is new too.

        Most are those of the op's inputs, which know them. Of the others those with a number of this call are its own.
        """
        name = self._name_of_type(node)
        known = {row for row in self._rows_at(sequence) if row != NONE and self._name_of(row) == name}
        for tensor in tensors_in(inputs) if known else ():
            seen = self.identity.tensors.get(id(tensor))
            is_one = seen is not None and seen.node in known and type(tensor) in PLAIN
            if is_one and (tensor._is_view() or tensor.grad_fn is node):  # (asking a view may make its node anew)
                return seen.node  # type: ignore[union-attr]
        return self._known(sequence) if inputs and sequence >= since else self._same_numbers.row_of(node)

    def _candidates(self, node: Any) -> list[int]:
        """The rows that a node may have where several threads make nodes: their numbers repeat."""
        sequence = node._sequence_nr()
        if sequence < _NO_SEQUENCE:
            name = self._name_of_type(node)
            return [row for row in self._rows_at(sequence) if row != NONE and self._name_of(row) == name]
        seen = self.identity.tensors.get(id(getattr(node, "variable", None)))
        row = self._unnumbered(node) if seen is None else self._accumulators.get(seen.row, NONE)
        return [] if row == NONE else [row]

    def _name_of_type(self, node: Any) -> int:
        return (self._types.get(type(node)) or self._describe(node))[0]

    def _rows_at(self, sequence: int) -> Iterator[int]:
        """The node with a number in each thread, or NONE; the thread's that numbers now comes first."""
        own = self._of_threads[self._thread]
        for thread in (own, *(other for other in self._of_threads.values() if other is not own)):
            position = sequence - thread.first
            yield thread.rows[position] if 0 <= position < len(thread.rows) else thread.older_row(sequence)

    def _name_of(self, row: int) -> int:
        names = self.tape.recording.nodes.column("name")
        return names[row] if row < len(names) else self._node_rows[(row - len(names)) * _NODE_WIDTH + 1]

    def _known(self, sequence: int) -> int:
        position = sequence - self.first
        if sequence >= _NO_SEQUENCE:
            return NONE
        if position < 0:
            return self._older_row(sequence)
        return self._by_sequence[position] if position < len(self._by_sequence) else NONE

    def _older_row(self, sequence: int) -> int:
        return self._of_threads[self._thread].older_row(sequence)

    def _accumulator(self, node: Any, op: int) -> int:
        """Row of an ``AccumulateGrad``, by its leaf, or of another node without a sequence number; NONE if unknown."""
        try:
            variable = node.variable
        except AttributeError:
            return self._unnumbered(node)
        seen = self.identity.tensors.get(id(variable)) or self.identity.add(variable, op, NONE, _EXTERNAL_LEAF, ())
        row = self._accumulators.get(seen.row)
        if row is None:
            row = self._accumulators[seen.row] = self._new(node, _NO_SEQUENCE, op, seen.row)
        return row

    def _unnumbered(self, node: Any) -> int:
        """Row of a node without a sequence number, which raises when it runs: that of a tensor which has it now.

        Such nodes are made of what torch has no derivative for, and are rare enough to look at every tensor.
        """
        if not self._without_number:
            return NONE
        for seen in list(self.identity.tensors.values()):
            if seen.node in self._without_number:
                tensor = seen()
                if tensor is None or type(tensor) not in PLAIN or tensor._is_view():
                    continue
                if tensor.grad_fn is node:
                    return seen.node
        return NONE

    def _new(self, node: Any, sequence: int, op: int, variable: int = NONE) -> int:
        known = self._types.get(type(node)) or self._describe(node)
        tape = self.tape
        row = tape.node_count
        tape.node_count = row + 1
        self._node_rows += (op, known[0], variable)
        by_sequence = self._by_sequence
        position = sequence - self.first
        if position == len(by_sequence):
            by_sequence.append(row)
        elif sequence >= _NO_SEQUENCE:
            if variable == NONE:
                self._without_number.add(row)
            return row
        elif position < 0:
            self._older[sequence] = row
        else:
            missing = position + 1 - len(by_sequence)
            if missing > 0:
                by_sequence.extend([NONE] * missing)
            by_sequence[position] = row
        return row

    def _describe(self, node: Any) -> tuple[int, tuple[tuple[str, int], ...] | None]:
        """Name of a node's type, and the attributes in which it may keep tensors; None for a Function of the user's and
        for what is looked at, too."""
        kind: type = type(node)
        known = self._types.get(kind)
        if known is None:
            name = kind.__name__
            is_users = hasattr(kind, "_forward_cls")
            if is_users or name == "CppFunction":  # its class is not kept, and each has its own name
                own_name = node.name().rpartition("::")[2]
                if is_users and self._on_function is not None:
                    self._on_function(kind, own_name, self._thread)
                return self.tape.text(own_name), None if is_users else ()
            text = self.tape.text
            attributes = tuple((one, text(one.removeprefix("_saved_"))) for one in _saved_attributes(kind))
            pole = pole_of(kind)
            if pole is not None:
                self._with_poles[kind] = pole, attributes
            known = self._types[kind] = (text(name), attributes if pole is None else None)
        return known

    def _read_saved(self, node: Any, row: int, op: int) -> None:
        attributes = (self._types.get(type(node)) or self._describe(node))[1]
        with_pole = self._with_poles.get(type(node))
        if with_pole is not None:
            pole, attributes = with_pole
            self._poles.look(node, pole, op, self._thread)
        if attributes is None:
            with suppress(RuntimeError):  # what it saved was freed already
                self._read_saved_by_function(node, row, op)
            return
        tensors = self.identity.tensors
        for attribute, text in attributes:
            try:
                value = getattr(node, attribute)
            except RuntimeError:  # freed already: the first that is seen of the node is its backward pass
                return
            seen = tensors.get(id(value))
            if seen is not None:
                self._saved_rows += (row, text, seen.storage, seen.row, seen.nbytes)
            elif value is not None:
                self._note_saved(row, text, value, op)

    def look_at_saved(self, foreign: ForeignMemory) -> None:
        """From now on, look at memory that others can write when a node saves it."""
        self._foreign = foreign
        read = self._read_saved

        def reads(node: Any, row: int, op: int) -> None:
            saved = self._saved_rows
            begin = len(saved)
            read(node, row, op)
            for storage in saved[begin + _SAVED_STORAGE :: _SAVED_WIDTH]:
                foreign.look(storage, self._thread, op)

        self._read_saved = reads  # type: ignore[method-assign]

    def _read_saved_by_function(self, node: Any, row: int, op: int) -> None:
        """What a user's ``autograd.Function`` keeps: saved tensors, and tensors among the attributes of its ctx."""
        for tensor in node.saved_tensors or ():
            self._note_saved(row, self.tape.text("saved_tensors"), tensor, op)
        for name, value in vars(node).items():
            if name not in _CTX_NAMES and issubclass(type(value), Tensor):
                self._note_saved(row, self.tape.text(f"ctx.{name}"), value, op)

    def _note_saved(self, row: int, text: int, value: Any, op: int) -> None:
        seen = self.identity.tensors.get(id(value))
        if seen is not None:
            self._saved_rows += (row, text, seen.storage, seen.row, seen.nbytes)
        elif issubclass(type(value), Tensor):
            storage = self.identity.storage_of(value, op)
            self._saved_rows += (row, text, storage, NONE, self.identity.bytes_of(value))
        elif isinstance(value, (tuple, list)):
            for item in value:
                self._note_saved(row, text, item, op)
