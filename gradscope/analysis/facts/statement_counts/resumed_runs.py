"""How often the statements ran that compiled code goes on at behind a graph break.

What stands behind a break is a function of its own to torch.compile, and what it compiled for it has no columns: one
run of a line may be several calls of such code. Each function that is compiled begins anew with its first graph.
"""

from __future__ import annotations

import re
from collections import Counter

from gradscope.analysis.index import NOWHERE, Index

_RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_\d+$")


def runs_behind_breaks(index: Index) -> dict[int, int]:
    """By statement how often it ran, of those that only such code was seen at.

    Where a function has no graph before its first break, nothing tells where a run begins: then it is as often as the
    call that ran most often.
    """
    spans, text = list(index.recording.spans), index.recording.text
    base: dict[int, tuple[int, str]] = {}
    for span, place in enumerate(spans):
        if _RESUMED.search(text(place.function)):
            base[span] = (place.file, _RESUMED.sub(r"\1", text(place.function)))
    if not base:
        return {}
    compiled = set(base.values())
    keys = {span: (place.file, text(place.function)) for span, place in enumerate(spans) if place.col < 0}
    begins = {span: key for span, key in keys.items() if key in compiled}
    began: Counter[tuple[int, str]] = Counter()
    last: dict[int, int] = {}
    runs: Counter[int] = Counter()
    calls: dict[int, Counter[int]] = {}
    for op, (span, at) in enumerate(zip(index.recording.ops.column("span"), index.op_statement, strict=True)):
        if span in begins:
            began[begins[span]] += 1
        elif span in base and at != NOWHERE:
            calls.setdefault(at, Counter())[span] += index.weights[op]
            now = began[base[span]]
            runs[at] += index.weights[op] if last.get(at) != now else 0
            last[at] = now
    return {at: runs[at] if runs[at] > 1 else max(counts.values()) for at, counts in calls.items()}
