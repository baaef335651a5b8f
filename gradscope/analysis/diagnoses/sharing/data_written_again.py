"""Stored data that is changed in place each time that it is given out."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sharing.out_of_place import a_new_tensor
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.facts.memory_writes.normalized_again import NormalizedAgain, normalized_again
from gradscope.analysis.facts.memory_writes.prepared_items import PreparedItems, prepared_items
from gradscope.analysis.facts.memory_writes.rewrapped_writes import RewrappedWrites, rewrapped_writes
from gradscope.analysis.facts.memory_writes.stacked_writes import data_written_again
from gradscope.analysis.facts.memory_writes.written_items import WrittenItem, written_items
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that writes, and for the lines that write what one line reads as an item."""
    index, told = sources.index, set[int]()
    for found in data_written_again(index, sources.sharing):
        told.add(index.op_statement[found.op])
        view, base = (sources.names.at(one, found.op) for one in (found.view, found.base))
        made = index.made_by(found.view)
        again = "the factor counts again" if called(index, found.op) == "mul" else "it is divided again"
        what = "what it adds is added to the noise of the times before" if found.is_random else again
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {index.call_name(found.op)} changes {base} itself, of which {view} is a "
            f"view, {found.times:,} times at the same place",
            why=f"each time {what}",
            op=found.op,
            tensors=[found.base, found.view],
            causes=[*sources.cause("write", found.op), *(sources.cause("made", made) if made >= 0 else [])],
            evidence=[Evidence("ops", made)] if made >= 0 else [],
            advice=f"Compute {a_new_tensor(index, found.op, view)}, or take {view} with clone().",
        )

    by_read: dict[int, list[WrittenItem]] = {}
    for item in written_items(index):
        if index.op_statement[item.write] not in told:
            by_read.setdefault(index.op_statement[item.read], []).append(item)
            told.add(index.op_statement[item.write])
    for items in by_read.values():
        yield _of_items(sources, items)
    for rewrapped in rewrapped_writes(index, sources.events):
        told.update(index.op_statement[op] for op in rewrapped.writes)
        yield _of_arrays(sources, rewrapped)
    for prepared in prepared_items(index, sources.sharing, sources.events):
        if told.isdisjoint(index.op_statement[op] for op in prepared.writes):
            told.update(index.op_statement[op] for op in prepared.writes)
            yield _of_prepared(sources, prepared)
    for normalized in normalized_again(index, sources.sharing, sources.events):
        if told.isdisjoint(index.op_statement[op] for op in normalized.writes):
            yield _of_normalized(sources, normalized)


def _of_normalized(sources: Sources, found: NormalizedAgain) -> Finding:
    """Items that are normalised in place by what was computed from them."""
    index = sources.index
    lines = sorted({index.op_line(op) for op in found.writes})
    calls = listed(list(dict.fromkeys(index.call_name(op) for op in found.writes)))
    view, base = found.tensor, sources.sharing.base_of(found.tensor)
    views = [view]
    while (below := sources.sharing.base_of(base)) >= 0:
        views.append(base)
        base = below
    made = [one for one in map(index.made_by, views) if one >= 0] if base >= 0 else []
    names = sources.listed(list(dict.fromkeys(map(sources.names.of, found.statistics))))
    write = "write" if " and " in calls else "writes"
    place, was = ("places", "were") if found.items > 1 else ("place", "was")
    why = f"from the second time on {names}, which other calls use, come from what is normalised already"
    if not found.statistics:
        why = "they overlap, so that what one was normalised by counts for a part of the next, too"
    whose = f"the memory of {sources.names.of(base)}" if base >= 0 else "that memory"
    return sources.finding(
        f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {calls} {write} what was computed from "
        f"{sources.names.of(view)} into {whose} itself: {found.items:,} {place} {was} written so"
        + (f", up to {found.times:,} times" if found.times > 1 else ""),
        why=why,
        op=found.writes[-1],
        tensors=[view, *([base] if base >= 0 else [])],
        causes=[
            *(cause for op in found.writes for cause in sources.cause("write", op)),
            *(cause for op in made for cause in sources.cause("made", op)),
        ],
        evidence=[Evidence("ops", op) for op in found.writes],
        advice="Compute a new tensor there (x = (x - mean) / scale), or take a copy first: .clone().",
    )


