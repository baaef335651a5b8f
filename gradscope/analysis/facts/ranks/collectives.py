"""The collectives of one process in their order, as other processes must have called them too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.lines_in_passes import Line
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Place
from gradscope.recording.flags import COLLECTIVE_OP, RAISED
from gradscope.recording.rows import EventKind

BETWEEN_TWO = frozenset(("send", "isend", "recv", "irecv", "send_object_list", "recv_object_list"))
"""Those that only two ranks take part in."""
_OF_ONE_SHAPE = frozenset(("dist.all_reduce", "dist.broadcast", "dist.reduce", "funcol.all_reduce", "funcol.broadcast"))
"""Those to which every rank brings a tensor of one size."""


_LOOKED_BACK = 200
"""Operations before a call among which its caller is looked for."""


class Collective(NamedTuple):
    """One call of a collective."""

    group: tuple[int, ...]
    """The ranks that take part; empty: all."""
    text: str
    """What it was, for people: ``all_reduce``, ``broadcast from rank 1``, with the number of elements where all ranks
    must bring as many."""
    place: Place
    returned: bool
    """Whether it was over."""
    began: float = 0
    """Of one that was not: when it began, in seconds as ``time.time()`` has them; 0: not known."""
    caller: Line = ("", 0)
    """The statement of the last operation before it that was in another function: where that is in the function's
    caller, it led there."""


def collectives(index: Index, events: Events, others: Iterable[tuple[int, Collective]] = ()) -> Iterator[Collective]:
    """Every call that all ranks of its group must make, in order; what goes between two ranks is not among them.

    Args:
        index: Of the recording.
        events: Of the same.
        others: What else all ranks must do, by op, to stand among them.
    """
    recording, between = index.recording, dict[int, list[Collective]]()
    for op, call in others:
        between.setdefault(op, []).append(call)
    details = {event.subject: event.detail for event in events.of(EventKind.COLLECTIVE)}
    columns = (recording.ops.column(name) for name in ("kind", "flags"))
    for op, (kind, flags) in enumerate(zip(*columns, strict=True)):
        yield from between.get(op, ())
        if kind != COLLECTIVE_OP or index.op_statement[op] == NOWHERE:
            continue
        if index.func(op).rpartition(".")[2] in BETWEEN_TWO:
            continue
        detail, uses = details.get(op, {}), index.uses.of(op)
        shape = dtype = ""
        if len(uses):
            layout = recording.layouts[index.layout_at(uses[0], op)]
            shape, dtype = recording.text(layout.shape), recording.text(layout.dtype)
        text = _text(index.func(op), shape, dtype, detail)
        place, returned = index.place(index.op_statement[op]), not flags & RAISED
        yield Collective(group_of(detail), text, place, returned, caller=caller_before(index, op))
    yield from between.get(index.op_count, ())
    yield from (call for call in waiting(index, events) if call.text.partition(" ")[0] not in BETWEEN_TWO)


def caller_before(index: Index, op: int) -> Line:
    """The last statement before an op that is in another function, where one of the last operations has one."""
    own, threads = index.statements[index.op_statement[op]], index.recording.ops.column("thread")
    where = own.file, own.function
    for before in range(op - 1, max(-1, op - 1 - _LOOKED_BACK), -1):
        other = index.statements[index.op_statement[before]]
        if other.file >= 0 and (other.file, other.function) != where and threads[before] == threads[op]:
            return index.recording.files[other.file].name, other.line
    return "", 0


def waiting(index: Index, events: Events) -> Iterator[Collective]:
    """What had not returned at the end, also what goes between two ranks; once for each thread."""
    for name, detail, place in waiting_events(index, events):
        shape, dtype = (str(detail.get(key, "")) for key in ("shape", "dtype"))
        began = detail.get("at")
        text = _text(name, shape, dtype, detail)
        yield Collective(group_of(detail), text, place, False, began if isinstance(began, (int, float)) else 0)


def waiting_events(index: Index, events: Events) -> Iterator[tuple[str, dict[str, object], Place]]:
    """The same as name, detail and place."""
    recording = index.recording
    outcome = recording.info.outcome
    has_end = outcome.kind != "running"
    last = {event.thread: event for event in events.of(EventKind.COLLECTIVE_WAITS)}
    for event in last.values():
        name = str(event.detail.get("name", ""))
        if not event.detail.get("at_end") and (has_end or _is_over(index, event, name)):
            continue
        place = index.place(index.statement_of_span[event.span]) if event.span >= 0 else None
        if place is None and 0 <= outcome.file < len(recording.files):
            source = recording.source(outcome.file, outcome.line).strip()
            line = index.line(outcome.file, outcome.line)
            place = Place(recording.files[outcome.file].name, line, outcome.line, "", source)
        if place is not None:
            yield name, event.detail, place


def _is_over(index: Index, event: Happened, name: str) -> bool:
    """Whether an op of the thread stands after the beginning of a collective.

    What sends objects by several collectives is one op, which stands there when the first is over: of the others it is
    not known.
    """
    threads, begun = index.recording.ops.column("thread"), event.op
    if begun and index.func(begun - 1) == name and threads[begun - 1] == event.thread and not name.startswith("dist."):
        return True
    return any(threads[op] == event.thread for op in range(begun, index.op_count))


def is_of_numbers(index: Index, op: int) -> bool:
    """Whether only single numbers went into a collective: a loss to be printed, a count."""
    layouts = (index.recording.layouts[index.layout_at(tensor, op)] for tensor in index.uses.of(op))
    return all(index.recording.text(layout.shape) in ("()", "(1,)") for layout in layouts)


def special(detail: dict[str, object]) -> list[str]:
    """What is special of a call, in words: ``from rank 1``, ``max``."""
    said = [f"{word} rank {detail[key]}" for key, word in (("src", "from"), ("dst", "to")) if key in detail]
    return [*said, *([str(detail["op"])] if "op" in detail else [])]


def group_of(detail: dict[str, object]) -> tuple[int, ...]:
    """The ranks of the group of a call; empty: all."""
    group = detail.get("group")
    return tuple(rank for rank in group if isinstance(rank, int)) if isinstance(group, list) else ()


def _text(name: str, shape: str, dtype: str, detail: dict[str, object]) -> str:
    said = [name.rpartition(".")[2], *special(detail)]
    return " ".join([*said, f"of {shape} {dtype}"] if name in _OF_ONE_SHAPE and shape else said)
