"""Results that a list, dict or cache keeps with their graphs when the run ends, and the line that puts them there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.memory.keepers import Keeper, keeper
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.frames.names.object_listings import object_listings
from gradscope.frames.names.put_statements import last_part, puts_in
from gradscope.recording import NONE

_TRACEBACK = ".__traceback__."


class KeptResults(NamedTuple):
    """What one list or dict keeps."""

    container: str
    tensors: tuple[int, ...]
    kept_by: Keeper
    by_traceback: bool
    """Whether exceptions are in it, through whose frames the tensors are there."""


def kept_results(
    index: Index, names: BestNames, held: dict[int, list[tuple[int, int, int]]], at_least: int
) -> KeptResults | None:
    """The list or dict that keeps most tensors with a graph when the run ends; None where no line is known for it.

    Args:
        index: The recording.
        names: Best names of tensors.
        held: For each tensor the names under which it was seen, with op and span.
        at_least: Results that there must be.
    """
    tensors = index.recording.tensors
    alive = [
        tensor
        for tensor, (node, died) in enumerate(zip(tensors.column("node"), tensors.column("died"), strict=True))
        if node >= 0 and died == NONE and names.is_named(tensor)
    ]
    listings = {name for file in index.recording.files if file.is_user for name in object_listings(file.text)}
    found: dict[tuple[str, bool], list[int]] = {}
    for tensor, known in names.all_of(alive).items():
        for container in {one for name in known if "[" in name for one in _containers(name)}:
            if last_part(container[0]) not in listings:
                found.setdefault(container, []).append(tensor)
    for (name, by_traceback), kept in sorted(found.items(), key=lambda pair: -len(pair[1])):
        kept_by = keeper(index, kept, held) if len(kept) >= at_least else None
        if kept_by is not None:
            is_called_so = last_part(name.partition("[")[0]) == last_part(kept_by.put.holder)
            return KeptResults(name if is_called_so else kept_by.put.holder, tuple(kept), kept_by, by_traceback)
    return _by_argument(index, names, held, alive, at_least) or _by_cache(index, held, at_least)


def _by_argument(
    index: Index, names: BestNames, held: dict[int, list[tuple[int, int, int]]], alive: list[int], at_least: int
) -> KeptResults | None:
    """Results of one statement that are all there, where one line only puts something of their name anywhere.

    What an object of the program's holds is seen by name only where a statement with a torch call reads it.
    """
    found: dict[tuple[int, str], list[int]] = {}
    made_at = index.recording.tensors.column("op")
    for tensor in alive:
        if made_at[tensor] < index.op_count:
            found.setdefault((index.op_statement[made_at[tensor]], names.of(tensor)), []).append(tensor)
    for kept in sorted(found.values(), key=len, reverse=True):
        kept_by = keeper(index, kept, held) if len(kept) >= at_least else None
        if kept_by is not None:
            return KeptResults(kept_by.put.holder, tuple(kept), kept_by, by_traceback=False)
    return None


def _containers(name: str) -> Iterator[tuple[str, bool]]:
    """What the name of an item says that it is in, and whether that is an exception in there, or its traceback.

    An item of the tuples of a list is in each of both.
    """
    error, dot, _ = name.partition(_TRACEBACK)
    if dot and "[" in error:
        yield error.partition("[")[0], True
    else:
        yield name.rpartition("[")[0], False
        yield name.partition("[")[0], False


def _by_cache(index: Index, held: dict[int, list[tuple[int, int, int]]], at_least: int) -> KeptResults | None:
    """Results of one statement that the cache of their function keeps, which gives them no name."""
    columns = (index.recording.tensors.column(name) for name in ("op", "node", "died"))
    found: dict[int, list[int]] = {}
    for tensor, (op, node, died) in enumerate(zip(*columns, strict=True)):
        if node >= 0 and died == NONE and op < index.op_count:
            found.setdefault(index.op_statement[op], []).append(tensor)
    for kept in sorted(found.values(), key=len, reverse=True):
        kept_by = keeper(index, kept, held) if len(kept) >= at_least else None
        if kept_by is not None and kept_by.is_cache:
            return KeptResults(kept_by.put.holder, tuple(kept), kept_by, by_traceback=False)
    return None


def only_put_into(index: Index, container: str) -> tuple[int, int] | None:
    """File and line of the one statement that puts things into a container of a name; None for none, or several."""
    last = last_part(container.partition("[")[0])
    places = [
        (number, put.line)
        for number, file in enumerate(index.recording.files)
        for put in (puts_in(file.text) if file.is_user else ())
        if last_part(put.holder) == last
    ]
    return places[0] if len(places) == 1 else None
