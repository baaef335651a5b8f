"""What is to be known of one process to compare it with the others of its job, beside its report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.lines_in_passes import Line, lines_in_passes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.ranks.collectives import Collective, collectives, waiting
from gradscope.analysis.facts.ranks.transfers import Transfers, transfers
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Place
from gradscope.frames.blocks.deciding_choices import Range
from gradscope.frames.blocks.rank_branches import rank_branch_around
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import EventKind, GradOutcome, OpKind

AVERAGING = "averaging of gradients (DistributedDataParallel)"
"""How a backward pass is called in which all processes must take part."""
SPREAD = "backward pass over parameters that are spread over the ranks"
"""The same where it gathers parameters, and sends each process its part of the gradients (``fully_shard``)."""
BUFFERS = "sending of buffers (forward of DistributedDataParallel)"
"""How a forward is called in which all processes must take part."""
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
    """The same with what torch does with the other processes inside its own calls among them: backward passes in which
    gradients are averaged, forwards that send buffers; only collectives where the program may let processes have passes
    of different number (``Join``)."""
    led_to: dict[Line, str]
    """For lines at which one of them was called, or that led there: which."""
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
    sharded_layers: frozenset[Line]
    """File and line of the calls of layers, where parameters are spread over the ranks (DTensor)."""
    branches: dict[Line, int]
    """For lines under an ``if`` that reads the rank: file and line, and the line of that."""
    shared_at: int | None
    """The line that wrapped a model whose gradients are averaged or spread over the ranks; 0: not known; None: none."""
    in_passes: frozenset[Line]
    """Lines that backward passes of such a model went through, or that cut what these were given."""
    choices: dict[Place, frozenset[Range]]
    """For statements with an ``a if question else b``: which calls of theirs were made."""
    texts: dict[str, str]
    """The user's files."""
    transfers: Transfers


def rank_facts(index: Index, events: Events, names: BestNames, passes: Passes, cuts: Cuts) -> RankFacts:
    """Gather them."""
    forwards = [event for event in events.of(EventKind.DDP_FORWARD) if event.tensors]
    in_ddp = {tensor for event in forwards for tensor in event.tensors}
    spread = _spread_over_ranks(index)
    shared = in_ddp | spread
    called = tuple(collectives(index, events))
    wrapped = {one for event in forwards if not event.detail.get("finds_unused") for one in event.tensors}
    joins = any("Join(" in file.text for file in index.recording.files if file.is_user)
    is_comparable = not joins and not len(index.recording.alike)  # (passes that were taken out are not known)
    with_passes = tuple(_with_passes(index, events, in_ddp, spread)) if is_comparable else called
    return RankFacts(
        called=called,
        waits=tuple(waiting(index, events)),
        with_passes=with_passes,
        led_to=_led_to(with_passes),
        forwards=tuple(index.place(index.statement_of_span[event.span]) for event in forwards if event.span >= 0),
        wrapped=frozenset(names.of(tensor) for tensor in wrapped),
        ignores=any(event.detail.get("ignores") for event in forwards),
        wrapped_at=_wrapped_at(index, wrapped),
        evaluated=tuple(_evaluated(index, events)),
        looks=tuple(_looks(index, events, names)),
        sharded_layers=_sharded_layers(index),
        branches=_branches(index),
        shared_at=_wrapped_at(index, in_ddp) if shared else None,
        in_passes=lines_in_passes(index, passes, cuts, _passes_with(index, shared)) if shared else frozenset(),
        choices=_choices(index),
        texts={file.name: file.text for file in index.recording.files if file.is_user},
        transfers=transfers(index, events),
    )


def _led_to(called: tuple[Collective, ...]) -> dict[Line, str]:
    found: dict[Line, str] = {}
    for call in called:
        found.setdefault((call.place.file, call.place.line), call.text)
        if call.caller[1]:
            found.setdefault(call.caller, call.text)
    return found


