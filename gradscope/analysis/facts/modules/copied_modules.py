"""Copies of modules that ``copy.copy`` made and that a program treats as modules of their own.

Such a copy has the parameters of the module itself, and that may be meant. It is not where an optimizer is made for
each of several copies, or where the copy has the name of what is kept as it was while steps go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.frames.copy_calls import ShallowCopy, shallow_copy_at
from gradscope.recording.rows import EventKind

_APART = re.compile(
    r"(?:^|[._])(best|before|prev|previous|old|initial|snapshot|saved|backup|orig|original|checkpoint|target|teacher"
    r"|ema|frozen|shadow)(?:$|[._\d])",
    re.IGNORECASE,
)
"""In the name of a copy: that it is not to change with what it was made from."""


class TreatedAsTwo(NamedTuple):
    """The copies that one line made of one module."""

    copies: tuple[Happened, ...]
    tensors: tuple[int, ...]
    """The module's parameters, which are those of the copies."""
    source: ShallowCopy
    steps: int
    """How many steps changed them since the first copy."""
    last_step: int
    optimizers: int
    """How many optimizers were made for them since; 0 where the copy's name shows what is meant."""

    def is_of_a_round(self, begun: int, ended: int) -> bool:
        """Whether what began at an op, while one copy was trained, ended while another one was."""
        return any(begun <= copy.op < ended for copy in self.copies)


def treated_as_two(index: Index, events: Events, lives: GradientLives) -> Iterator[TreatedAsTwo]:
    """One for each line and module."""
    by_line: dict[tuple[int, int], list[Happened]] = {}
    tensors: dict[int, tuple[int, ...]] = {}
    for event in events.of(EventKind.SHALLOW_COPY):
        tensors.setdefault(event.subject, event.tensors)
        by_line.setdefault((event.subject, event.span), []).append(event)
    for (subject, span), copies in by_line.items():
        held = tensors[subject]
        row = index.recording.spans[span] if span >= 0 else None
        source = shallow_copy_at(index.recording.files[row.file].text, row.line) if row is not None else None
        steps = sorted({op for tensor in held for op in lives.steps.get(tensor, ()) if op >= copies[0].op})
        if source is None or not steps:
            continue
        made = sorted(_optimizers(index, events, held, copies[0].op, source.of))
        is_each_trained = _trained_in_turn(copies, made, steps) >= 2 or 2 <= len(copies) <= len(made)
        if is_each_trained or _APART.search(source.name):
            number = len(made) if is_each_trained else 0
            yield TreatedAsTwo(tuple(copies), held, source, index.times(steps), steps[-1], number)


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
