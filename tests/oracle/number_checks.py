"""Counts of a report beside the witness's: the summary, the notes of lines, what single lines save for backward."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .claim import Claim, equal
from .naming import path_of
from .witness import Moment, Witness

_FIRST_RUN = re.compile(r"(\S+): (\(.*\)) in the first run")
_CLEARED = re.compile(r"set \.grad of ([\d,]+) tensors? to None")
_NONE = re.compile(r"(\S+)\.grad is None")


def checked_numbers(seen: Witness, report: dict[str, Any], whole: set[int]) -> Iterator[Claim]:
    """The claims of the summary and of the notes.

    Args:
        seen: What was seen of the program.
        report: What is said of it.
        whole: Lines of statements all of whose runs came to their end.
    """
    yield from _summary(seen, report["summary"])
    for row in report["lines"]:
        moments = seen.moments[row["line"]]
        if row["line"] in whole and moments:
            for note in row["notes"]:
                yield from _note(row, note, moments)


def _summary(seen: Witness, summary: dict[str, Any]) -> Iterator[Claim]:
    yield equal("summary-passes", 0, "the number of passes", summary["backwards"], len(seen.passes))
    received = {key for one in seen.passes if one.kind == "backward" for key in one.received}
    yield equal("summary-received", 0, "leaves with a gradient", summary["leaves_with_gradient"], len(received))


def _note(row: dict[str, Any], note: str, moments: list[tuple[Moment, Moment]]) -> Iterator[Claim]:
    line, (before, after) = row["line"], moments[-1]
    if found := _CLEARED.fullmatch(note):
        cleared = sum(
            state.grad is not None and key in after.states and after.states[key].grad is None
            for key, state in before.states.items()
        )
        yield equal("note-cleared", line, "tensors whose .grad was set to None", int(found[1]), cleared)
    elif found := _NONE.fullmatch(note):
        state = before.state(before.names.get(path_of(found[1]) or ()))
        if state is not None:
            yield Claim("note-none", line, note, state.grad is None, f"its .grad is {state.grad}")
    elif found := _FIRST_RUN.fullmatch(note):
        first = moments[0][1]
        state = first.state(first.names.get(path_of(found[1]) or ()))
        if state is not None:
            yield equal("note-first-run", line, f"the shape of {found[1]} in the first run", found[2], state.shape)
