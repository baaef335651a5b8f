"""Memory that stood there with plain values, and came to have a graph by a write into it: ``memory[ids] = new``.

Who stored that memory stored no graph, and what was written is made anew each time: the write is what keeps it.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field


class WrittenMemory(NamedTuple):
    """A tensor that was made without a graph, and the writes that gave it one: the last of each statement."""

    tensor: int
    ops: tuple[int, ...]


class GraphsWritten:
    """The memory through which a pass comes into what was computed before."""

    def __init__(self, index: Index, passes: Passes, op: int) -> None:
        self._index = index
        tensors, changes = index.recording.tensors, index.recording.changes
        self._nodes, self._made_at = tensors.column("node"), tensors.column("op")
        behind = {node for root in index.root_nodes(op) for node in passes.behind(root)}
        columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
        self._writes: dict[int, list[int]] = {}
        self._on_the_way: set[int] = set()
        for at, tensor, field, node in zip(*columns, strict=True):
            if field == Field.GRAD_FN and node >= 0 and at < op and self._is_given_graph(tensor, at):
                self._writes.setdefault(tensor, []).append(at)
                if node in behind:
                    self._on_the_way.add(tensor)

    def memory_of(self, tensor: int) -> WrittenMemory | None:
        """The memory that a tensor is, or into which it was written; None for any other."""
        for memory in sorted(self._on_the_way if tensor >= 0 else ()):
            writes = [at for at in self._writes[memory] if tensor in (memory, *self._index.uses.of(at))]
            if writes:
                of_statements = {self._index.op_statement[at]: at for at in writes}
                return WrittenMemory(memory, tuple(of_statements.values()))
        return None

    def _is_given_graph(self, tensor: int, at: int) -> bool:
        """Whether a call gave a tensor that was there, without a graph, that of another."""
        index, made_at = self._index, self._made_at[tensor]
        is_plain = made_at < at and self._nodes[tensor] < 0 and not index.requires_grad(tensor, made_at)
        return is_plain and any(
            used != tensor and (self._nodes[used] >= 0 or index.requires_grad(used, at)) for used in index.uses.of(at)
        )
