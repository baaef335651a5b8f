"""Which results of one call in the source are the same one, run after run.

``out = model(x)`` calls ``F.linear`` once a layer, all from one span. The runs of one layer belong together: they are
counted as one, and share a name; the layers do not. Nothing in a recording says where a run begins, but the results
that were seen to be stored under a name do: one comes in every run, always at the same place.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, pairwise

from gradscope.analysis.index import Index
from gradscope.frames.blocks.statement_blocks import parse_blocks
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, EXTERNAL

FULL_MATCHES = 16
"""Calls whose result is looked for under a name each time."""
NAMED_RUNS = 64
"""Named results that are looked at for each call."""


def find_slots(index: Index, is_named: bytearray) -> array[int]:
    """An id for each tensor that tensors share which are the same result of the same call in other runs.

    Args:
        index: The recording.
        is_named: 1 for each tensor that the statement which made it stored under a name.

    Returns:
        Ids, NONE for tensors that no op made, and for those without a name of calls whose named results come at no
        regular distance.
    """
    calls, orders, named, counts, firsts = _order_by_call(index, is_named)
    lengths = [_calls_a_run(positions, count) for positions, count in zip(named, counts, strict=True)]
    lengths = [
        1 if length > 1 and _is_once_a_run(index, op) else length for length, op in zip(lengths, firsts, strict=True)
    ]
    first = list(accumulate((max(1, length) for length in lengths), initial=0))
    slots = array("i", [NONE]) * len(calls)
    for tensor, (call, order) in enumerate(zip(calls, orders, strict=True)):
        if call >= 0 and lengths[call]:
            slots[tensor] = first[call] + order % lengths[call]
        elif call >= 0 and is_named[tensor]:
            slots[tensor] = first[call]
    return slots


def _order_by_call(
    index: Index, is_named: bytearray
) -> tuple[array[int], array[int], list[list[int]], list[int], list[int]]:
    """For each tensor its call in the source, and the how many-th result of it; for each call, which were named, how
    many it made, and the first op of it.
    """
    tensors, ops = index.recording.tensors, index.recording.ops
    spans, inner, funcs, made_at = ops.column("span"), ops.column("inner"), ops.column("func"), tensors.column("op")
    ids: dict[tuple[int, int, int, int], int] = {}
    calls, orders = array("i", [NONE]) * len(tensors), array("i", bytes(4 * len(tensors)))
    counts: list[int] = []
    named: list[list[int]] = []
    firsts: list[int] = []
    places = index.places_in_call
    for tensor, (op, flags) in enumerate(zip(made_at, tensors.column("flags"), strict=True)):
        if flags & EXTERNAL or op >= index.op_count:
            continue
        call = ids.setdefault((spans[op], inner[op], funcs[op], places[tensor]), len(counts))
        if call == len(counts):
            counts.append(0)
            named.append([])
            firsts.append(op)
        calls[tensor], orders[tensor] = call, counts[call]
        if is_named[tensor] and len(named[call]) < NAMED_RUNS:
            named[call].append(counts[call])
        counts[call] += 1
    return calls, orders, named, counts, firsts


def _is_once_a_run(index: Index, op: int) -> bool:
    """Whether the statement itself makes the call, and not in a comprehension: once a run, whatever was seen named.

    Of what may have got another value before somebody looked (``if masked: a = a + mask``) not each result is.
    """
    span, inner, flags = (index.recording.ops.column(name)[op] for name in ("span", "inner", "flags"))
    if span < 0 or inner != NONE or flags & BELOW:
        return False
    place = index.recording.spans[span]
    blocks = parse_blocks(index.recording.files[place.file].text)
    return not blocks.is_repeated((place.line, place.col), (place.end_line, place.end_col))


def _calls_a_run(named: list[int], count: int) -> int:
    """How many calls a run makes, by the positions of those whose result was named; 0 where they are irregular.

    Where only one was, though the next ones were looked at, too, the others are something else: a library's function
    makes what it gives, and more by the same call.
    """
    if not named:
        return 1
    if len(named) == 1 and 2 * named[0] + 1 < min(count, FULL_MATCHES):
        return 0
    length = min((after - before for before, after in pairwise(named)), default=named[0] + 1)
    return length if all((position - named[0]) % length == 0 for position in named) else 0
