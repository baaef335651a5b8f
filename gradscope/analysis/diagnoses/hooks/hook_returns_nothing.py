"""A hook that computes another value for what it is given, under the name of its argument, and returns nothing."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence

_REPLACES = {
    "tensor": "the gradient",
    "forward": "the output",
    "forward_pre": "the input",
    "backward": "the gradient of the input",
    "backward_pre": "the gradient of the output",
}
"""What a value that a hook returns takes the place of, by the kind of hook."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for hook in sources.hooks.all:
        found = hook.source.rebinds_in_vain() if hook.kind in _REPLACES else None
        if found is None or (hook.is_on_tensor and hook.did and not hook.count("runs")):
            continue
        (first, last), name = found
        lines, event = hook.lines(first, last), hook.registered[-1]
        yield sources.finding(
            f"Line {lines.line}: {hook.name}, a hook, gives {name} another value and returns nothing",
            why=f"a name of the function's own changes nothing outside; only what a hook returns takes the place of "
            f"{_REPLACES[hook.kind]}",
            op=min(event.op, index.op_count - 1),
            tensors=[],
            causes=[
                *sources.causes_at("returned", [lines]),
                *sources.cause_of_event("made", event),
            ],
            evidence=[Evidence("events", event.row)],
            advice=f"return {name} at the end of it.",
        )


DIAGNOSIS = Diagnosis(
    code="hook-returns-nothing",
    title="a hook that computes another value and does not return it",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook assigns to the name of one of its arguments a value that is computed from it, does not read
            the name afterwards, and has no return.""",
        reason="""An assignment binds a name of the function's own. Autograd and modules go on with what they gave to
            the hook, unless it returns something in its place.""",
        remedy="""Return the new value: for a full backward hook a tuple of gradients of the inputs, for a forward hook
            the output, for a hook on a tensor its gradient.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)


def double(grad):
    grad = grad * 2
    print("seen")


layer.weight.register_hook(double)
layer(torch.ones(2, 3)).sum().backward()
""",
        instead_of='print("seen")',
        silent="return grad",
    ),
    find=_find,
)
