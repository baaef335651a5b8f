"""Copies of modules that ``copy.copy`` made and that a program treats as modules of their own.

Such a copy has the parameters of the module itself, and that may be meant. It is not where an optimizer is made for
each of several copies, where the parameters are mixed with themselves as if they were two, or where the copy has the
name of what is kept as it was while steps go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.modules.mixed_with_itself import mixed_with_itself
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index
from gradscope.frames.names.copy_calls import shallow_copy_at
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import EventKind

_APART = re.compile(
    r"(?:^|[._])(best|before|prev|previous|old|initial|snapshot|saved|backup|orig|original|checkpoint|target|teacher"
    r"|ema|frozen|shadow|momentum|slow|averaged|ref|reference)(?:$|[._\d])",
    re.IGNORECASE,
)
"""In the name of a copy: that it is not to change with what it was made from."""


class TreatedAsTwo(NamedTuple):
    """The copies that one line made of one module."""

    copies: tuple[Happened, ...]
    tensors: tuple[int, ...]
    """The module's parameters, which are those of the copies."""
    of: str
    """What was copied, as the source has it."""
    name: str
    """What the copy is called that tells that it is not to change; may be empty where something else tells it."""
    steps: int
    """How many steps changed them since the first copy."""
    last_step: int
    optimizers: int
    """How many optimizers were made for them since; 0 where something else shows what is meant."""
    mixed: int
    """The last op that mixed one of them with itself as if it were two; NONE where that is not what shows it."""

    def is_of_a_round(self, begun: int, ended: int) -> bool:
        """Whether what began at an op, while one copy was trained, ended while another one was."""
        return any(begun <= copy.op < ended for copy in self.copies)


def treated_as_two(
    index: Index,
    events: Events,
    lives: GradientLives,
    sharing: StorageGroups,
    loaded: dict[int, int],
    held: dict[int, list[tuple[int, int, int]]],
) -> Iterator[TreatedAsTwo]:
    """One for each line and module.

    Args:
        index: The recording.
        events: What happened in it.
        lives: The steps of its optimizers.
        sharing: Which tensors are on the same memory.
        loaded: For each tensor of a module that was loaded from itself the op that did so.
        held: For each tensor the names under which it was seen, with op and span.
    """
    by_line: dict[tuple[int, int], list[Happened]] = {}
    tensors: dict[int, tuple[int, ...]] = {}
    for event in events.of(EventKind.SHALLOW_COPY):
        tensors.setdefault(event.subject, event.tensors)
        by_line.setdefault((event.subject, event.span), []).append(event)
    of_copies = {one for each in tensors.values() for one in each}
    mixed = loaded | mixed_with_itself(index, sharing, of_copies) if of_copies else {}
    for (subject, span), copies in by_line.items():
        own = tensors[subject]
        row = index.recording.spans[span] if span >= 0 else None
        source = shallow_copy_at(index.recording.files[row.file].text, row.line) if row is not None else None
        steps = sorted({op for tensor in own for op in lives.steps.get(tensor, ()) if op >= copies[0].op})
        if source is None or not steps:
            continue
        made = sorted(_optimizers(index, events, own, copies[0].op, source.of))
        is_each_trained = _trained_in_turn(copies, made, steps) >= 2 or 2 <= len(copies) <= len(made)
        at = max((mixed[one] for one in own if mixed.get(one, NONE) >= copies[0].op), default=NONE)
        name = next((name for name in source.names if _is_apart(index, name, own, held)), "")
        if is_each_trained or at >= 0 or name:
            number = len(made) if is_each_trained else 0
            at = NONE if is_each_trained else at
            yield TreatedAsTwo(tuple(copies), own, source.of, name, index.times(steps), steps[-1], number, at)


def _is_apart(index: Index, name: str, own: tuple[int, ...], held: dict[int, list[tuple[int, int, int]]]) -> bool:
    """Whether a copy has a name that tells that it is not to change, and was not given parameters of its own since."""
    if not _APART.search(name):
        return False
    flags, prefix = index.recording.tensors.column("flags"), f".{name.removeprefix('self.')}."
    others = (one for one in held if flags[one] & PARAMETER and one not in own)
    return not any(prefix in f".{index.recording.text(row[0])}" for one in others for row in held[one])


def _optimizers(index: Index, events: Events, tensors: tuple[int, ...], since: int, of: str) -> Iterator[int]:
    """When optimizers were made that were given all of some tensors, as far as not by the name of what was copied."""
    given: dict[int, tuple[Happened, set[int]]] = {}
    for event in events.of(EventKind.OPTIMIZER):
        given.setdefault(event.subject, (event, set()))[1].update(event.tensors)
    for event, held in given.values():
        span = index.recording.spans[event.span] if event.span >= 0 else None
        text = index.recording.source(span.file, span.line, span.end_line) if span is not None else ""
        if event.op >= since and held.issuperset(tensors) and f"{of}." not in text:
            yield event.op


def _trained_in_turn(copies: list[Happened], made: list[int], steps: list[int]) -> int:
    """After how many copies an optimizer was made, and stepped, before the next one."""
    ends = [copy.op for copy in copies[1:]] + [steps[-1] + 1]
    rounds = zip((copy.op for copy in copies), ends, strict=True)
    return sum(
        any(begin <= op < end and any(op <= step < end for step in steps) for op in made) for begin, end in rounds
    )
