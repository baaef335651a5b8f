"""How often statements ran that a pass through their loop may leave out, by what ran between.

``if step % 10 == 0: kept = copy.deepcopy(state)`` makes any number of calls a run, and stands alone in its block. Each
pass through the loop runs what it begins with, too: what the statement calls without that in between is of one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradscope.analysis.index import Index
from gradscope.recording.flags import CONTINUED, MADE


def separated_runs(index: Index, between: Mapping[int, Iterable[int]]) -> dict[int, int]:
    """How often each of some statements ran.

    Args:
        index: The recording.
        between: By statement those that run between any two runs of it. One between which and it nothing is seen is
            left out, and so is one that several threads run.
    """
    if not between or len(index.recording.left_out):
        return {}
    separates: dict[int, list[int]] = {}
    for at, others in between.items():
        for other in others:
            separates.setdefault(other, []).append(at)
    seen, begun = set[int](), dict.fromkeys(between, False)
    runs, threads = dict.fromkeys(between, 0), dict[int, set[int]]()
    columns = (index.recording.ops.column(name) for name in ("flags", "thread"))
    for op, (at, flags, thread) in enumerate(zip(index.op_statement, *columns, strict=True)):
        if flags & (MADE | CONTINUED):
            continue
        for one in separates.get(at, ()):
            seen.add(one)
            begun[one] = False
            threads.setdefault(one, set()).add(thread)
        if at in begun:
            runs[at] += 0 if begun[at] else index.weights[op]
            begun[at] = True
            threads.setdefault(at, set()).add(thread)
    return {at: count for at, count in runs.items() if count and at in seen and len(threads[at]) == 1}
