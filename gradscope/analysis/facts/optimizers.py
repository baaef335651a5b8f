"""Optimizers that were seen when they were made: where, and the parameters that each was given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import NamedLine
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, OpKind


class Optimizer(NamedTuple):
    """One optimizer."""

    name: str
    """Its class: ``SGD``."""
    line: NamedLine
    """Where it was made."""
    made: Happened
    """Its first group."""
    groups: tuple[Happened, ...]
    """All of its groups, in the order in which they were added."""
    tensors: frozenset[int]
    """What it was given, in all groups."""
    called: int = 0
    """The line of the same file that called the function that made it; 0 where none is known."""

    def setting(self, tensor: int, name: str) -> float:
        """A number that the tensor's group was made with (``weight_decay``); 0 where there is none."""
        for group in self.groups:
            if tensor in group.tensors:
                value = (group.detail.get("settings") or {}).get(name)
                return float(value) if isinstance(value, (int, float)) else 0.0
        return 0.0


def steps_of(index: Index, optimizer: Optimizer) -> list[int]:
    """The steps that an optimizer made."""
    func = f"{optimizer.name}.step"
    return [
        op
        for op in all_steps(index)
        if op >= optimizer.made.op
        and index.func(op).endswith(func)
        and not optimizer.tensors.isdisjoint(index.uses.of(op))
    ]


def steps_until_made_anew(index: Index, optimizer: Optimizer, others: Iterable[Optimizer]) -> list[int]:
    """The same, up to where its line made the next one for what it holds: a step is known by what it changes alone."""
    later = [
        one.made.op
        for one in others
        if one.made.row > optimizer.made.row
        and one.made.span == optimizer.made.span
        and not one.tensors.isdisjoint(optimizer.tensors)
    ]
    return [op for op in steps_of(index, optimizer) if not later or op < min(later)]


def seen_optimizers(index: Index, events: Events) -> list[Optimizer]:
    """Every optimizer that the user's code was seen to make, in their order."""
    groups: dict[int, list[Happened]] = {}
    for event in events.of(EventKind.OPTIMIZER):
        groups.setdefault(event.subject, []).append(event)
    return [
        Optimizer(
            str(first.detail.get("optimizer", "")),
            index.span_line(first.span),
            first,
            (first, *others),
            frozenset(tensor for group in (first, *others) for tensor in group.tensors),
            first.detail["called"] if type(first.detail.get("called")) is int else 0,
        )
        for first, *others in groups.values()
        if first.span >= 0
    ]


def first_step_of(index: Index, made: Happened) -> int:
    """The first step after an optimizer got a group by one of its class; NONE where there was none."""
    name = f"{made.detail.get('optimizer', '')}.step"
    return next((op for op in all_steps(index) if op >= made.op and index.func(op).endswith(name)), NONE)


def all_were_seen(index: Index, optimizers: list[Optimizer]) -> bool:
    """Whether there is an optimizer that was seen being made for every class of which a step was."""
    ops, names = index.recording.ops, {f"{one.name}.step" for one in optimizers}
    steps = {func for func, kind in zip(ops.column("func"), ops.column("kind"), strict=True) if kind == OpKind.STEP}
    return {index.recording.text(func) for func in steps} <= names
