"""A gradient of another shape, dtype or device than the tensor that it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Severity

_ASSIGNED = "attempting to assign a gradient"
_HANDED_OVER = "Mismatch in shape: grad_output["
_RETURNED = re.compile(
    r"[Ff]unction (\w+)Backward\d* returned an? (?:invalid gradient|incorrect number of gradients|gradient different)"
)

_POSITION = re.compile(r"invalid gradient at index (\d+)")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    raised = sources.raised(_ASSIGNED, "assigned grad has", _HANDED_OVER, "returned an in", "returned a gradient")
    last = {index.op_statement[op]: (op, message, severity) for op, message, severity in raised}
    for op, message, severity in last.values():
        if match := _RETURNED.search(message):
            yield from _by_function(sources, op, match[1], message, severity)
        elif len(index.uses.of(op)) > 1:
            yield _given(sources, op, severity)


def _given(sources: Sources, op: int, severity: Severity | None) -> Finding:
    """One that the program made, for ``.grad`` or for backward."""
    index = sources.index
    tensor, gradient = index.uses.of(op)[0], index.uses.of(op)[-1]
    name, its_name = sources.names.at(tensor, op), sources.names.at(gradient, op)
    of, its = _form(sources, tensor, gradient, op)
    where = f"put into {name}.grad" if index.func(op).endswith("__set__") else f"the gradient for {name}"
    made = [cause for cause in sources.made_at(gradient) if cause.line != index.op_line(op)]
    return sources.finding(
        f"Line {index.op_line(op)}: {its_name} ({sources.made(gradient)}) cannot be {where}: it is {its}, and {name} "
        f"is {of}",
        op=op,
        tensors=[tensor, gradient],
        causes=[*made, *sources.cause("set", op)],
        advice=f"Make it like {name}: zeros_like, ones_like, view_as, to.",
        severity=severity,
    )


def _form(sources: Sources, tensor: int, gradient: int, op: int) -> tuple[str, str]:
    """In what two tensors differ: shape, else dtype, else device."""
    text = sources.index.recording.text
    one, other = (sources.index.recording.layouts[sources.index.layout_at(each, op)] for each in (tensor, gradient))
    if one.shape != other.shape:
        return f"of shape {text(one.shape)}", f"of shape {text(other.shape)}"
    if one.dtype != other.dtype:
        return text(one.dtype), text(other.dtype)
    return f"on {text(one.device)}", f"on {text(other.device)}"


def _by_function(sources: Sources, op: int, name: str, message: str, severity: Severity | None) -> Iterator[Finding]:
    """One that the backward of a custom Function returned."""
    written = sources.functions.of_name.get(f"{name}Backward")
    if written is None:
        return
    places = [written.lines_of(one) for one in written.returns] or [written.header]
    lines = ", ".join(str(place[1]) for place in places)
    at = _POSITION.search(message)
    computed = written.computed_at(int(at[1])) if at else []
    made = "".join(f", which line {place.line} computes" for place in computed)
    fault = message[message.find("returned") :].split(" (")[0].strip(" .")
    yield sources.finding(
        f"Line {sources.index.op_line(op)}: backward failed, since that of {name} (line {lines}) {fault}{made}",
        op=op,
        tensors=[],
        causes=[*sources.causes_at("made", computed), *sources.causes_at("returned", places)],
        advice="Return one gradient for each argument of forward, of the argument's shape, and None for what has none.",
        severity=severity,
    )


DIAGNOSIS = Diagnosis(
    code="gradient-does-not-fit",
    title="a gradient of another shape or type than its tensor",
    severity="problem",
    explanation=Explanation(
        meaning="""torch refused a gradient: one that was handed to backward, put into .grad, or returned by the
            backward of a custom Function has another shape, dtype or device than the tensor that it is for.""",
        reason="""A gradient says for each element of a tensor how much the loss changes with it: it has the
            tensor's shape. Put into .grad, it is what an optimizer adds to the tensor, so the dtype and the device
            count too.""",
        remedy="""Change the line that makes the gradient: view_as(parameter) for a part of a flat vector,
            ones_like(output) for backward, to(parameter.dtype).""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(2, 3, requires_grad=True)
weights = torch.ones(3)
(w * 2).backward(weights)
""",
        instead_of="weights = torch.ones(3)",
        silent="weights = torch.ones(2, 3)",
    ),
    find=_find,
)
