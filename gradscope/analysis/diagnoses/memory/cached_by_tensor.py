"""A cache of functools whose keys are tensors that are made anew for each call: it keeps them, and finds none again."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.keepers import keeper
from gradscope.analysis.facts.memory.keys_of_caches import keys_kept
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each function with such a cache, unless it is said already that it keeps graphs."""
    index = sources.index
    for one in keys_kept(index, sources.names, sources.names_held):
        put = one.function.put
        if (one.file, put.line) in _told(sources):
            continue
        line, count = index.line(one.file, put.line), index.kept_with(one.tensors)
        last = index.users.of(one.tensors[-1])[0]
        yield sources.finding(
            f"Line {line}: {put.holder} keeps {count:,} tensors that {one.function.name} was given, and what it "
            "returned for each",
            why="a cache finds a tensor only as the very same object, not by its values; these were used in one call "
            "each, and no name was found that holds one of them any more"
            + (": it keeps as many as it has room for" if one.is_bounded else ""),
            op=min(last, index.op_count - 1),
            tensors=[one.tensors[-1]],
            causes=[sources.cause_of_line("made", one.file, put.line, put.end_line, one.function.name)],
            evidence=[Evidence("tensors", tensor) for tensor in one.tensors[:2]],
            advice="Cache what is made of numbers (sizes, a device), or take the cache away.",
        )


def _told(sources: Sources) -> set[tuple[int, int]]:
    """File and line of caches that keep results with graphs."""
    found = (keeper(sources.index, one.tensors, sources.names_held, one.alike) for one in sources.kept_after_passes)
    return {(one.file, one.put.line) for one in found if one is not None and one.is_cache}


DIAGNOSIS = Diagnosis(
    code="cached-by-tensor",
    title="a cache of functools that is given a new tensor in each call",
    severity="warning",
    explanation=Explanation(
        meaning="""A function under functools.lru_cache or cache was given one tensor after the other, each for one
            call. They are still there at the end, though no name of the program holds them.""",
        reason="""The cache finds results by its arguments, and a tensor is equal, as a key, to itself alone. A new
            batch is a new key, whatever its values: the function runs each time, and the cache keeps arguments and
            results.""",
        remedy="""Take the decorator away. Where something costly can be computed once, put that into a function of
            its own that is given sizes, dtypes and devices.""",
    ),
    example=Example(
        shows="""\
import functools
import torch


@functools.lru_cache(maxsize=None)
def distances(points):
    return (points[:, None] - points[None]).norm(dim=-1)


for step in range(12):
    points = torch.randn(5, 3)
    print(distances(points).mean())
""",
        instead_of="@functools.lru_cache(maxsize=None)",
        silent="# not kept",
    ),
    find=_find,
)
