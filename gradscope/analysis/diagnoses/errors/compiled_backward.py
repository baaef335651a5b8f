"""What the backward of a compiled function refuses: to be kept for another pass, or to be differentiated itself."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.compiled_results import compiled_at
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources

_DONATED = "compiled with non-empty donated buffers"
_TWICE = "does not currently support double backward"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    last = {
        index.op_statement[op]: (op, message, severity) for op, message, severity in sources.raised(_DONATED, _TWICE)
    }
    for op, message, severity in last.values():
        compiled = compiled_at(sources)
        where = f" (line {compiled[0].line})" if len(compiled) == 1 else ""
        if _DONATED in message:
            why = f"it asks to keep the graph of a compiled function{where}, whose backward gives away what it saved"
            advice = (
                "Set torch._functorch.config.donated_buffer = False before it is compiled, or take the gradients in "
                "one pass without retain_graph or create_graph, or leave it uncompiled."
            )
        else:
            why = f"it differentiates the backward of a compiled function{where}, which has no derivative"
            advice = "Leave uncompiled what a second derivative is taken of."
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} failed",
            why=why,
            op=op,
            tensors=list(index.uses.of(op)[:1]),
            causes=[*compiled, *sources.cause("backward", op)],
            advice=advice,
            severity=severity,
        )


DIAGNOSIS = Diagnosis(
    code="compiled-backward",
    title="a compiled function's backward was asked for what it cannot do",
    severity="problem",
    explanation=Explanation(
        meaning="""A pass through a function that torch.compile had compiled raised: it was to keep the graph
            (retain_graph, create_graph), or it went through the gradient of that function a second time.""",
        reason="""The backward of a compiled function is compiled with it. Where its first passes did not keep the graph
            it reuses the memory of what it saved ("donated buffers"), and it is one operation without a derivative of
            its own.""",
        remedy="""Leave the function uncompiled where gradients of gradients are needed. For several passes through
            one graph set torch._functorch.config.donated_buffer = False before it is compiled.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
cubed = torch.compile(lambda x: (x**3).sum(), backend="aot_eager")
(slope,) = torch.autograd.grad(cubed(w), w, create_graph=True)
slope.sum().backward()
""",
        instead_of='cubed = torch.compile(lambda x: (x**3).sum(), backend="aot_eager")',
        silent="cubed = lambda x: (x**3).sum()",
    ),
    find=_find,
)