def _of_prepared(sources: Sources, found: PreparedItems) -> Finding:
    """Items that a program keeps, each a tensor of its own."""
    index = sources.index
    lines = sorted({index.op_line(op) for op in found.writes})
    calls = listed(list(dict.fromkeys(index.call_name(op) for op in found.writes)))
    writes = "write" if " and " in calls else "writes"
    return sources.finding(
        f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {calls} {writes} into the stored tensors themselves: "
        f"{found.items:,} of them were written so again, up to {found.times:,} times, each time on top of what was "
        "left the time before",
        op=found.writes[-1],
        tensors=[found.tensor],
        causes=[cause for op in found.writes for cause in sources.cause("write", op)],
        evidence=[Evidence("ops", found.writes[-1])],
        advice="Compute a new tensor there (x = x / w), or take a copy first: .clone().",
    )


def _of_arrays(sources: Sources, found: RewrappedWrites) -> Finding:
    """An array that tensors are put on, again and again."""
    index = sources.index
    lines = sorted({index.op_line(op) for op in found.writes})
    calls = listed(list(dict.fromkeys(index.call_name(op) for op in found.writes)))
    made = index.span_line(found.span)
    shared = "a tensor there shares its memory" if lines == [made] else f"the tensor of line {made} shares its memory"
    changes = f"{calls} changes" if " and " not in calls else f"{calls} change"
    return sources.finding(
        f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {changes} the array itself ({shared}), "
        f"{found.times:,} times in a row, each time on top of what the time before had left",
        op=found.writes[-1],
        tensors=[found.tensor],
        causes=[
            *(cause for op in found.writes for cause in sources.cause("write", op)),
            *sources.cause_of_span("made", found.span),
        ],
        evidence=[Evidence("events", found.row)],
        advice=f"Compute {a_new_tensor(index, found.writes[-1])}, or put the tensor on a copy of the array.",
    )


def _of_items(sources: Sources, items: list[WrittenItem]) -> Finding:
    """Items that a data set took as views of what it keeps."""
    index, first = sources.index, items[0]
    lines = {index.op_line(item.write) for item in items}
    return sources.finding(
        f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {index.call_name(first.write)} writes in place what line "
        f"{index.op_line(first.read)} reads from {sources.names.at(first.base, first.read)}, a view of it: one place "
        f"was written {first.times:,} times, and each reading gives what the one before left",
        op=first.write,
        tensors=[first.base],
        causes=[
            *(cause for item in items for cause in sources.cause("write", item.write)),
            *sources.cause("made", first.read),
        ],
        evidence=[Evidence("ops", first.read)],
        advice=f"Compute {a_new_tensor(index, first.write)}, or read a copy: .clone().",
    )


DIAGNOSIS = Diagnosis(
    code="data-written-again",
    title="stored data that is changed each time that it is given out",
    severity="warning",
    explanation=Explanation(
        meaning="""A function that prepares data (__getitem__, forward, augment …) took a view of stored values and
            added noise to it, or multiplied it, in place. It did so several times at the same place, and nothing else
            writes there. Or a __getitem__ took such a view, and a transform wrote into it. Or a tensor was put on a
            NumPy array (from_numpy), which was normalised through it, and again in the next epoch. Or the tensors of
            a list that is gone through each epoch were written in place by a transform or in the loop. Or they were
            normalised in place by their own mean, and the mean was used for something else, too.""",
        reason="""An index, a slice or a row is a view of what is stored. x += noise on it changes the data set, so that
            the noise of all epochs adds up, and a factor is applied once more in each.""",
        remedy="""x = x + noise in place of x += noise, or x = self.data[i].clone().""",
    ),
    example=Example(
        shows="""\
import torch

data = torch.ones(4, 3)


def noisy(i):
    x = data[i]
    x += torch.randn(3)
    return x


for epoch in range(3):
    print(torch.stack([noisy(i) for i in range(4)]).mean())
""",
        instead_of="x = data[i]",
        silent="x = data[i].clone()",
    ),
    find=_find,
)
