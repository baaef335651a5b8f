"""How often statements ran that pickle tensors, or bring them back: pickle's C calls torch once for each tensor.

A run pickles a tensor once, and brings back what it pickled after all of it is; what stands between two calls is of
another statement's run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gradscope.analysis.index import Index
from gradscope.recording.flags import CONTINUED, MADE

_BRINGS_BACK = ("_rebuild_", "__setstate__", "_load_from_bytes")
_PICKLES = ("__reduce_ex__", "__reduce__")


def is_by_pickle(index: Index, span: int, func: int) -> bool:
    """Whether a function that is called at a span is one that pickle calls, and that does not stand there."""
    name = index.recording.text(func).rpartition(".")[2]
    if not name.startswith(_BRINGS_BACK) and name not in _PICKLES:
        return False
    place = index.recording.spans[span]
    return name not in index.recording.source(place.file, place.line, place.end_line)


def pickled_runs(index: Index, statements: Iterable[int]) -> dict[int, int]:
    """How often each of some statements ran, by its calls of this kind; at least so often where nothing parts them."""
    wanted = set(statements)
    if not wanted or len(index.recording.left_out):
        return {}
    runs, pickled, is_back = Counter[int](), dict[int, set[int]](), set[int]()
    columns = (index.recording.ops.column(name) for name in ("func", "flags"))
    before = -1
    for op, (at, func, flags) in enumerate(zip(index.op_statement, *columns, strict=True)):
        if at not in wanted or flags & (MADE | CONTINUED):
            before = at
            continue
        name = index.recording.text(func).rpartition(".")[2]
        taken = set(index.uses.of(op)) if name in _PICKLES else set()
        begins = at != before or (name in _PICKLES and (at in is_back or bool(taken & pickled.get(at, set()))))
        if begins:
            runs[at] += index.weights[op]
            pickled[at] = set()
            is_back.discard(at)
        pickled[at] |= taken
        is_back.update([at] if name.startswith(_BRINGS_BACK) else [])
        before = at
    return dict(runs)