def _spread_over_ranks(index: Index) -> set[int]:
    """Tensors that each process has a part of."""
    layouts = index.recording.layouts
    spread = {number for number, one in enumerate(layouts) if index.recording.text(one.type_name) == "DTensor"}
    of = index.recording.tensors.column("layout")
    return {tensor for tensor, layout in enumerate(of) if layout in spread} if spread else set()


def _passes_with(index: Index, tensors: set[int]) -> frozenset[int]:
    """The backward passes that gave one of some tensors a gradient."""
    given = (row for row in index.recording.gradients if row.outcome in _RECEIVED)
    return frozenset(row.op for row in given if row.tensor in tensors)


def _with_passes(index: Index, events: Events, in_ddp: set[int], spread: set[int]) -> Iterator[Collective]:
    """Collectives, passes with others and forwards that send buffers, in the order of the run."""
    recording = index.recording
    averaged, gathered = _passes_with(index, in_ddp), _passes_with(index, spread)
    state = [(event.op, bool(event.detail.get("averages"))) for event in events.of(EventKind.DDP_FORWARD)]
    flags = recording.ops.column("flags")
    others: list[tuple[int, Collective]] = []
    for op in index.of_kind(OpKind.BACKWARD):
        if index.op_statement[op] == NOWHERE:
            continue
        failed = bool(flags[op] & RAISED)
        averages = next((averages for at, averages in reversed(state) if at <= op), False)
        if averages and (op in averaged or failed):
            others.append((op, Collective((), AVERAGING, index.place(index.op_statement[op]), not failed)))
        elif op in gathered or (failed and spread):
            others.append((op, Collective((), SPREAD, index.place(index.op_statement[op]), not failed)))
    buffers = [event for event in events.of(EventKind.DDP_BUFFERS) if event.span >= 0]
    ended_well = recording.info.outcome.kind == "ok"
    for number, event in enumerate(buffers, 1):
        over = ended_well or number < len(buffers) or event.op < index.op_count
        place = index.place(index.statement_of_span[event.span])
        others.append((event.op, Collective((), BUFFERS, place, over)))
    own = list(collectives(index, events, sorted(others, key=lambda one: one[0])))
    yield from own
    outcome = recording.info.outcome
    is_known = 0 <= outcome.file < len(recording.files) and outcome.kind not in ("ok", "running")
    text = AVERAGING if state and state[-1][1] else SPREAD if spread else ""
    if is_known and text and all(one.returned for one in own):
        source = recording.source(outcome.file, outcome.line).strip()
        if ".backward(" in source:
            line = index.line(outcome.file, outcome.line)
            place = Place(recording.files[outcome.file].name, line, outcome.line, "", source)
            yield Collective((), text, place, False)


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


def _sharded_layers(index: Index) -> frozenset[Line]:
    recording = index.recording
    if not any(recording.text(layout.type_name) == "DTensor" for layout in recording.layouts):
        return frozenset()
    places = (index.place(index.statement_of_span[one.span]) for one in recording.modules if one.span >= 0)
    return frozenset((place.file, place.line) for place in places)


def _choices(index: Index) -> dict[Place, frozenset[Range]]:
    spans, found = index.recording.spans, dict[Place, set[Range]]()
    for number in set(index.recording.ops.column("span")) - {NONE}:
        span, place = spans[number], index.place(index.statement_of_span[number])
        if " if " in place.source and " else " in place.source and index.recording.files[span.file].is_user:
            found.setdefault(place, set()).add((span.line, span.col, span.end_line, span.end_col))
    return {place: frozenset(some) for place, some in found.items()}


def _branches(index: Index) -> dict[Line, int]:
    """Of every line of the user's that called torch."""
    found: dict[Line, int] = {}
    for statement in index.statements:
        file = index.recording.files[statement.file] if statement.file >= 0 else None
        if file is not None and file.is_user and "rank" in file.text:
            line = rank_branch_around(file.text, statement.line)
            if line:
                found[file.name, statement.line] = line
    return found
