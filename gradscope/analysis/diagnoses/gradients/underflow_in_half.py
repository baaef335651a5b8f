"""Gradients that are all zeros because they are too small for float16, and the loss was not scaled."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.factors_of_zero import zero_factors
from gradscope.analysis.facts.leaf_gradients.overflown_halves import overflown_halves
from gradscope.analysis.facts.leaf_gradients.underflown_casts import UnderflownCast, underflown_casts
from gradscope.analysis.facts.leaf_gradients.underflown_halves import Underflown, underflown_halves
from gradscope.analysis.facts.leaf_gradients.vanished_eps import dtype_of
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    index, layouts = sources.index, range(len(sources.index.recording.layouts))
    scaled = (event for event in sources.events.of(EventKind.GRAD_SCALER) if event.detail.get("call") == "scale")
    if any(scaled) or all(dtype_of(index, layout) != "float16" for layout in layouts):
        return
    looks = sources.looks
    told = {leaf for blocked in sources.zero_gradients for leaf in blocked.leaves}
    told |= {leaf for one in overflown_halves(index, sources.passes, looks) for leaf in one.leaves}
    factors = zero_factors(index, looks)
    told.update(factors.leaves if factors else ())
    for cast in underflown_casts(index, sources.passes, looks, frozenset(told)):
        told.update(cast.leaves)
        yield _finding(sources, cast)
    for found in underflown_halves(index, sources.passes, looks, frozenset(told)):
        yield _finding(sources, found)


def _finding(sources: Sources, found: Underflown | UnderflownCast) -> Finding:
    index, op = sources.index, found.passes[-1].op
    names = sources.listed([sources.names.at(leaf, op) for leaf in found.leaves])
    if isinstance(found, Underflown):
        beside = sources.listed([sources.names.at(leaf, op) for leaf in found.beside])
        before = (
            f"what came just before in these passes, the gradient of {beside}, is {found.largest:.2g} at the largest"
        )
    else:
        before = (
            f"the gradient on the way to them was {found.largest:.2g} at the largest before it was put in float16, "
        )
        before += "and all zeros then"
    return sources.finding(
        f"Line {index.op_line(op)}: backward gave {names} zeros alone in all {len(found.passes)} passes that were "
        f"looked at, computed in float16 of a loss that was not scaled",
        why=f"{before}: what is less than 3e-08 becomes zero there",
        op=op,
        tensors=found.leaves,
        causes=sources.cause("backward", op),
        evidence=[Evidence("events", look.event) for look in found.passes],
        advice="scaler = torch.amp.GradScaler(); scaler.scale(loss).backward(), scaler.step(optimizer), "
        "scaler.update(); or compute in bfloat16.",
    )


DIAGNOSIS = Diagnosis(
    code="underflow-in-half",
    title="gradients that are too small for float16",
    severity="warning",
    explanation=Explanation(
        meaning="""Parameters that are used in float16 got a gradient of zeros in every pass that was looked at. No
            derivative of zero is on the way to them, and the gradients that were computed just before theirs are so
            small that float16 does not hold them in full; or it was seen that what came back to them was not zero until
            it was put in float16. No GradScaler scaled the loss.""",
        reason="""Between 0 and 6e-08 there is no number in float16: what is less than half of that becomes zero.
            Gradients get smaller from layer to layer, and those that fall below become zero, without an error: those
            layers are not trained.""",
        remedy="""Scale the loss with torch.amp.GradScaler, whose step divides the gradients by the scale again; or
            compute in bfloat16, which has the exponents of float32.""",
    ),
    example=Example(
        shows="""\
import torch

torch.manual_seed(0)
first, second = torch.nn.Linear(4, 8), torch.nn.Linear(8, 4)
optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=1e-3)
for step in range(4):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        out = second(torch.tanh(first(torch.randn(16, 4) * 0.02)))
    loss = out.float().square().mean() * 1e-5
    loss.backward()
    optimizer.step()
""",
        instead_of='with torch.autocast("cpu", dtype=torch.float16):',
        silent='with torch.autocast("cpu", dtype=torch.bfloat16):',
    ),
    find=_find,
)
