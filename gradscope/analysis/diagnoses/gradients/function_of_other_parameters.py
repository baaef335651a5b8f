"""Functions that torch.func takes the gradient of, and that compute with a module's own parameters instead."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.values_left_out import values_left_out
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.functions_of_grad import call_in_function
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

_GRADS = ("torch.grad_impl", "torch.grad_and_value_impl")
"""What ``torch.func.grad`` and ``grad_and_value`` call: once before the function, and once after it, for the zeros of
what the function did not use."""
_MAPS = "torch.vmap_impl"
"""What stands for them under ``torch.func.vmap``."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that calls such a function."""
    index, found = sources.index, dict[int, Finding]()
    began = NONE
    for op in index.calls_of((*_GRADS, _MAPS).__contains__):
        given = list(dict.fromkeys(index.uses.of(op)))
        if not given:
            began = op
            continue
        others = _computed_with(sources, given, began, op) if began >= 0 else []
        if others:
            found[index.op_statement[op]] = _finding(sources, op, others)
        began = NONE
    yield from found.values()
    yield from values_left_out(sources)


def _computed_with(sources: Sources, given: list[int], began: int, ended: int) -> list[tuple[int, int]]:
    """The calls (op and parameter) of a function that takes parameters of those shapes, and not what it is given.

    Where it takes other tensors that it is given, the parameters must require grad: else they are another model's.
    """
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    layouts, kinds = index.recording.tensors.column("layout"), index.recording.ops.column("kind")
    users = [user for tensor in given for user in index.users.of(tensor) if began < user < ended]
    is_part = any(kinds[user] == OpKind.GRAD for user in users)
    shapes = [_shape(sources, layouts[tensor]) for tensor in given]
    zeros = [_shape(sources, layouts[tensor]) for tensor in index.tensors_made(ended)]
    if any(kinds[user] != OpKind.GRAD for user in users) or (index.func(ended) == _MAPS and zeros != shapes):
        return []
    taken = [
        (op, tensor)
        for op in range(began + 1, ended)
        for tensor in index.uses.of(op)
        if flags[tensor] & PARAMETER and _shape(sources, layouts[tensor]) in shapes
        if index.requires_grad(tensor, op) or not is_part
    ]
    own = {tensor for _, tensor in taken}
    return taken if sorted(_shape(sources, layouts[tensor]) for tensor in own) == sorted(shapes) else []


def _shape(sources: Sources, layout: int) -> str:
    return sources.index.recording.text(sources.index.recording.layouts[layout].shape)


def _finding(sources: Sources, op: int, taken: list[tuple[int, int]]) -> Finding:
    index, last = sources.index, taken[-1][0]
    tensors = list(dict.fromkeys(tensor for _, tensor in taken))
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    causes = _called_at(sources, tensors[0], last, op)
    return sources.finding(
        f"Line {causes[0].line if causes else index.op_line(last)}: the function computes with {names} of the module, "
        "not with what it is given",
        why=f"torch.func.grad asks for the gradient of what is given (at line {index.op_line(op)}), which is all zeros "
        f"for {'them' if len(tensors) > 1 else 'it'}",
        op=last,
        tensors=tensors,
        causes=causes,
        evidence=[Evidence("ops", op)],
        advice="Call the module with them: torch.func.functional_call(module, parameters, (inputs,)).",
    )


def _called_at(sources: Sources, parameter: int, used: int, ended: int) -> list[Cause]:
    """Where the module was called that has a parameter; the line that uses it where that is in no forward.

    What the text of the function calls is asked first: a module's first call may be elsewhere.
    """
    recording = sources.index.recording
    if sources.index.op_place(used).function.endswith("forward"):
        statement = sources.index.statements[sources.index.op_statement[ended]]
        names = set(sources.names.of(parameter).split("."))
        for number, file in enumerate(recording.files):
            lines = range(statement.line, statement.end_line + 1) if statement.file == number else ()
            found = call_in_function(file.text, lines, names) if file.is_user else None
            if found is not None:
                return [sources.cause_of_line("used", number, *found)]
        for module, tensor, _ in recording.module_tensors:
            if tensor == parameter:
                while recording.modules[module].parent != NONE:
                    module = recording.modules[module].parent
                return sources.cause_of_span("used", recording.modules[module].span)
    return sources.cause("used", used)


DIAGNOSIS = Diagnosis(
    code="function-of-other-parameters",
    title="a function or module that does not compute with the parameters it is given",
    severity="warning",
    explanation=Explanation(
        meaning="""A function was given to torch.func.grad with a dict of parameters. It used none of them, or not all,
            and computed with parameters of the same shapes that a module holds. Or functional_call was given values
            under keys that are no names of the module, and ran it with parameters of its own of these shapes.""",
        reason="""torch.func takes the gradient of a function's arguments alone. What the function reaches by other
            names is a constant for it, and the gradient of arguments that it does not use is zero. functional_call
            passes over keys that the module does not have, unless it is told to be strict.""",
        remedy="""torch.func.functional_call(module, parameters, (inputs,)) runs the module with the parameters that are
            handed over.""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Linear(3, 1)
given = {name: value.detach() for name, value in net.named_parameters()}
inputs = torch.rand(4, 3)
def loss(values, inputs):
    return net(inputs).pow(2).mean()
gradients = torch.func.grad(loss)(given, inputs)
""",
        instead_of="return net(inputs).pow(2).mean()",
        silent="return torch.func.functional_call(net, values, (inputs,)).pow(2).mean()",
    ),
    find=_find,
)
