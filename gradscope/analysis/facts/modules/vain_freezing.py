"""Loops that were to switch requires_grad off, were run, and did so for no parameter."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.names_in_modules import names_in_modules
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.frames.modules.freezing_loops import FreezingLoop, freezing_loops
from gradscope.recording.flags import PARAMETER


class VainFreezing(NamedTuple):
    """One loop."""

    file: int
    loop: FreezingLoop
    tensors: list[int]
    """Parameters of what it goes over, which nothing ever froze, and to which passes gave gradients."""
    name: str
    """What ``named_parameters`` calls the first of them."""


def vain_freezings(
    index: Index, lives: GradientLives, held: dict[int, list[tuple[int, int, int]]]
) -> Iterator[VainFreezing]:
    """One for each loop of the program's files.

    Args:
        index: The recording.
        lives: The passes that gave gradients.
        held: For each tensor the names under which it was seen, with op and span.
    """
    flags, text = index.recording.tensors.column("flags"), index.recording.text
    for file, source in enumerate(index.recording.files):
        loops = freezing_loops(source.text) if source.is_user else ()
        lines = _lines_run(index, file) if loops else []
        for loop in loops:
            if loop.names is not None and any(flags[tensor] & PARAMETER for tensor in index.changed_ops):
                continue  # (something was frozen: what is named besides may be what other models have)
            if _is_run(lines, *loop.sets) or not any(_is_run(lines, *stretch) for stretch in loop.after):
                continue
            found = [
                tensor
                for tensor in lives.passes
                if flags[tensor] & PARAMETER
                and tensor not in index.changed_ops
                and any(_is_of(text(name), owner) for name, _, _ in held.get(tensor, ()) for owner in loop.of)
            ]
            names = {tensor: name for tensor, (_, name) in names_in_modules(index).items()} if found else {}
            if found and found[0] in names and not _may_hold(loop, list(names.values())):
                yield VainFreezing(file, loop, found, names[found[0]])


def _lines_run(index: Index, file: int) -> list[int]:
    """The lines of a file at which calls were seen, in order."""
    spans, seen = index.recording.spans, set(index.recording.ops.column("span"))
    return sorted({int(spans[span].line) for span in seen if span >= 0 and spans[span].file == file})


def _is_run(lines: list[int], first: int, last: int) -> bool:
    return bisect_left(lines, first) < bisect_right(lines, last)


def _is_of(name: str, owner: str) -> bool:
    """Whether a parameter so called is one of what the text calls an owner, in whichever frame."""
    last = owner.rpartition(".")[2]
    return name.startswith((f"{last}.", f"{last}[")) or f".{last}." in name or f".{last}[" in name


def _may_hold(loop: FreezingLoop, names: list[str]) -> bool:
    """Whether a test of names may hold for one, whole or as a part of the model calls it, or for a module's."""
    test = loop.names
    if test is None:
        return False
    parts = {
        ".".join(split[first:last])
        for split in (name.split(".") for name in names)
        for first in range(len(split))
        for last in ([len(split)] if test.of_parameters else range(first + 1, len(split)))
    }
    return any(test.holds_for(part) is not False for part in parts)
