"""A tensor that was made in inference mode and met autograd later."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.recording import NONE
from gradscope.recording.flags import INFERENCE_TENSOR
from gradscope.recording.rows import OpFlag

_MESSAGES = (
    "Inference tensors cannot be saved for backward",
    "Inplace update to inference tensor outside InferenceMode",
    "Setting requires_grad=True on inference tensor outside InferenceMode",
)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    last = {index.op_statement[op]: (op, severity) for op, _, severity in sources.raised(*_MESSAGES)}
    for op, severity in last.values():
        flags = index.recording.tensors.column("flags")
        met = next((tensor for tensor in index.uses.of(op) if flags[tensor] & INFERENCE_TENSOR), NONE)
        if met < 0:
            continue
        first = _made_in_it(sources, met)
        entered = _entered(sources, first)
        causes = sources.cause("set", entered) if entered >= 0 else sources.made_at(first)
        where = f" of line {causes[0].line}" if causes else ""
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} failed, since {sources.names.at(met, op)} was made in "
            f"the inference mode{where}, and such a tensor takes no part in autograd",
            op=op,
            tensors=[met],
            causes=causes,
            advice="Use torch.no_grad() there, or take a clone() of it outside of inference mode.",
            severity=severity,
        )


def _made_in_it(sources: Sources, tensor: int) -> int:
    """The tensor that was made in inference mode, where another one is a view of it that was taken later."""
    index, tensors = sources.index, sources.index.recording.tensors
    op_flags = index.recording.ops.column("flags")
    while (op := tensors.column("op")[tensor]) < index.op_count and not op_flags[op] & OpFlag.INFERENCE:
        taken = index.uses.of(op) if tensor in index.tensors_made(op) else ()
        before = [one for one in taken if tensors.column("flags")[one] & INFERENCE_TENSOR]
        if not before:
            break
        tensor = before[0]
    return tensor


def _entered(sources: Sources, tensor: int) -> int:
    """The op that entered the inference mode in which a tensor was made; NONE where none was seen."""
    index = sources.index
    threads = index.recording.ops.column("thread")
    made_at = index.recording.tensors.column("op")[tensor]
    open_modes: list[int] = []
    for op in range(min(made_at, index.op_count)):
        if threads[op] == threads[made_at] and index.func(op).startswith("inference_mode.__"):
            if index.func(op).endswith("__enter__"):
                open_modes.append(op)
            elif open_modes:
                open_modes.pop()
    return open_modes[-1] if open_modes else NONE


DIAGNOSIS = Diagnosis(
    code="inference-tensor",
    title="a tensor from inference mode met autograd",
    severity="problem",
    explanation=Explanation(
        meaning="""An operation raised, since one of its tensors was made under torch.inference_mode(): it was to be
            saved for backward, to be written in place, or to require grad.""",
        reason="""Tensors that are made in inference mode have no version counter, and autograd can never use them. That
            is what makes the mode quick, and what no_grad does not do.""",
        remedy="""Use torch.no_grad() where what is computed is used in training later (targets, cached features). Or
            take a clone() outside of the mode, which is an ordinary tensor.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
with torch.inference_mode():
    target = torch.ones(3) * 2
loss = (w * target).sum()
""",
        instead_of="with torch.inference_mode():",
        silent="with torch.no_grad():",
    ),
    find=_find,
)
