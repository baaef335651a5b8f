"""Gradients of an earlier part of the training that one step applied at once: what was cleared were others' only."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.order.clearing_calls import call_that_clears
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.sums_of_before import SumOfBefore, SumsOfBefore
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters of which one step applied the gradients of the same passes."""
    for one in SumsOfBefore(sources.index, sources.events, sources.lives, sources.passes_by_step).found():
        yield _finding(sources, one)


def _finding(sources: Sources, found: SumOfBefore) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.of(tensor) for tensor in found.tensors])
    where, causes = call_that_clears(sources, found.cleared, found.passes[0])
    passes, given = index.times(found.passes), found.given
    instead = f"{found.usual} as in most others" if found.usual > 1 else "one"
    later = f"line {index.span_line(given.span)} gave them to the optimizer later, and " if given is not None else ""
    return sources.finding(
        f"{where[0].upper()}{where[1:]} does not clear .grad of {names}, to which the passes gave gradients as well",
        why=f"{later}a step applied the gradients of {passes:,} passes in place of {instead}",
        op=found.step,
        tensors=found.tensors,
        causes=[*causes, *(sources.cause_of_event("used", given) if given is not None else ())],
        evidence=[Evidence("ops", op) for op in (found.passes[0], found.passes[-1], found.cleared)],
        advice="Clear all of the model's gradients there (model.zero_grad()), or freeze what is not trained yet with "
        "requires_grad_(False).",
    )


DIAGNOSIS = Diagnosis(
    code="old-gradients-applied",
    title="gradients of an earlier part of the training that one step applied all at once",
    severity="warning",
    explanation=Explanation(
        meaning="""While others were trained, each backward pass gave these parameters gradients too, and nothing
            cleared them. When an optimizer came to step them, its step applied the sum of all these passes.""",
        reason="""zero_grad() of an optimizer clears what that optimizer holds. What it does not hold keeps its
            gradients, and backward adds to them for as long as requires_grad is on: until the parameters are given to
            an optimizer.""",
        remedy="""model.zero_grad() clears all of the model's. Where a part is not to be trained yet,
            requires_grad_(False) keeps gradients from coming about at all. Or clear them once before they are given to
            the optimizer.""",
    ),
    example=Example(
        shows="""\
import torch

body, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
for step in range(16):
    if step == 8:
        optimizer.add_param_group({"params": body.parameters(), "lr": 0.01})
    loss = head(body(torch.randn(4, 3))).pow(2).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
        instead_of="loss = head(body(torch.randn(4, 3))).pow(2).mean()",
        silent="loss = head(body(torch.randn(4, 3))).pow(2).mean()\nbody.zero_grad()",
    ),
    find=_find,
)
