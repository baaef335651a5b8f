"""Parameters that hooks wrote inside one backward pass, and that another pass needed as they had been.

What a hook calls in the middle of a pass makes no op. That a hook which runs as soon as a gradient is there writes its
parameter is counted as it runs; which passes came to the parameter is known from their graphs.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook, RegisteredHooks
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index


class HookWrite(NamedTuple):
    """A hook that wrote what a later pass needed."""

    hook: RegisteredHook
    tensors: tuple[int, ...]
    """What it wrote and the failed pass needed."""
    written_in: int
    """The pass in which it ran."""
    saved_row: int
    """One of the rows of what was kept for the failed pass."""


def written_by_hooks(index: Index, passes: Passes, hooks: RegisteredHooks, failed: int) -> HookWrite | None:
    """The hook that wrote what a pass (an op), which failed, came to; None where none is known to have."""
    writers = [one for one in hooks.all if _writes(one)]
    if not writers:
        return None
    earlier = [op for op in hooks.pass_ops if op < failed]
    made_at = index.recording.nodes.column("op")
    needed = [node for root in index.root_nodes(failed) for node in passes.behind(root)]
    saved = index.recording.saved
    kept = {(saved.column("storage")[row], row): made_at[node] for node in needed for row in index.saved.of(node)}
    for op in reversed(earlier):
        reached = passes.leaves_behind(*index.root_nodes(op))
        for hook in writers:
            on = {event.tensors[0] for event in hook.registered if event.tensors and event.op <= op} & reached
            storages = {index.storage_at(tensor, op): tensor for tensor in sorted(on)}
            rows = [row for (storage, row), made in kept.items() if made < op and storage in storages]
            if rows:
                written = {storages[saved.column("storage")[row]] for row in rows}
                return HookWrite(hook, tuple(sorted(written)), op, rows[0])
    return None


def _writes(hook: RegisteredHook) -> bool:
    """Whether it was counted to write what it was given: the parameter itself, as its gradient was there."""
    return hook.kind == "accumulated" and hook.count("in_place") > 0
