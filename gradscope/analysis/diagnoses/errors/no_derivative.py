"""``derivative for … is not implemented``: an operation that torch tracks and has no derivative of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence

_MESSAGE = re.compile(r"derivative for '?(?:aten::)?(\w+)'? is not implemented")
_CALLS = {"floor_divide": ("floor_divide", "floordiv", "rfloordiv", "ifloordiv")}
"""Names under which an operation is called, without underscores around them."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, about the last such operation behind it."""
    index = sources.index
    last = {
        index.op_statement[op]: (op, found[1], severity)
        for op, text, severity in sources.raised("is not implemented")
        if (found := _MESSAGE.search(text)) and not found[1].endswith("_backward")
    }
    for op, function, severity in last.values():
        roots = index.roots.get(op, [])
        made_by = {index.made_by(taken) for taken in sources.flow.origins_of_all(roots, op)}
        known = [
            one
            for one in made_by
            if index.call_name(one).rpartition(".")[2].strip("_") in _CALLS.get(function, (function,))
        ]
        if not known:
            continue
        made_at = max(known)
        yield sources.finding(
            f"Line {index.op_line(made_at)}: {index.call_name(made_at)} has no derivative, and the backward pass of "
            f"line {index.op_line(op)} came to it",
            op=op,
            tensors=index.tensors_made(made_at)[:1],
            causes=sources.cause("used", made_at),
            evidence=[Evidence("ops", made_at)],
            advice="Compute it by operations that have one, or of x.detach() where no gradient is meant to flow.",
            severity=severity,
        )


DIAGNOSIS = Diagnosis(
    code="no-derivative",
    title="an operation has no derivative",
    severity="problem",
    explanation=Explanation(
        meaning="""A backward pass raised "derivative for … is not implemented": it came to an operation whose result
            requires grad, and of which torch has no derivative.""",
        reason="""Of some operations (floor_divide and //, heaviside) torch notes only that a derivative is missing:
            the result requires grad as any other, and the error comes when backward gets there.""",
        remedy="""Write it with operations that have a derivative (that of div with a rounding_mode is zero), or give it
            x.detach() where no gradient is meant to flow through it.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.rand(3, requires_grad=True)
bins = w // 0.1
(w * bins).sum().backward()
""",
        instead_of="bins = w // 0.1",
        silent="bins = w.detach() // 0.1",
    ),
    find=_find,
)
