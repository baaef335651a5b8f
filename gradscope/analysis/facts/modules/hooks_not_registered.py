"""Hooks that were never registered, since the tensor that they were for never required grad."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.conditional_hooks import ConditionalHook, conditional_hooks
from gradscope.recording.flags import GRAD, PARAMETER
from gradscope.recording.rows import EventKind

PASSES = 2
"""Passes that came through what was computed from the tensor, from which on the hook is missed."""

_LOOKED_AT = 200
"""Tensors that are gone back over from the one that the hook was for."""


class HookNotRegistered(NamedTuple):
    """One of them."""

    hook: ConditionalHook
    tensor: int
    """The last that it was for."""
    op: int
    """The call that gave it."""
    passes: int


def hooks_not_registered(index: Index, passes: Passes, events: Events) -> Iterator[HookNotRegistered]:
    """One for each call that was to register one."""
    spans = [index.recording.spans[event.span] for event in events.of(EventKind.HOOK) if event.span >= 0]
    for number, file in enumerate(index.recording.files):
        for hook in conditional_hooks(file.text) if file.is_user else ():
            first, last = hook.registered
            if any(span.file == number and first <= span.line <= last for span in spans):
                continue
            found = _of(index, passes, number, hook)
            if found is not None:
                yield found


def _of(index: Index, passes: Passes, file: int, hook: ConditionalHook) -> HookNotRegistered | None:
    flags, nodes = index.recording.ops.column("flags"), index.recording.tensors.column("node")
    statements = {
        number
        for number, one in enumerate(index.statements)
        if one.file == file and hook.made[0] <= one.line and one.end_line <= hook.made[1]
    }
    made: list[int] = []
    walked: set[int] = set()
    for op, statement in enumerate(index.op_statement):
        if statement not in statements or not flags[op] & GRAD:
            continue
        for tensor in (*index.tensors_made(op), *index.results.of(op)):
            if index.requires_grad(tensor, index.op_count):
                return None
            results = [nodes[one] for user in index.users.of(tensor) for one in index.tensors_made(user)]
            through = {passes.first_walked_at[node] for node in results if node >= 0} - {-1}
            if through:
                made.append(tensor)
                walked |= through
    if len(walked) < PASSES or _is_of_parameters(index, made[-1]):
        return None
    return HookNotRegistered(hook, made[-1], index.recording.tensors.column("op")[made[-1]], index.times(walked))


def _is_of_parameters(index: Index, tensor: int) -> bool:
    """Whether parameters are behind a tensor, frozen ones: then that it has no gradient is meant."""
    flags, todo, seen = index.recording.tensors.column("flags"), [tensor], set[int]()
    while todo and len(seen) < _LOOKED_AT:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        if flags[one] & PARAMETER:
            return True
        op = index.made_by(one)
        todo += index.uses.of(op) if 0 <= op < index.op_count else ()
    return bool(todo)
