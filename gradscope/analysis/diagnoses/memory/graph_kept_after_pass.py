"""Results kept with graphs that backward passes have used up, by the line that keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.entries_kept import EntryKept, entry_kept
from gradscope.analysis.facts.memory.keepers import Keeper, keeper
from gradscope.analysis.facts.memory.kept_after_passes import KeptAfterPasses
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import NamedLine
from gradscope.analysis.wording import listed
from gradscope.recording.flags import VIEW

_VIEWS = 2
"""Views of views of a result that are looked at: rows of a reshaped output."""
_SUSPENDED = "close() ends a generator that is not run to its end, and lets go of what its frame holds."
_CACHED = "functools finds a tensor only as the very same object: cache what is made of numbers, and no tensors."


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that keeps results."""
    index = sources.index
    by_line: dict[tuple[int, int], tuple[Keeper, list[KeptAfterPasses]]] = {}
    for kept in sources.kept_after_passes:
        found = keeper(index, kept.tensors, sources.names_held, kept.alike)
        if found is None and (rows := _views_kept(sources, kept)):
            found = keeper(index, rows, sources.names_held)
        if found is not None:
            by_line.setdefault((found.file, found.put.line), (found, []))[1].append(kept)
    for found, several in by_line.values():
        there = [_put_there(sources, kept.tensors) for kept in several]
        tensors = _without_bases(sources, [tensor for put in there for tensor in put])
        passes = max(kept.passes - (len(put) < len(kept.tensors)) for kept, put in zip(several, there, strict=True))
        op = index.recording.tensors.column("op")[tensors[-1]]
        entry = entry_kept(index, sources.passes, tensors, sources.names_held, found)
        finding = sources.finding(
            _keeps(sources, found, entry, f"{index.kept_with(tensors):,}"),
            why=f"{passes:,} backward passes have used these graphs up, so that none of them can be walked again, and "
            "each iteration puts one more there",
            op=op,
            tensors=tensors[-1:],
            causes=[*_entering(sources, entry), *lines_that_keep(sources, found)],
            evidence=[Evidence("ops", kept.last) for kept in several],
            advice=_CACHED
            if found.is_cache
            else _SUSPENDED
            if found.in_generators
            else "Let the default be None, and make it anew in the body of the function; or put detached results there."
            if found.default is not None
            else "detach() of what is kept lets go of the graph; item() where only a number is wanted.",
        )
        yield finding._replace(subject=found.put.holder, tensor=found.put.holder)


def _keeps(sources: Sources, found: Keeper, entry: EntryKept | None, count: str) -> str:
    """What keeps results, and where it gets them."""
    index, line = sources.index, line_that_keeps(sources, found)
    if entry is not None:
        at = index.line(entry.file, entry.entry.line)
        where = f"into what {holder_of(found)} keeps (line {line})"
        return f"Line {at}: {count} results go with their graphs, as {entry.key}, {where}"
    handed = dict.fromkeys(f"line {index.line(file, call.line)}" for file, call in found.handed)
    by = f", which {' and '.join(handed)} hands over" if handed and found.default is None else ""
    return f"Line {line}: {holder_of(found)} keeps {count} results with their graphs{by}"


def _entering(sources: Sources, entry: EntryKept | None) -> list[Cause]:
    if entry is None:
        return []
    return [sources.cause_of_line("made", entry.file, entry.entry.line, entry.entry.end_line, entry.entry.function)]


def _put_there(sources: Sources, tensors: tuple[int, ...]) -> tuple[int, ...]:
    """Some results without the last one, where a name of the loop still holds that and no list, as it does others."""
    text = sources.index.recording.text
    *others, last = [any("[" in text(name) for name, _, _ in sources.names_held.get(tensor, ())) for tensor in tensors]
    return tensors[:-1] if any(others) and not last else tensors


def _without_bases(sources: Sources, tensors: list[int]) -> list[int]:
    """Some results without those that live because a view of theirs, which is kept, refers to them."""
    flags, storages = (sources.index.recording.tensors.column(name) for name in ("flags", "storage"))
    viewed = {storages[tensor] for tensor in tensors if flags[tensor] & VIEW}
    return [tensor for tensor in tensors if flags[tensor] & VIEW or storages[tensor] not in viewed]


def _views_kept(sources: Sources, kept: KeptAfterPasses) -> list[int]:
    """The rows and other views of results that were there when the last pass was over: each keeps its result."""
    index = sources.index
    flags, died = (index.recording.tensors.column(name) for name in ("flags", "died"))
    found, level = list[int](), list(kept.tensors)
    for _ in range(_VIEWS):
        made = (one for tensor in level for op in index.users.of(tensor) for one in index.made.of(op))
        level = [one for one in made if flags[one] & VIEW]
        found += [one for one in level if not 0 <= died[one] <= kept.last]
    return found


def results_kept(sources: Sources) -> set[int]:
    """All results of the calls whose results a known line keeps with their graphs."""
    index = sources.index
    return {
        tensor
        for kept in sources.kept_after_passes
        if keeper(index, kept.tensors, sources.names_held, kept.alike) is not None
        for tensor in kept.alike
    }


def line_that_keeps(sources: Sources, found: Keeper) -> NamedLine:
    """The first of these lines."""
    return sources.index.line(found.file, (found.default or found.emptied or found.put).line)


def holder_of(found: Keeper) -> str:
    """What keeps things, as a sentence says it."""
    if found.default is not None:
        return f"{found.default.name}, whose default is made once for all calls of {found.default.function},"
    if found.emptied is not None:
        return f"{found.put.holder}, which is not emptied with {listed(found.emptied.others)},"
    if found.in_generators:
        return f"{found.put.holder}, in the frames of generators that are not run to their end,"
    return found.put.holder


def lines_that_keep(sources: Sources, found: Keeper) -> list[Cause]:
    """What puts things where they stay, as the text says, and the calls that hand them to it.

    Of a list that is the default of an argument, that default: with a list for each call nothing would stay. First,
    what empties others and not this one.
    """
    if found.default is not None:
        return [sources.cause_of_line("made", found.file, found.default.line, found.default.end_line, "")]
    put = sources.cause_of_line("made", found.file, found.put.line, found.put.end_line, found.put.function)
    if found.emptied is not None:
        return [sources.cause_of_line("used", found.file, found.emptied.line, found.emptied.end_line, ""), put]
    return [put, *(sources.cause_of_line("used", file, call.line, call.end_line, "") for file, call in found.handed)]


DIAGNOSIS = Diagnosis(
    code="graph-kept-after-pass",
    title="results that are kept with graphs that are used up",
    severity="warning",
    explanation=Explanation(
        meaning="""Results of several backward passes are kept at the same time, in a list, a dict, an object or the
            cache of a function, with their graphs. The passes have used those graphs up: no gradient can come of
            them any more.""",
        reason="""A result that requires grad keeps its grad_fn, and that the nodes of the whole graph behind it, the
            results that these refer to, and what hooks keep. A pass frees only what was saved for it.""",
        remedy="""Put output.detach() there (with clone() where it is a small part of a large block), or loss.item()
            where the number is wanted.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
outputs = []
for step in range(5):
    out = w * step
    out.sum().backward()
    outputs.append(out)
""",
        instead_of="outputs.append(out)",
        silent="outputs.append(out.detach())",
    ),
    find=_find,
)
