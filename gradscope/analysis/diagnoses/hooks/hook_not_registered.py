"""A hook that is registered only on what requires grad, on a tensor that never does."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.hooks_not_registered import hooks_not_registered
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each call that was to register a hook."""
    index = sources.index
    for one in hooks_not_registered(index, sources.passes, sources.events):
        name = one.hook.name
        yield sources.finding(
            f"Line {index.op_line(one.op)}: {name} never requires grad, so that the hook for it, under the condition "
            "that it does, is never registered",
            why=f"{one.passes:,} backward passes came through what was computed from it, and the hook was to keep its "
            "gradient",
            op=one.op,
            tensors=[one.tensor],
            causes=sources.cause("made", one.op),
            evidence=[Evidence("tensors", one.tensor)],
            advice=f"Call requires_grad_() of {name} where grad mode is on.",
        )


DIAGNOSIS = Diagnosis(
    code="hook-not-registered",
    title="a hook under the condition that its tensor requires grad, which is never true",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook that keeps the gradient of a tensor is registered only where the tensor requires grad. It
            never did, so that there was no hook, though backward passes came through what was computed from it.""",
        reason="""What is indexed out of a plain tensor, or made of data, does not require grad by itself. The condition
            is there for calls under no_grad, and hides that it holds in training, too.""",
        remedy="""rows = table[ids].requires_grad_(torch.is_grad_enabled()): a leaf of its own, whose gradient the hook
            gets.""",
    ),
    example=Example(
        shows="""\
import torch

table, pending = torch.randn(10, 3), []
layer = torch.nn.Linear(3, 1)
def fetch(ids):
    rows = table[ids]
    if rows.requires_grad:
        rows.register_hook(lambda grad: pending.append((ids, grad)))
    return rows
for step in range(4):
    layer(fetch(torch.randint(0, 10, (5,)))).sum().backward()
    for ids, grad in pending:
        table.index_add_(0, ids, grad, alpha=-0.1)
    pending.clear()
""",
        instead_of="rows = table[ids]",
        silent="rows = table[ids].requires_grad_(torch.is_grad_enabled())",
    ),
    find=_find,
)
