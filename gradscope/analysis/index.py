"""Look-ups that several analyses need over one recording, each computed once, when first asked for.

A recording may hold millions of rows: everything here is columns and positions, never an object a row.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from functools import cached_property
from itertools import chain, pairwise
from typing import NamedTuple, TypeVar

from gradscope.analysis.report_model import Place
from gradscope.analysis.sorted_rows import SortedRows
from gradscope.analysis.worded_lines import FileNames, NamedLine
from gradscope.recording import NONE, Recording
from gradscope.recording.flags import CUT_VIEW, EXTERNAL, LEAF, MADE, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import Field, OpKind

K = TypeVar("K", bound=Hashable)

NOWHERE = 0
"""The statement of ops that no user frame made."""

WRAPS = re.compile(r"\bParameter\(")
"""In the source of a statement that wraps a tensor into a parameter."""

APPLIED = "Function.apply"
"""The op that stands for a custom Function of which only what it returned was seen."""
_WRITES_FIRST = re.compile(r"Tensor\.(__setitem__|__i(?!nvert__|nt__|ndex__)\w+__|[a-z]\w*[a-z0-9]_)")
"""Methods that write into their tensor and only read their arguments."""

_FLOATING = ("float", "bfloat", "complex", "double", "half")
"""What the names of dtypes begin with whose values have a gradient."""

_DROPPED = -1_000_000


_METHODS = {
    "__radd__": "add",
    "__rmul__": "mul",
    "__rsub__": "rsub",
    "__mul__": "mul",
    "__iadd__": "add_",
    "__isub__": "sub_",
    "__imul__": "mul_",
    "__itruediv__": "div_",
    "multiply": "mul",
    "multiply_": "mul_",
    "subtract": "sub",
    "subtract_": "sub_",
    "divide": "div",
    "divide_": "div_",
    "true_divide": "div",
    "true_divide_": "div_",
    "negative": "neg",
    "negative_": "neg_",
    "absolute": "abs",
    "absolute_": "abs_",
    "clip": "clamp",
    "clip_": "clamp_",
}
"""Other names of methods, those of operators among them."""


def as_method(func: str) -> str:
    """The name of a function as that of a method: ``Tensor.detach`` for ``torch.detach``, ``Tensor.mul`` for ``2 * x``.

    A function of torch's that is no method gets such a name too, ``Tensor.cat``; any other keeps its own.
    """
    owner, _, name = func.rpartition(".")
    return f"Tensor.{_METHODS.get(name, name)}" if owner in ("Tensor", "torch") else func


class Statement(NamedTuple):
    """A statement of the user's code, whatever spans of it made ops."""

    file: int
    line: NamedLine
    end_line: int
    function: int


