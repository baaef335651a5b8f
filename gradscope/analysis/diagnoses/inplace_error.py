"""``modified by an inplace operation``: by which line."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.inplace_writes import JudgedWrite
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the tensors of one line."""
    index, writes = sources.index, sources.writes
    alike: dict[tuple[int, str, int, int], list[JudgedWrite]] = {}
    for write in writes.judged:
        if write.effect.effect == "raised":
            lines = index.op_line(writes.saved_at(write)), index.op_line(write.effect.backward_op)
            alike.setdefault((index.op_statement[write.op], index.func(write.op), *lines), []).append(write)
    for (_, func, saved_line, backward_line), same in alike.items():
        first = same[0]
        kinds = listed([writes.saved_as(write) for write in same])
        names = listed([sources.names.of(write.tensor) for write in same])
        yield sources.finding(
            f"Line {index.op_place(first.op).line}: {func} wrote into {names}, which line {saved_line} had saved for "
            f"backward ({kinds}); therefore backward at line {backward_line} failed",
            op=first.op,
            tensors=[write.tensor for write in same],
            causes=[*sources.cause("write", first.op), *sources.cause("saved", writes.saved_at(first))],
            evidence=[Evidence("saved", write.effect.saved_row) for write in same]
            + [Evidence("ops", first.effect.backward_op)],
        )


DIAGNOSIS = Diagnosis(
    code="inplace-error",
    title="a saved tensor was written in place before backward needed it",
    severity="problem",
    explanation=Explanation(
        meaning="""Backward raised "one of the variables needed for gradient computation has been modified by an
            inplace operation". The sentence names the line that wrote, and the line whose operation had saved the
            tensor.""",
        reason="""Many operations keep their inputs or their result for backward. Each tensor has a version
            counter that in-place operations raise; a saved tensor whose counter has changed since cannot be used,
            and autograd raises instead of computing a wrong gradient.""",
        remedy="""Write out of place at the named line (y = y + 1 for y += 1, y * mask for y[...] = 0), or write
            into a clone(), or write after backward. If an optimizer step wrote, compute the loss anew after the
            step.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.ones(3, requires_grad=True)
y = x.sigmoid()
loss = y.sum()
y.detach().zero_()
loss.backward()
""",
        instead_of="y.detach().zero_()",
        silent="y.detach().clone().zero_()",
    ),
    find=_find,
)
