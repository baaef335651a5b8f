"""What a forward hook kept of a module's output, and another call then wrote in place before it was read.

A hook on a convolution keeps its output; the activation after it works in place, so that what was kept holds the
activation's result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import BindingKind, OpKind


class OverwrittenOutput(NamedTuple):
    """The last one that a hook kept."""

    hook: RegisteredHook
    kept_at: Lines
    tensor: int
    written: int
    """The op that wrote it."""
    read: int
    """The op that took it afterwards."""


class OverwrittenOutputs:
    """Those of one recording.

    Args:
        index: The recording.
        hooks: That it registered.
    """

    def __init__(self, index: Index, hooks: list[RegisteredHook]) -> None:
        self._index = index
        self._hooks = hooks

    def found(self) -> Iterator[OverwrittenOutput]:
        """At most one for each hook on modules with parameters, whose output is known by these."""
        forward = (hook for hook in self._hooks if hook.kind == "forward")
        wanted = [(hook, place) for hook in forward if (place := hook.source.keeps_output)]
        if not wanted:
            return
        written = self._written()
        for hook, (first, last) in wanted:
            outputs = self._outputs(hook)
            for tensor in sorted(outputs & written.keys(), reverse=True):
                if (read := self._read_after(tensor, written[tensor])) >= 0:
                    yield OverwrittenOutput(hook, hook.lines(first, last), tensor, written[tensor], read)
                    break

    def _written(self) -> dict[int, int]:
        """For each result of a call: another call that wrote it first."""
        found: dict[int, int] = {}
        made_at, flags = (self._index.recording.tensors.column(name) for name in ("op", "flags"))
        kinds = self._index.recording.ops.column("kind")
        for op, tensor, _, _ in writes_by_program(self._index):
            if kinds[op] == OpKind.CALL and op > made_at[tensor] and not flags[tensor] & EXTERNAL:
                found.setdefault(tensor, op)
        return found

    def _outputs(self, hook: RegisteredHook) -> set[int]:
        """The results of calls that took a parameter of the module that the hook is on, after it was registered."""
        index, found = self._index, set[int]()
        kinds = index.recording.ops.column("kind")
        for event in hook.registered:
            for parameter in event.tensors:
                ops = (op for op in index.users.of(parameter) if op >= event.op and kinds[op] == OpKind.CALL)
                found.update(made for op in ops for made in index.tensors_made(op))
        return found

    def _read_after(self, tensor: int, written: int) -> int:
        """The op that took a tensor past the statement in which it was written; NONE where none did for certain.

        What a module returns is read there as well: where the call went on with the tensor it returned another one,
        and what is read as part of an object was kept.
        """
        index, statement = self._index, self._index.op_statement[written]
        goes_on = any(op > written and index.op_statement[op] == statement for op in index.users.of(tensor))
        for op in index.users.of(tensor):
            is_past = op > written and index.op_statement[op] not in (statement, NOWHERE)
            if is_past and (goes_on or self._is_item(tensor, op)):
                return op
        return NONE

    def _is_item(self, tensor: int, op: int) -> bool:
        """Whether the statement of an op reads a tensor as part of an object: ``kept["conv"]``, ``self.features``."""
        bindings, text = self._index.recording.bindings, self._index.recording.text
        columns = (bindings.column(name) for name in ("tensor", "op", "kind", "name"))
        return any(
            one == tensor and kind != BindingKind.STORE and at <= op and not text(name).isidentifier()
            for one, at, kind, name in zip(*columns, strict=True)
        )