class Index:
    """One recording, and the positions by which analyses find their way in it."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.op_count = len(recording.ops)

    # Statements and places

    @cached_property
    def statements(self) -> list[Statement]:
        """Every statement with a span; the first stands for "no user code"."""
        return self._statements_by_span[0]

    @cached_property
    def statement_of_span(self) -> list[int]:
        """The statement of each span; its last element is for NONE."""
        return self._statements_by_span[1]

    @cached_property
    def _statements_by_span(self) -> tuple[list[Statement], list[int]]:
        statements = [Statement(NONE, NamedLine(0), 0, 0)]
        ids: dict[tuple[int, int], int] = {}
        of_span = []
        for span in self.recording.spans:
            key = (span.file, span.stmt_line)
            known = ids.get(key)
            if known is None:
                known = ids[key] = len(statements)
                line = self.line(span.file, span.stmt_line)
                statements.append(Statement(span.file, line, span.stmt_end_line, span.function))
            of_span.append(known)
        return statements, [*of_span, NOWHERE]

    @cached_property
    def op_statement(self) -> array[int]:
        """The statement of each op."""
        return array("i", map(self.statement_of_span.__getitem__, self.recording.ops.column("span")))

    def place(self, statement: int) -> Place:
        """A statement as a report shows it."""
        where = self.statements[statement]
        if where.file == NONE:
            return Place("", NamedLine(0), 0, "", "")
        name = self.recording.files[where.file].name
        source = self.recording.source(where.file, where.line, where.end_line)
        return Place(name, where.line, where.end_line, self.recording.text(where.function), source)

    def op_place(self, op: int) -> Place:
        """The statement of an op; nowhere for the op after the last."""
        return self.place(self.op_statement[op] if 0 <= op < self.op_count else NOWHERE)

    def op_line(self, op: int) -> NamedLine:
        """The line of an op's own span; 0 where there is none."""
        return self._span_lines[self.recording.ops.column("span")[op] if 0 <= op < self.op_count else NONE]

    def span_line(self, span: int) -> NamedLine:
        """The line of a span; 0 for NONE."""
        return self._span_lines[span]

    @cached_property
    def _span_lines(self) -> list[NamedLine]:
        """The line of each span; the last element is for NONE."""
        files, lines = (self.recording.spans.column(name) for name in ("file", "line"))
        return [*map(self.line, files, lines), NamedLine(0)]

    def line(self, file: int, number: int) -> NamedLine:
        """A line of a file, as sentences name it."""
        return NamedLine(number, self._called[file] if file >= 0 else "")

    @cached_property
    def _called(self) -> tuple[str, ...]:
        return FileNames(self.recording).of

    def call_name(self, op: int) -> str:
        """The name of an op's function as people write it: ``Tensor.data`` for the read of a property."""
        return self.func(op).removesuffix(".__get__").removesuffix(".__set__")

    def span_source(self, op: int, exact: bool = False) -> str:
        """The source text that made an op's call, on one line.

        Where columns are unknown (on some lines, under Python 3.10): the whole lines or, with ``exact``, nothing.
        """
        span_id = self.recording.ops.column("span")[op] if 0 <= op < self.op_count else NONE
        if span_id < 0:
            return ""
        span = self.recording.spans[span_id]
        if exact and (span.col < 0 or span.end_col < 0):
            return ""
        text = self.recording.excerpt(span.file, span.line, span.end_line, span.col, span.end_col)
        return " ".join(text.split())

    def function_of(self, op: int) -> tuple[int, int]:
        """The file and the function (a text) of the user's in which an op was called."""
        statement = self.statements[self.op_statement[op]]
        return statement.file, statement.function

    def func(self, op: int) -> str:
        """The name of an op's function; empty for the op after the last."""
        return self._funcs[op] if 0 <= op < self.op_count else ""

    def method(self, op: int) -> str:
        """The name of an op's function as that of a tensor's method, however it was called: see :func:`as_method`."""
        return self._methods[op] if 0 <= op < self.op_count else ""

    @cached_property
    def _methods(self) -> list[str]:
        known: dict[str, str] = {}
        return [known.get(func) or known.setdefault(func, as_method(func)) for func in self._funcs]

    @cached_property
    def _funcs(self) -> list[str]:
        return list(map(self.recording.text, self.recording.ops.column("func")))

    def calls_of(self, fits: Callable[[str], object]) -> list[int]:
        """The ops, in order, of functions whose names fit; a name is asked about once."""
        found = [ops for func, ops in self._ops_by_func.items() if fits(self.recording.text(func))]
        return sorted(chain.from_iterable(found)) if len(found) > 1 else [op for ops in found for op in ops]

    def calls_of_methods(self, *names: str) -> list[int]:
        """The ops, in order, of functions that have one of some names as methods."""
        return self.calls_of(lambda func: as_method(func) in names)

    @cached_property
    def _ops_by_func(self) -> dict[int, array[int]]:
        return _positions(self.recording.ops.column("func"))

    def of_kind(self, *kinds: OpKind) -> list[int]:
        """The ops, in order, of some kinds."""
        return sorted(chain.from_iterable(self._ops_by_kind.get(kind, ()) for kind in kinds))

    @cached_property
    def _ops_by_kind(self) -> dict[int, array[int]]:
        return _positions(self.recording.ops.column("kind"))

    @cached_property
    def events_by_kind(self) -> dict[int, array[int]]:
        """The rows of events of each kind, in order."""
        return _positions(self.recording.events.column("kind"))

    @cached_property
    def weights(self) -> array[int]:
        """For each op how often it came: once, and as often as it stands for others that were alike and are not kept.

        The last element is for the end of the run.
        """
        weights = array("i", [1]) * (self.op_count + 1)
        for op, times in zip(*(self.recording.alike.column(name) for name in ("op", "times")), strict=True):
            weights[op] += times
        return weights

    def times(self, ops: Iterable[int]) -> int:
        """How often several ops came in all."""
        return sum(map(self.weights.__getitem__, ops))

    def times_made(self, tensors: Iterable[int]) -> int:
        """How many tensors were made as some were, with those that these stand for."""
        return self.times(map(self.recording.tensors.column("op").__getitem__, tensors))

    def kept_with(self, tensors: Iterable[int]) -> int:
        """How many tensors of some that live there are, with those that they stand for and that live as well."""
        storages = self.recording.tensors.column("storage")
        return sum(1 + self.alike_storages.get(storages[tensor], 0) for tensor in tensors)

    @cached_property
    def alike_storages(self) -> dict[int, int]:
        """For storages that lived at the end: how many others they stand for that did."""
        columns = (self.recording.alike_storages.column(name) for name in ("storage", "times"))
        return dict(zip(*columns, strict=True))

    def times_each(self, keys: Iterable[K]) -> dict[K, int]:
        """How often the ops with each key came; there is a key for each op, in order."""
        if not len(self.recording.alike):
            return Counter(keys)  # (in C)
        counts: dict[K, int] = {}
        for key, times in zip(keys, self.weights, strict=False):
            counts[key] = counts.get(key, 0) + times
        return counts

    @cached_property
    def call_counts(self) -> dict[tuple[int, int], int]:
        """How often each function was called from each span."""
        ops = self.recording.ops
        return self.times_each(zip(ops.column("span"), ops.column("func"), strict=True))

    def twin(self, func: int) -> str:
        """A function's name without the underscore: ``total += loss`` calls ``add`` where ``total`` is a number."""
        return self.recording.text(func).rstrip("_")

    @cached_property
    def places_in_call(self) -> array[int]:
        """For each tensor its place among those that its op made.

        Of a call into torch's Python they are counted from the last, -1: what it returns comes last, after more or
        fewer others (the samples of a batch). What it dropped by itself (an order of samples) has a place apart.
        """
        tensors, kinds = self.recording.tensors, self.recording.ops.column("kind")
        made_at, died, flags = (tensors.column(name) for name in ("op", "died", "flags"))
        places = array("i", bytes(4 * len(made_at)))
        for tensor in range(1, len(made_at)):
            if made_at[tensor] == made_at[tensor - 1]:  # (what was first seen there has no place)
                places[tensor] = places[tensor - 1] + (not flags[tensor - 1] & EXTERNAL)
        later, place = NONE, 0
        for tensor in range(len(made_at) - 1, -1, -1):
            op = made_at[tensor]
            if op != later:
                later, place = op, 0
            if op < self.op_count and kinds[op] == OpKind.GROUP:
                if 0 <= died[tensor] <= op + 1:
                    places[tensor] = _DROPPED
                else:
                    place -= 1
                    places[tensor] = place
        return places

    def calls_like(self, op: int) -> int:
        """How often the function of an op was called from its span."""
        ops = self.recording.ops
        return self.call_counts[ops.column("span")[op], ops.column("func")[op]]

    @cached_property
    def last_op(self) -> dict[int, int]:
        """The last op of each statement that made one."""
        return dict(zip(self.op_statement, range(self.op_count), strict=True))

    # Rows by op, by node, by storage

    @cached_property
    def uses(self) -> SortedRows:
        """Tensors that went into an op."""
        return SortedRows(self.recording.uses, "op", "tensor")

    @cached_property
    def users(self) -> SortedRows:
        """Ops that took in a tensor."""
        return SortedRows(self.recording.uses, "tensor", "op")

    @cached_property
    def results(self) -> SortedRows:
        """Tensors that came out of an op and existed before."""
        return SortedRows(self.recording.results, "op", "tensor")

    @cached_property
    def made(self) -> SortedRows:
        """Tensors by the op that made them or before which they were first seen."""
        return SortedRows(self.recording.tensors, "op", "")

    @cached_property
    def edges(self) -> SortedRows:
        """Next nodes of a node."""
        return SortedRows(self.recording.edges, "node", "next")

    @cached_property
    def saved(self) -> SortedRows:
        """Rows of ``saved`` by node."""
        return SortedRows(self.recording.saved, "node", "")

    @cached_property
    def roots(self) -> dict[int, list[int]]:
        """The tensors from which each backward pass (an op) started; none where it did so by an edge of one gone."""
        roots: dict[int, list[int]] = {op: [] for op in self.of_kind(OpKind.BACKWARD, OpKind.GRAD)}
        for row in self.recording.backwards:
            if row.root >= 0:
                roots.setdefault(row.op, []).append(row.root)
        return roots

    def root_nodes(self, op: int) -> list[int]:
        """The nodes from which a backward pass started."""
        return self._root_nodes.get(op, [])

    @cached_property
    def _root_nodes(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row in self.recording.backwards:
            if row.node >= 0:
                found.setdefault(row.op, []).append(row.node)
        return found

    @cached_property
    def creating_graphs(self) -> frozenset[int]:
        """The backward passes (ops) that were called with create_graph=True."""
        return frozenset(row.op for row in self.recording.backwards if row.create_graph == 1)

    @cached_property
    def gradients(self) -> SortedRows:
        """Rows of ``gradients`` by op."""
        return SortedRows(self.recording.gradients, "op", "")

    @cached_property
    def changes(self) -> SortedRows:
        """Rows of ``changes`` by op."""
        return SortedRows(self.recording.changes, "op", "")

    @cached_property
    def written_rows(self) -> array[int]:
        """Rows of ``changes`` that are writes in place, in order; see :mod:`gradscope.analysis.facts.writes`."""
        changes, version, past = self.recording.changes, int(Field.VERSION), (int(Field.WRITTEN), NONE, 1)
        columns = (changes.column(name) for name in ("field", "before", "after"))
        rows, found = enumerate(zip(*columns, strict=True)), self.found_versions
        written = array(
            "i",
            (
                row
                for row, change in rows
                if (change[0] == version and change[1] != change[2] and row not in found) or change == past
            ),
        )
        read = self._only_read(written)
        return array("i", (row for row in written if row not in read)) if read else written

    def _only_read(self, written: array[int]) -> set[int]:
        """Of rows of writes those of arguments that share the version counter of what was written, and were only read.

        ``w[3:] = w[:3]`` raises the counter that ``w[:3]`` has too, though its values stay as they were.
        """
        ops, tensors = (self.recording.changes.column(name) for name in ("op", "tensor"))
        read = set[int]()
        for before, row in pairwise(written):
            op = ops[row]
            if ops[before] != op or op >= self.op_count or not _WRITES_FIRST.fullmatch(self.func(op)):
                continue
            taken = self.uses.of(op)
            first = taken[0] if len(taken) else NONE
            pair = {tensors[before]: before, tensors[row]: row}
            if first in pair:
                storage = self.storage_at(first, op)
                read |= {at for one, at in pair.items() if one != first and self.storage_at(one, op) == storage}
        return read

    @cached_property
    def found_versions(self) -> frozenset[int]:
        """Rows of ``changes`` with the version at which a tensor was found that no seen op made: nobody wrote then.

        What the op at which it was found wrote itself has a row after that. Of one that was entered before an op set
        something of it, a version of 0 has no row, so that its first row may be the op's.
        """
        changes, kinds = self.recording.changes, self.recording.ops.column("kind")
        made_at, flags = self.recording.tensors.column("op"), self.recording.tensors.column("flags")
        columns = (changes.column(name) for name in ("op", "tensor", "field", "before"))
        rows: dict[int, int] = {}
        for row, (op, tensor, field, before) in enumerate(zip(*columns, strict=True)):
            is_first = field == Field.VERSION and not before and op == made_at[tensor] and flags[tensor] & EXTERNAL
            if is_first and (op >= self.op_count or kinds[op] != OpKind.SET):
                rows.setdefault(tensor, row)
        return frozenset(rows.values())

    @cached_property
    def moves(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor that was put on other memory: op and storage, in order (``model.cuda()``, ``x.data = y``)."""
        changes = self.recording.changes
        moves: dict[int, list[tuple[int, int]]] = {}
        columns = (changes.column(name) for name in ("tensor", "op", "field", "after"))
        for tensor, op, field, storage in zip(*columns, strict=True):
            if field == Field.STORAGE:
                moves.setdefault(tensor, []).append((op, storage))
        return moves

    @cached_property
    def _first_storages(self) -> array[int]:
        return self.recording.tensors.column("storage")

    def storage_at(self, tensor: int, op: int) -> int:
        """The storage that a tensor was on after an op."""
        storage = self._first_storages[tensor]
        if tensor not in self.moves:  # asked for every write of a run
            return storage
        for moved_at, after in self.moves[tensor]:
            if moved_at > op:
                break
            storage = after
        return storage

    @cached_property
    def changed_ops(self) -> dict[int, list[int]]:
        """For each tensor whose requires_grad an op changed: rows of those changes, in order."""
        changes = self.recording.changes
        rows: dict[int, list[int]] = {}
        columns = (changes.column(name) for name in ("tensor", "op", "field"))
        for row, (tensor, op, field) in enumerate(zip(*columns, strict=True)):
            if field == Field.REQUIRES_GRAD and op < self.op_count:  # not what was found when all ops were over
                rows.setdefault(tensor, []).append(row)
        return rows

    @cached_property
    def cleared_at(self) -> dict[int, list[int]]:
        """For each tensor whose ``.grad`` the program set to None: the ops that took a gradient from it, in order."""
        changes = self.recording.changes
        ops: dict[int, list[int]] = {}
        columns = (changes.column(name) for name in ("op", "tensor", "field", "before", "after"))
        for op, tensor, field, before, after in zip(*columns, strict=True):
            if field == Field.GRAD and before >= 0 > after:
                ops.setdefault(tensor, []).append(op)
        return ops

    def tensors_made(self, op: int) -> list[int]:
        """Tensors that an op made."""
        flags = self.recording.tensors.column("flags")
        return [tensor for tensor in self.made.of(op) if not flags[tensor] & EXTERNAL]

    def is_made_inside(self, tensor: int) -> bool:
        """Whether a tensor lies on memory that was allocated in the op at which the tensor was first seen."""
        op, storage = (self.recording.tensors.column(name)[tensor] for name in ("op", "storage"))
        storages = self.recording.storages
        return storage >= 0 and storages.column("op")[storage] == op and not storages.column("external")[storage]

    def is_new_parameter(self, tensor: int) -> bool:
        """Whether a module's initialisation made a parameter: it is seen from outside only."""
        op, flags = (self.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
        if not flags & PARAMETER or op >= self.op_count or self.recording.ops.column("kind")[op] != OpKind.GROUP:
            return False
        return self.is_made_inside(tensor)

    def made_by(self, tensor: int) -> int:
        """The op that made a tensor, or what a parameter wraps where the wrapping was not seen; NONE for others."""
        tensors, storages = self.recording.tensors, self.recording.storages
        op, flags, storage = (tensors.column(name)[tensor] for name in ("op", "flags", "storage"))
        if not flags & EXTERNAL:
            return op
        if not flags & PARAMETER or storage < 0 or storages.column("external")[storage]:
            return NONE
        allocated_at = storages.column("op")[storage]
        return allocated_at if self._makes_parameters(allocated_at) else NONE

    def made_not_before(self, tensor: int) -> int:
        """An op before which a tensor was not made; NONE where that is not known.

        Where the call that made it was not seen, it stands where the tensor was first seen; its memory is older.
        """
        made = self.made_by(tensor)
        if made < 0 or made >= self.op_count or not self.recording.ops.column("flags")[made] & MADE:
            return made
        storage = self.recording.tensors.column("storage")[tensor]
        return self.recording.storages.column("op")[storage] if storage >= 0 else NONE

    def _makes_parameters(self, op: int) -> bool:
        """Whether an op is a module's initialisation, or in a statement that wraps what it makes."""
        if op >= self.op_count:
            return False
        is_inside = self.recording.ops.column("kind")[op] == OpKind.GROUP
        return is_inside or WRAPS.search(self.op_place(op).source) is not None

    def requires_grad(self, tensor: int, op: int) -> bool:
        """Whether a tensor required grad when an op was called."""
        changes = self._requirement_changes.get(tensor)
        if changes is None:
            return bool(self.recording.tensors.column("flags")[tensor] & REQUIRES_GRAD)
        ops, states = changes
        return states[bisect_left(ops, op)]

    def let_go_at(self, tensor: int, op: int) -> int:
        """The op since which a tensor that had required grad did not any more when an op was called; else NONE.

        ``h.detach_()``: what uses it afterwards finds no graph, though it was made with one.
        """
        ops, states = self._requirement_changes.get(tensor, ((), ()))
        at = bisect_left(ops, op)
        return ops[at - 1] if at and states[at - 1] and not states[at] else NONE

    @cached_property
    def _requirement_changes(self) -> dict[int, tuple[list[int], list[bool]]]:
        """For each tensor that changed so: the ops, and whether it required grad before each and after the last."""
        rows, found = self.recording.changes, dict[int, tuple[list[int], list[bool]]]()
        at, before, after = (rows.column(name) for name in ("op", "before", "after"))
        for tensor, changed in self.changed_ops.items():
            states = [*(bool(before[row]) for row in changed), bool(after[changed[-1]])]
            found[tensor] = [at[row] for row in changed], states
        return found

    def layout_at(self, tensor: int, op: int) -> int:
        """The layout that a tensor had when an op was called: ``t.data = …`` and ``set_`` change it."""
        layout = self.recording.tensors.column("layout")[tensor]
        for at, before, after in self._layouts_changed.get(tensor, ()):
            if at >= op:
                return before
            layout = after
        return layout

    @cached_property
    def _layouts_changed(self) -> dict[int, list[tuple[int, int, int]]]:
        """For each tensor whose layout changed: the ops, the layouts before and after, in order."""
        changes = self.recording.changes
        found: dict[int, list[tuple[int, int, int]]] = {}
        columns = (changes.column(name) for name in ("op", "tensor", "field", "before", "after"))
        for op, tensor, field, before, after in zip(*columns, strict=True):
            if field == Field.LAYOUT:
                found.setdefault(tensor, []).append((op, before, after))
        return found

    def is_floating(self, tensor: int) -> bool:
        """Whether a tensor's values are floating point or complex numbers: others have no gradient."""
        layout = self.recording.layouts[self.recording.tensors.column("layout")[tensor]]
        return self.recording.text(layout.dtype).startswith(_FLOATING)

    def is_bool(self, tensor: int) -> bool:
        """Whether a tensor holds truth values."""
        layout = self.recording.layouts[self.recording.tensors.column("layout")[tensor]]
        return self.recording.text(layout.dtype) == "bool"

    def gave_a_tensor(self, op: int) -> bool:
        """Whether a call returned a tensor, known before or not; one first seen as its input is none."""
        flags, made = self.recording.tensors.column("flags"), self.made.of(op)
        return bool(len(self.results.of(op))) or not all(flags[tensor] & EXTERNAL for tensor in made)

    def has_one_element(self, tensor: int) -> bool:
        """Whether a tensor is a single number."""
        layout = self.recording.layouts[self.recording.tensors.column("layout")[tensor]]
        return set(re.findall(r"\d+", self.recording.text(layout.shape))) <= {"1"}

    def is_leaf(self, tensor: int) -> bool:
        """Whether a tensor was a leaf when it was first seen by the program."""
        is_one = bool(self.recording.tensors.column("flags")[tensor] & LEAF)
        return is_one and tensor not in self.given_by_functions

    def is_leaf_with_grad(self, tensor: int, op: int) -> bool:
        """Whether a tensor was a leaf that required grad when an op was called."""
        return self.is_leaf(tensor) and self.requires_grad(tensor, op)

    def is_cut_view(self, tensor: int) -> bool:
        """Whether a tensor is a view made under no_grad: it says that it requires grad, and never gets a gradient."""
        is_one = self.recording.tensors.column("flags")[tensor] & (CUT_VIEW | EXTERNAL) == CUT_VIEW
        return is_one and tensor not in self.given_by_functions

    @cached_property
    def given_by_functions(self) -> dict[int, int]:
        """Tensors that were seen inside a call without a ``grad_fn``, which the call gave them in the end: that call.

        A custom Function that returns what its forward made, its input, or a view of that.
        """
        changes, flags = self.recording.changes, self.recording.ops.column("flags")
        columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
        given = {
            tensor: op
            for op, tensor, field, after in zip(*columns, strict=True)
            if field == Field.GRAD_FN and after >= 0 and op < self.op_count and flags[op] & MADE
        }
        return {tensor: op for tensor, (op, _) in self.given_at_use.items()} | given

    @cached_property
    def given_at_use(self) -> dict[int, tuple[int, int]]:
        """What custom Functions returned that no name held: the call that took it, and the Function's node behind that.

        ``f(x) * 2``: the graph behind the product leads to a node of the Function that was first seen there.
        """
        custom = self.custom_functions
        if not custom:
            return {}
        tensors, nodes = self.recording.tensors, self.recording.nodes
        found: dict[int, tuple[int, int]] = {}
        waiting: dict[int, list[int]] = {}
        applies = {func for func in set(self.recording.ops.column("func")) if self.recording.text(func) == APPLIED}
        funcs = self.recording.ops.column("func")
        for tensor, (op, flags) in enumerate(zip(tensors.column("op"), tensors.column("flags"), strict=True)):
            is_one = flags & (CUT_VIEW | EXTERNAL) == CUT_VIEW and op < self.op_count and funcs[op] in applies
            if is_one and len(users := self.users.of(tensor)):
                waiting.setdefault(users[0], []).append(tensor)
        first_seen, names, node_of = nodes.column("op"), nodes.column("name"), tensors.column("node")
        for op, given in waiting.items():
            behind = (following for made in self.tensors_made(op) for following in self.edges.of(node_of[made]))
            given_nodes = [node for node in behind if node >= 0 and first_seen[node] == op and names[node] in custom]
            if len(given_nodes) == len(given):
                found |= {tensor: (op, node) for tensor, node in zip(given, given_nodes, strict=True)}
        return found

    @cached_property
    def custom_functions(self) -> frozenset[int]:
        """Texts of the names of nodes of custom ``autograd.Function``: torch's own end with a digit."""
        names = self.recording.nodes.column("name")
        return frozenset(name for name in set(names) if self.recording.text(name).endswith("Backward"))

    def node_after(self, tensor: int) -> int:
        """A tensor's grad_fn at the end of the run."""
        return self._nodes_after[tensor]

    @cached_property
    def _nodes_after(self) -> array[int]:
        nodes = self.recording.tensors.column("node")[:]
        columns = (self.recording.changes.column(name) for name in ("tensor", "field", "after"))
        for tensor, field, after in zip(*columns, strict=True):
            if field == Field.GRAD_FN:
                nodes[tensor] = after
        return nodes

    @cached_property
    def node_tensor(self) -> array[int]:
        """The first tensor seen with a node as its grad_fn; NONE where there is none."""
        tensors = array("i", [NONE]) * len(self.recording.nodes)
        for tensor, node in enumerate(self.recording.tensors.column("node")):
            if node >= 0 and tensors[node] < 0:
                tensors[node] = tensor
        changes = self.recording.changes
        fields = changes.column("field")
        if Field.GRAD_FN in fields:
            for row in (row for row, field in enumerate(fields) if field == Field.GRAD_FN):
                change = changes[row]
                if change.after >= 0 and tensors[change.after] < 0:
                    tensors[change.after] = change.tensor
        return tensors


def _positions(column: array[int]) -> dict[int, array[int]]:
    """For each value of a column its rows."""
    found: dict[int, array[int]] = {value: array("i") for value in set(column)}
    for row, value in enumerate(column):
        found[value].append(row)
    return found
