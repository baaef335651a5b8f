"""Deep copies of parameters on which hooks were registered: a copy has none of them."""

from __future__ import annotations

import re
from typing import NamedTuple

from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook, RegisteredHooks
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER

_COPIES = re.compile(r"nn\.Parameter\.__deepcopy__")
_NOTED = 64
"""Registrations of a line that a recording has: of others it is not known what they are on."""


class CopiedWithoutHook(NamedTuple):
    """The copies that one line made, and that were trained without the hook."""

    hook: RegisteredHook
    original: int
    copies: tuple[int, ...]
    op: int
    """The last call that copied."""
    step: int
    """A step of a copy."""


def copied_without_hooks(index: Index, hooks: RegisteredHooks, lives: GradientLives) -> list[CopiedWithoutHook]:
    """One for each hook and line that copies."""
    copied = index.calls_of(_COPIES.fullmatch)
    changing = [one for one in hooks.all if one.kind == "tensor" and one.source.changes]
    if not copied or not changing:
        return []
    hooked = {tensor for one in hooks.all for event in one.registered for tensor in event.tensors}
    copies = {op: copies_of_parameters(index, op) for op in copied}
    found: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for number, hook in enumerate(changing):
        if hook.count("removed") or len(hook.registered) >= _NOTED:
            continue
        for op in copied:
            for event in hook.registered:
                original = event.tensors[0] if event.tensors and event.op <= op else -1
                made = [one for one in copies[op].get(original, ()) if one in lives.steps and one not in hooked]
                key = (number, index.op_statement[op])
                found.setdefault(key, []).extend((original, one, op) for one in made)
    return [
        CopiedWithoutHook(
            changing[number], same[0][0], tuple(one for _, one, _ in same), same[-1][2], lives.steps[same[-1][1]][-1]
        )
        for (number, _), same in found.items()
        if same
    ]


def copies_of_parameters(index: Index, op: int) -> dict[int, list[int]]:
    """For each parameter that a call copied, the parameters that were seen on the memory of its copy.

    The call makes, for each, a tensor on the parameter's own memory, and then the copy of that.
    """
    tensors, found = index.recording.tensors, dict[int, list[int]]()
    on, flags = tensors.column("storage"), tensors.column("flags")
    originals = {on[use]: use for use in index.uses.of(op) if flags[use] & PARAMETER}
    of_copy, source = dict[int, int](), -1
    for made in index.made.of(op):
        if on[made] in originals:
            source = originals[on[made]]
        elif source >= 0 and index.is_made_inside(made):
            of_copy[on[made]] = source
            source = -1
    for tensor, storage in enumerate(on):
        if storage in of_copy and flags[tensor] & PARAMETER:
            found.setdefault(of_copy[storage], []).append(tensor)
    return found
