"""A pack function of saved-tensor hooks that stores what it is given, of which nothing is taken out again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.frames.called_by_torch.pack_stores import growing_stores
from gradscope.recording.flags import HOOKED
from gradscope.recording.rows import OpKind

_PASSES = 3
"""Backward passes of a run from which on what is kept of each piles up."""


def _find(sources: Sources) -> Iterator[Finding]:
    index, flags = sources.index, sources.index.recording.ops.column("flags")
    passes = index.of_kind(OpKind.BACKWARD)
    hooked = [op for op in range(index.op_count) if flags[op] & HOOKED]
    rounds = len({bisect_right(passes, op) for op in hooked if passes and op < passes[-1]})
    if rounds < _PASSES:
        return
    for number, file in enumerate(index.recording.files):
        for one in growing_stores(file.text) if file.is_user else ():
            line = index.line(number, one.line)
            reads = [index.line(number, read) for read in one.reads]
            read = f" (line {reads[0]} only reads)" if reads else ""
            yield sources.finding(
                f"Line {line}: {one.pack} puts saved tensors into {one.store}, and nothing takes them out again{read}",
                why="what a pass saved stays after it, and memory grows with each",
                op=hooked[-1],
                tensors=[],
                causes=[sources.cause_of_line("saved", number, at, at, "") for at in (line, *reads)],
                evidence=[Evidence("ops", hooked[0])],
                advice="Take it out where it is unpacked (pop), or empty the store after each backward.",
            )


DIAGNOSIS = Diagnosis(
    code="packed-and-kept",
    title="a pack hook that keeps what every pass saved",
    severity="warning",
    explanation=Explanation(
        meaning="""A pack function that is given to saved_tensors_hooks puts tensors into a dict or a list and returns a
            key. By the source nothing is taken out of it, and several backward passes came.""",
        reason="""Autograd lets go of what pack returned when a graph is used up: here that is a key. The tensor itself
            is held by the store, with all those of the passes before.""",
        remedy="""Take it out when it is unpacked (store.pop(key)), empty the store after each backward, or return the
            packed tensor itself.""",
    ),
    example=Example(
        shows="""\
import torch

store = {}
def pack(tensor):
    key = len(store)
    store[key] = tensor.half()
    return key
def unpack(key):
    return store[key].float()
w = torch.rand(64, 64, requires_grad=True)
for step in range(4):
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = (w * w).sum()
    loss.backward()
    w.grad = None
""",
        instead_of="return store[key].float()",
        silent="return store.pop(key).float()",
    ),
    find=_find,
)
