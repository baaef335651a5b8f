"""What is to be known of one process to compare it with the others of its job, beside its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.collectives import Collective, collectives, waiting
from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Place
from gradscope.frames.rank_branches import rank_branch_around
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import EventKind, GradOutcome, OpKind

AVERAGING = "averaging of gradients (DistributedDataParallel)"
"""How a backward pass is called in which all processes must take part."""
_RECEIVED = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)


class ReplicaLook(NamedTuple):
    """What an optimizer was about to update at one of its steps."""

    optimizer: int
    step: int
    place: Place
    names: tuple[str, ...]
    made: tuple[int, ...]
    """The line that made each parameter."""
    norms: tuple[float | None, ...]
    gradients: tuple[float | None, ...]


class RankFacts(NamedTuple):
    """Of one process."""

    called: tuple[Collective, ...]
    """Its collectives."""
    waits: tuple[Collective, ...]
    """What it waited in at its end."""
    with_passes: tuple[Collective, ...]
    """The same with the backward passes in which DistributedDataParallel averages among them; only collectives where
    the program may let processes have passes of different number (``Join``)."""
    forwards: tuple[Place, ...]
    """Where models in DistributedDataParallel were called for the first time."""
    wrapped: frozenset[str]
    """The parameters that DistributedDataParallel waits for in each pass."""
    ignores: bool
    """Whether it was told to leave some to the program."""
    wrapped_at: int
    """The line that wrapped them; 0: not known."""
    evaluated: tuple[Place, ...]
    """Where a module was put into evaluation mode in which it was trained later."""
    looks: tuple[ReplicaLook, ...]
    sharded_layers: frozenset[tuple[str, int]]
    """File and line of the calls of layers, where parameters are spread over the ranks (DTensor)."""
    branches: dict[tuple[str, int], int]
    """For lines under an ``if`` that reads the rank: file and line, and the line of that."""


def rank_facts(index: Index, events: Events, names: BestNames) -> RankFacts:
    """Gather them."""
    forwards = [event for event in events.of(EventKind.DDP_FORWARD) if event.tensors]
    called = tuple(collectives(index, events))
    wrapped = {one for event in forwards if not event.detail.get("finds_unused") for one in event.tensors}
    joins = any("Join(" in file.text for file in index.recording.files if file.is_user)
    return RankFacts(
        called=called,
        waits=tuple(waiting(index, events)),
        with_passes=called if joins else tuple(_with_passes(index, events, {t for e in forwards for t in e.tensors})),
        forwards=tuple(index.place(index.statement_of_span[event.span]) for event in forwards if event.span >= 0),
        wrapped=frozenset(names.of(tensor) for tensor in wrapped),
        ignores=any(event.detail.get("ignores") for event in forwards),
        wrapped_at=_wrapped_at(index, wrapped),
        evaluated=tuple(_evaluated(index, events)),
        looks=tuple(_looks(index, events, names)),
        sharded_layers=_sharded_layers(index),
        branches=_branches(index),
    )


def _with_passes(index: Index, events: Events, wrapped: set[int]) -> Iterator[Collective]:
    """Collectives and averaging passes in the order of the run."""
    recording = index.recording
    averaged = {row.op for row in recording.gradients if row.tensor in wrapped and row.outcome in _RECEIVED}
    state = [(event.op, bool(event.detail.get("averages"))) for event in events.of(EventKind.DDP_FORWARD)]
    flags = recording.ops.column("flags")
    passes = [
        (op, Collective((), AVERAGING, index.place(index.op_statement[op]), not flags[op] & RAISED))
        for op in index.of_kind(OpKind.BACKWARD)
        if index.op_statement[op] != NOWHERE
        and (op in averaged or flags[op] & RAISED)
        and next((averages for at, averages in reversed(state) if at <= op), False)
    ]
    own = list(collectives(index, events, passes))
    yield from own
    outcome = recording.info.outcome
    is_known = 0 <= outcome.file < len(recording.files) and outcome.kind not in ("ok", "running")
    if is_known and state and state[-1][1] and all(one.returned for one in own):
        source = recording.source(outcome.file, outcome.line).strip()
        if ".backward(" in source:
            place = Place(recording.files[outcome.file].name, outcome.line, outcome.line, "", source)
            yield Collective((), AVERAGING, place, False)


def _wrapped_at(index: Index, tensors: set[int]) -> int:
    ops = {op for tensor in tensors for op in index.users.of(tensor) if _wraps(index, op)}
    return index.op_line(max(ops)) if ops else 0


def _wraps(index: Index, op: int) -> bool:
    return index.func(op).endswith("DistributedDataParallel.__init__")


def _evaluated(index: Index, events: Events) -> Iterator[Place]:
    """Not of a module that got no gradient after it: one that is only for measuring."""
    by_module: dict[int, list[Happened]] = {}
    for event in events.of(EventKind.TRAINING_MODE):
        by_module.setdefault(event.subject, []).append(event)
    gradients = index.recording.gradients if by_module else ()
    given = [(row.op, row.tensor) for row in gradients if row.outcome in _RECEIVED]
    for several in by_module.values():
        own = {tensor for event in several for tensor in event.tensors}
        passes = [op for op, tensor in given if tensor in own]
        for event, after in zip(several, [*several[1:], None], strict=True):
            end = index.op_count if after is None else after.op
            if not event.detail.get("training") and event.span >= 0 and any(event.op <= op < end for op in passes):
                yield index.place(index.statement_of_span[event.span])


def _looks(index: Index, events: Events, names: BestNames) -> Iterator[ReplicaLook]:
    optimizers: dict[int, int] = {}
    for event in events.of(EventKind.REPLICA):
        norms, gradients = event.detail.get("norms"), event.detail.get("gradients")
        if event.span < 0 or not isinstance(norms, list) or not isinstance(gradients, list):
            continue
        yield ReplicaLook(
            optimizers.setdefault(event.subject, len(optimizers)),
            int(event.detail.get("step", 0)),
            index.place(index.statement_of_span[event.span]),
            tuple(names.of(tensor) for tensor in event.tensors),
            tuple(_line_of(index, tensor) for tensor in event.tensors),
            tuple(norms),
            tuple(gradients),
        )


def _line_of(index: Index, tensor: int) -> int:
    op = index.made_by(tensor)
    return index.op_line(op) if 0 <= op < index.op_count else 0


def _sharded_layers(index: Index) -> frozenset[tuple[str, int]]:
    recording = index.recording
    if not any(recording.text(layout.type_name) == "DTensor" for layout in recording.layouts):
        return frozenset()
    places = (index.place(index.statement_of_span[one.span]) for one in recording.modules if one.span >= 0)
    return frozenset((place.file, place.line) for place in places)


def _branches(index: Index) -> dict[tuple[str, int], int]:
    """Of every line of the user's that called torch."""
    found: dict[tuple[str, int], int] = {}
    for statement in index.statements:
        file = index.recording.files[statement.file] if statement.file >= 0 else None
        if file is not None and file.is_user and "rank" in file.text:
            line = rank_branch_around(file.text, statement.line)
            if line:
                found[file.name, statement.line] = line
    return found
