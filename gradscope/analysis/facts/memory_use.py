"""Tensor memory over the run: what each statement allocated and saved for backward, what was in use, and the peak.

Computed from the first and last op at which each memory block was seen: a block that dies between two ops is in use up
to the second one, and memory that no tensor seen by the recorder holds is not counted.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate

from gradscope.analysis.facts.keepless_nodes import keeps_nothing
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import DeviceMemory, LineMemory, MemoryReport
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, HOOKED, LEAF, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

_TAKE_MEMORY = ("from_numpy", "as_tensor", "asarray", "frombuffer", "from_dlpack")
"""Functions that may give a tensor on memory that is there already, as a storage of its own."""
_BACKWARD = frozenset((OpKind.BACKWARD, OpKind.GRAD))


class MemoryUse:
    """Bytes by op."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def allocated(self) -> array[int]:
        """Newly allocated by each op."""
        allocated = array("q", bytes(8 * self._index.op_count))
        for _, op, nbytes in self.blocks():
            allocated[op] += nbytes
        return allocated

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Storage, op and bytes of each memory block that an op allocated, and of those that the op stands for."""
        storages, count, weights = self._index.recording.storages, self._index.op_count, self._index.weights
        columns = (storages.column(name) for name in ("op", "nbytes", "external", "data_ptr"))
        for storage, (op, nbytes, external, address) in enumerate(zip(*columns, strict=True)):
            if not external and address and op < count and storage not in self._on_known_memory:
                yield storage, op, nbytes * weights[op]

    @cached_property
    def _on_known_memory(self) -> dict[int, int]:
        """Storages that a call made for memory on which another one was: ``torch.from_numpy(x.numpy())``. By storage
        the other.
        """
        recording, storages = self._index.recording, self._index.recording.storages
        funcs, count = recording.ops.column("func"), self._index.op_count
        takes = {func for func in set(funcs) if recording.text(func).endswith(_TAKE_MEMORY)}
        columns = [storages.column(name) for name in ("op", "data_ptr", "died")]
        found: dict[int, int] = {}
        at: dict[int, int] = {}
        for storage, (op, address, _) in enumerate(zip(*columns, strict=True)) if takes else ():
            known = at.get(address, NONE)
            if address and known >= 0 and op < count and funcs[op] in takes:
                began, died = columns[0][known], columns[2][known]
                if began < op and (died < 0 or died > op):
                    found[storage] = found.get(known, known)
                    continue
            at[address] = storage
        return found

    @cached_property
    def saved(self) -> array[int]:
        """Kept for backward by the nodes of each op, each memory block where it was first saved."""
        return self._saved[0]

    @cached_property
    def saved_of_leaves(self) -> int:
        """Part of all saved bytes that is the memory of leaves."""
        return self._saved[1]

    @cached_property
    def _saved(self) -> tuple[array[int], int]:
        recording, count = self._index.recording, self._index.op_count
        node_op, weights = recording.nodes.column("op"), self._index.weights
        storage_bytes = recording.storages.column("nbytes")
        addresses = recording.storages.column("data_ptr")
        seen = array("i", bytes(4 * len(recording.storages)))
        by_op = array("q", bytes(8 * (count + 1)))
        rows, once = recording.saved, self._saved_by_alike
        made_at = recording.storages.column("op")
        for node, storage, nbytes in zip(
            rows.column("node"), rows.column("storage"), rows.column("nbytes"), strict=True
        ):
            if storage < 0:
                by_op[node_op[node]] += nbytes * weights[node_op[node]]
            elif not seen[storage]:
                seen[storage] = weights[made_at[storage] if storage in once else node_op[node]]
                if addresses[storage]:
                    by_op[node_op[node]] += storage_bytes[storage] * seen[storage]
        of_leaves, counted = 0, bytearray(len(recording.storages))
        tensors = recording.tensors
        for storage, flags in zip(tensors.column("storage"), tensors.column("flags"), strict=True):
            is_leaf = flags & LEAF and flags & (REQUIRES_GRAD | EXTERNAL)
            if is_leaf and storage >= 0 and seen[storage] and not counted[storage] and addresses[storage]:
                counted[storage] = 1
                of_leaves += storage_bytes[storage] * seen[storage]
        return by_op, of_leaves

    @cached_property
    def _saved_by_alike(self) -> set[int]:
        """Storages that an op saves first which stands for others, and that these others save as well.

        Where they save such as were made with them, the op that is like it after the gap saves another one.
        """
        recording, weights = self._index.recording, self._index.weights
        node_op, names = recording.nodes.column("op"), recording.nodes.column("name")
        ops, rows = recording.ops, recording.saved
        spans, funcs = ops.column("span"), ops.column("func")
        first: dict[int, tuple[int, tuple[int, int, int]]] = {}
        found = set[int]()
        saved = zip(rows.column("node"), rows.column("storage"), strict=True) if len(recording.alike) else ()
        for node, storage in saved:
            op = node_op[node]
            if storage < 0 or op >= len(ops):
                continue
            place = spans[op], funcs[op], names[node]
            begun, known = first.setdefault(storage, (op, place))
            if op > begun and place == known and weights[begun] > 1:
                found.add(storage)
        return found

    @cached_property
    def live(self) -> array[int]:
        """In use after each op was called (before what its statement drops is gone); one more for the end."""
        count = self._index.op_count
        delta = array("q", bytes(8 * (count + 1)))
        storages = self._index.recording.storages
        columns = (storages.column(name) for name in ("op", "nbytes", "died", "data_ptr"))
        for storage, (op, nbytes, died, address) in enumerate(zip(*columns, strict=True)):
            if address and storage not in self._on_known_memory:
                delta[min(op, count)] += nbytes
                if died >= 0:
                    delta[min(died, count)] -= nbytes
        for storage, alike in self._index.alike_storages.items():
            if storages.column("data_ptr")[storage]:
                delta[min(storages.column("op")[storage], count)] += alike * storages.column("nbytes")[storage]
        return array("q", accumulate(delta))

    def live_after(self, op: int) -> int:
        """In use when the next op was called, before that op allocated anything."""
        following = op + 1
        own = self.allocated[following] if following < self._index.op_count else 0
        return max(0, self.live[min(following, self._index.op_count)] - own)


def bytes_of_gradients(index: Index) -> array[int]:
    """Newly allocated by each row of ``gradients``: passes of two threads at a time may both have met one gradient."""
    rows = index.recording.gradients
    nbytes, counted = rows.column("nbytes")[:], bytearray(len(index.recording.tensors))
    for row, (gradient, allocated) in enumerate(zip(rows.column("grad"), nbytes, strict=True)):
        if allocated and gradient >= 0:
            if counted[gradient]:
                nbytes[row] = 0
            counted[gradient] = 1
    return nbytes


def report_memory(index: Index, use: MemoryUse, runs: StatementRuns) -> MemoryReport:
    """Memory as a report shows it."""
    kinds = index.recording.ops.column("kind")
    live = use.live
    peak_op = max(range(len(live)), key=live.__getitem__) if live else NONE
    passes = index.recording.gradients.column("op")
    gradient_bytes = sum(
        index.weights[op] * nbytes for op, nbytes in zip(passes, bytes_of_gradients(index), strict=True)
    )
    step_bytes = sum(use.allocated[op] for op, kind in enumerate(kinds) if kind == OpKind.STEP)
    return MemoryReport(
        allocated_bytes=sum(use.allocated),
        live_bytes=live[-1] if live else 0,
        peak_bytes=live[peak_op] if peak_op >= 0 else 0,
        peak_place=index.op_place(peak_op) if 0 <= peak_op < index.op_count else None,
        saved_bytes=sum(use.saved),
        hooked_ops=_hooked_ops(index),
        saved_leaf_bytes=use.saved_of_leaves,
        gradient_bytes=gradient_bytes,
        step_bytes=step_bytes,
        lines=_by_statement(index, use, runs),
        devices=_devices(index),
    )


def _hooked_ops(index: Index) -> int:
    flags, nodes = index.recording.ops.column("flags"), index.recording.nodes
    columns = (nodes.column(name) for name in ("op", "name", "variable"))
    made = {(op, name) for op, name, leaf in zip(*columns, strict=True) if op < index.op_count and leaf < 0}
    made = {(op, name) for op, name in made if flags[op] & HOOKED}
    keepless = {name for name in {name for _, name in made} if keeps_nothing(index.recording.text(name))}
    return len({op for op, name in made if name not in keepless})


def _by_statement(index: Index, use: MemoryUse, runs: StatementRuns) -> tuple[LineMemory, ...]:
    count = len(index.statements)
    allocated, saved, peak = [0] * count, [0] * count, [0] * count
    for statement, new, kept, live in zip(index.op_statement, use.allocated, use.saved, use.live, strict=False):
        allocated[statement] += new
        saved[statement] += kept
        if live > peak[statement]:
            peak[statement] = live
    return tuple(
        LineMemory(index.place(statement), runs.of[statement], allocated[statement], saved[statement], peak[statement])
        for statement in range(NOWHERE, count)
        if allocated[statement] or saved[statement]
    )


def _devices(index: Index) -> tuple[DeviceMemory, ...]:
    recording = index.recording
    last: dict[int, DeviceMemory] = {}
    for row in recording.memory:
        peak = max(row.peak, last[row.device].peak_bytes if row.device in last else 0)
        last[row.device] = DeviceMemory(recording.text(row.device), row.allocated, peak)
    return tuple(last.values())
