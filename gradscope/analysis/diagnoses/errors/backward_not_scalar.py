"""``grad can be implicitly created only for scalar outputs``: where the tensor came from that is not a scalar."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    raised = sources.raised("grad can be implicitly created only for")
    last = {index.op_statement[op]: (op, message, severity) for op, message, severity in raised if index.uses.of(op)}
    for op, message, severity in last.values():
        root = index.uses.of(op)[0]
        layout = index.recording.layouts[index.layout_at(root, op)]
        is_complex = "real scalar" in message
        form = (
            f"is {index.recording.text(layout.dtype)} and no real number"
            if is_complex
            else (f"is no scalar but of shape {index.recording.text(layout.shape)}")
        )
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} failed, since {sources.names.at(root, op)} "
            f"({sources.made(root)}) {form}",
            op=op,
            tensors=[root],
            causes=[*sources.made_at(root), *sources.cause("backward", op)],
            advice="Make it real: abs(), or the real part of what it is made from."
            if is_complex
            else "Take its mean() or sum(), or hand over a gradient of its shape.",
            severity=severity,
        )


DIAGNOSIS = Diagnosis(
    code="backward-not-scalar",
    title="backward was called on a tensor that is no scalar",
    severity="problem",
    explanation=Explanation(
        meaning="""Backward raised "grad can be implicitly created only for scalar outputs": it was asked for the
            gradient of several values at once. The sentence names the line that made them.""",
        reason="""Backward computes the gradient of one number. Of several it computes a weighted sum of their
            gradients, and the weights are the gradient argument; without it torch does not guess.""",
        remedy="""Reduce the loss to one number: mean() or sum(), or a reduction other than "none". Or hand over the
            weights: y.backward(torch.ones_like(y)).""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
loss = w * 2
loss.backward()
""",
        instead_of="loss = w * 2",
        silent="loss = (w * 2).sum()",
    ),
    find=_find,
)
