"""What a hook takes for the input of a module that works in place: the module's own result lies there.

A forward hook runs behind the module. On ``nn.ReLU(inplace=True)`` the input that it is given is the output: no value
in it is below zero. What a hook before the module keeps of the input is overwritten by the module.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.called_by_torch.hooked_modules import is_hooked
from gradscope.frames.modules.handed_beside import hands_on
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import OpKind

_CUTS = ("Tensor.detach", "Tensor.data.__get__")


class OverwrittenInput(NamedTuple):
    """The last one that a hook was given."""

    hook: RegisteredHook
    at: Lines
    """Where the hook keeps it, or computes with it."""
    tensor: int
    written: int
    """The module's call that wrote it."""
    module: str
    """The module's class."""
    read: int
    """The op that took it afterwards: in the hook itself, or what was kept."""
    is_kept: bool


def overwritten_inputs(index: Index, hooks: list[RegisteredHook]) -> Iterator[OverwrittenInput]:
    """At most one for each hook that is on modules without parameters alone, and takes their input as it is."""
    wanted = []
    for hook in hooks:
        is_bare = all(not event.tensors for event in hook.registered)
        if hook.kind not in ("forward", "forward_pre") or not is_bare:
            continue
        kept = hook.source.keeps_input(is_pre=hook.kind == "forward_pre")
        reads = hook.source.reads_input if hook.kind == "forward" and kept is None else []
        if kept is not None or reads:
            wanted.append((hook, kept, reads))
    written = _written_by_modules(index) if wanted else {}
    for hook, kept, reads in wanted if written else ():
        # (another hook may have kept the output of the module before)
        if kept is not None and any(other is not hook and other.source.keeps_output for other in hooks):
            continue
        first = hook.registered[0].op
        for tensor, (op, module, name) in reversed(written.items()):
            if op < first or not _is_on(index, hook, name, module):
                continue
            read = (
                _read_after(index, hook, tensor, op) if kept is not None else _read_in(index, hook, reads, tensor, op)
            )
            if read >= 0:
                lines = kept or next(one for one in reads if one[0] <= index.op_line(read) <= one[1])
                yield OverwrittenInput(hook, hook.lines(*lines), tensor, op, module, read, kept is not None)
                break


def _written_by_modules(index: Index) -> dict[int, tuple[int, str, str]]:
    """For each result of a call that of a module without parameters that wrote it first, with its class and name."""
    recording = index.recording
    made_at, flags = (recording.tensors.column(name) for name in ("op", "flags"))
    kinds, modules = recording.ops.column("kind"), {row.op: row.module for row in recording.module_ops}
    found: dict[int, tuple[int, str, str]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        taken = list(index.uses.of(op))
        is_own = op in modules and kinds[op] == OpKind.CALL and taken[:1] == [tensor] and op > made_at[tensor]
        if is_own and not flags[tensor] & EXTERNAL and not any(flags[one] & PARAMETER for one in taken):
            row = recording.modules[modules[op]]
            found.setdefault(tensor, (op, recording.text(row.kind), recording.text(row.name)))
    return found


def _is_on(index: Index, hook: RegisteredHook, name: str, kind: str) -> bool:
    """Whether the text says that a hook is on such a module: that behind it is given the same tensor, as was meant."""
    span = hook.registered[0].span
    row = index.recording.spans[span] if span >= 0 else None
    return row is not None and row.file >= 0 and is_hooked(index.recording.files[row.file].text, row.line, name, kind)


def _read_in(index: Index, hook: RegisteredHook, reads: list[tuple[int, int]], tensor: int, written: int) -> int:
    """The next call that takes a tensor, where it stands in a hook where that reads its input; else -1."""
    spans = index.recording.ops.column("span")
    op = next((one for one in index.users.of(tensor) if one > written), -1)
    if op < 0 or spans[op] < 0 or not hook.has_call(spans[op]):
        return -1
    return op if any(first <= index.op_line(op) <= last for first, last in reads) else -1


def _read_after(index: Index, hook: RegisteredHook, tensor: int, written: int) -> int:
    """The op that took what was kept, elsewhere than where the module is called and its result goes on; else -1."""
    statement, function = index.op_statement[written], index.function_of(written)
    spans = index.recording.ops.column("span")
    own = [op for op in index.users.of(tensor) if spans[op] >= 0 and hook.has_call(spans[op])]
    kept = [tensor, *(one for op in own if index.method(op) in _CUTS for one in index.tensors_made(op))]
    users = sorted(
        op
        for one in kept
        for op in index.users.of(one)
        if op > written and op not in own and index.op_statement[op] != NOWHERE
    )
    goes_on = next((op for op in users if index.function_of(op) == function), -1)
    made = index.op_statement[index.made_by(tensor)] if index.made_by(tensor) >= 0 else NOWHERE
    if made == statement:  # (by a chain of torch's)
        goes_on = next((op for op in users if index.op_statement[op] == statement), -1)
        return next((op for op in users if op > goes_on >= 0 and index.op_statement[op] != statement), -1)
    # A forward of the program's, which may keep it itself, or give it back beside its result.
    place, of = index.statements[made], index.statements[statement]
    text = index.recording.files[place.file].text if place.file == of.file >= 0 else ""
    if not text or goes_on < 0 or hands_on(text, place.line):
        return -1
    return next((op for op in users if index.function_of(op) != function), -1)
