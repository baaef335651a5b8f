"""A Function's backward that averages where its forward adds up, or the other way round."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward
from gradscope.analysis.report_model import Evidence
from gradscope.frames.called_by_torch.reductions import averaged_alone, averages_alone


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each Function that a backward pass came through."""
    recording, walked = sources.index.recording, sources.passes.first_walked_at
    last: dict[str, int] = {}
    for node, name in enumerate(recording.nodes.column("name")):
        if walked[node] >= 0 and recording.text(name) in sources.functions.of_name:
            last[recording.text(name)] = node
    for function, node in last.items():
        found = _finding(sources, sources.functions.of_name[function], node)
        if found is not None:
            yield found


def _finding(sources: Sources, written: WrittenBackward, node: int) -> Finding | None:
    if written.forward is None:
        return None
    statement = averages_alone(written.forward, written.definition)
    what, advice = "takes a mean of the gradient, and its forward neither takes one nor divides", "Take the sum there."
    why = "the gradient of what is used for several elements is the sum of theirs"
    if statement is None:
        statement = averaged_alone(written.forward, written.definition)
        what, advice = "divides by nothing, and its forward returns a mean", "Divide by the number of elements."
        why = "each element has its share in a mean, 1 / n"
    if statement is None:
        return None
    lines = written.lines_of(statement)
    op, other = sources.index.recording.nodes.column("op")[node], sources.index.node_tensor[node]
    return sources.finding(
        f"Line {lines.line}: {written.name}'s backward {what}",
        why=why,
        op=min(op, sources.index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("returned", [lines]),
        evidence=[Evidence("nodes", node)],
        advice=f"{advice} torch.autograd.gradcheck shows it for inputs of float64.",
    )


DIAGNOSIS = Diagnosis(
    code="backward-reduces-otherwise",
    title="a Function's backward that averages where its forward does not, or the other way round",
    severity="warning",
    explanation=Explanation(
        meaning="""In the source of a custom Function, backward takes a mean of the gradient though forward neither
            takes a mean nor divides; or forward returns a mean, and nothing in either of them divides.""",
        reason="""What is used for each element of a batch (a bias) gets the sum of their gradients, not the mean. Of a
            mean each element gets one n-th. Both slips give the right shape and a gradient that is n times too small or
            too large.""",
        remedy="""grad.sum(0) for a bias; grad / n for a mean. Check with torch.autograd.gradcheck.""",
    ),
    example=Example(
        shows="""\
import torch


class AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias):
        return x + bias

    @staticmethod
    def backward(ctx, grad):
        return grad, grad.mean(0)


bias = torch.zeros(3, requires_grad=True)
AddBias.apply(torch.ones(4, 3), bias).sum().backward()
""",
        instead_of="return grad, grad.mean(0)",
        silent="return grad, grad.sum(0)",
    ),
    find=_find,
)
