"""A write into a tensor that the statement itself made, and that is gone when it is over."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.lost_writes import LostWrite, lost_writes


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement."""
    index = sources.index
    for lost in lost_writes(index):
        is_module = lost.is_parametrized
        why, advice = _of_module(lost) if is_module else _of_copy(lost)
        what = "which is computed anew whenever it is needed" if is_module else "a new tensor that nothing holds"
        yield sources.finding(
            f"Line {index.op_line(lost.op)}: {index.call_name(lost.op)} writes into {lost.written}, {what}: what it "
            "writes is lost",
            why=why,
            op=lost.op,
            tensors=[lost.source],
            causes=sources.cause("write", lost.op),
            advice=advice,
        )


def _of_module(lost: LostWrite) -> tuple[str, str]:
    return (
        "its module computes it from other parameters (a parametrization, weight_norm, pruning), which the write "
        "leaves as they were",
        "Write before that is registered, or into those parameters themselves (weight_orig, where it is pruned), or "
        f"assign the attribute of a parametrized module ({lost.written} = …), which torch turns into values for them.",
    )


def _of_copy(lost: LostWrite) -> tuple[str, str]:
    return f"{lost.written} copies the values", "Write into the tensor itself: x[index] = …, x.masked_fill_(…)."


DIAGNOSIS = Diagnosis(
    code="write-lost",
    title="a write into a tensor that nothing holds",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement wrote in place into a tensor that it had made itself, from another one. The tensor was
            gone when the statement was over, and the other one stayed as it was.""",
        reason="""x[mask], x[[0, 2]], x.to(...) and x.clone() make new tensors; only x[0], x[1:3] and views have the
            memory of x. The weight of a layer under weight_norm or another parametrization is computed at each
            access, that of a pruned layer (torch.nn.utils.prune) at each call.""",
        remedy="""Write through an index: x[mask] = 0 changes x. For a parametrized weight, assign the attribute, or
            initialise before the parametrization is registered; for a pruned one, write into weight_orig.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(4)
w[[0, 2]].zero_()
print(w)
""",
        instead_of="w[[0, 2]].zero_()",
        silent="w[[0, 2]] = 0",
    ),
    find=_find,
)
