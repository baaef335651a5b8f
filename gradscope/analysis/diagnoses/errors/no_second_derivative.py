"""``derivative for … is not implemented``: the operation that has a first derivative only."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence

_MESSAGE = re.compile(r"derivative for '?(?:aten::)?(\w+_backward)'? is not implemented")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, about the last operation of the kind before it."""
    index, names = sources.index, sources.index.recording.nodes.column("name")
    made_by = index.recording.nodes.column("op")
    last = {
        index.op_statement[op]: (op, found[1], severity)
        for op, text, severity in sources.raised("is not implemented")
        if (found := _MESSAGE.search(text))
    }
    for op, function, severity in last.values():
        name = "".join(part.capitalize() for part in function.split("_"))
        alike = (node for node in range(len(names) - 1, -1, -1) if made_by[node] <= op)
        node = next((one for one in alike if index.recording.text(names[one]).rstrip("0123456789") == name), None)
        if node is None:
            continue
        made_at = made_by[node]
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} failed, since it asks for the second derivative of "
            f"{index.call_name(made_at)} (line {index.op_line(made_at)}), and {function} has none",
            op=op,
            tensors=[index.node_tensor[node]] if index.node_tensor[node] >= 0 else [],
            causes=sources.cause("made", made_at),
            evidence=[Evidence("nodes", node)],
            advice="Compute it by operations that have one: for attention, under sdpa_kernel(SDPBackend.MATH)."
            if "attention" in function
            else "Compute it by operations that have one.",
            severity=severity,
        )


DIAGNOSIS = Diagnosis(
    code="no-second-derivative",
    title="an operation has no second derivative",
    severity="problem",
    explanation=Explanation(
        meaning="""A backward pass raised "derivative for … is not implemented": it came through the gradient of an
            operation (create_graph=True had recorded it), and this gradient is not differentiable itself.""",
        reason="""Fused kernels, of attention above all, compute their gradient by one function for which torch defines
            no derivative. Which kernel is taken depends on device, dtype and shape, and on the version of torch.""",
        remedy="""Have the operation computed by ones that can be differentiated twice: attention under
            torch.nn.attention.sdpa_kernel(SDPBackend.MATH); or leave out create_graph=True where no second derivative
            is needed.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

q = torch.ones(1, 2, 4, 8, requires_grad=True)
with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
    out = torch.nn.functional.scaled_dot_product_attention(q, q, q)
(grad,) = torch.autograd.grad(out.sum(), q, create_graph=True)
grad.sum().backward()
""",
        instead_of="with sdpa_kernel(SDPBackend.FLASH_ATTENTION):",
        silent="with sdpa_kernel(SDPBackend.MATH):",
    ),
    find=_find,
)
