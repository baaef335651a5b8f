"""A straight-through estimate that is taken away from what it is an estimate of: the two gradients cancel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.cancelled_terms import CancelledTerms
from gradscope.analysis.report_model import Evidence

_DIFFERENCES = ("sub", "__sub__", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_SUMS = ("add", "__add__", "__radd__", "sub", "__sub__")


class _Difference(NamedTuple):
    """A difference of a tensor and an estimate that has its gradient."""

    op: int
    estimate: int
    of: int


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement; of one that runs for several layers the last."""
    index, found, terms = sources.index, dict[int, _Difference](), CancelledTerms(sources.index)
    for op in index.calls_of(lambda name: name.rpartition(".")[2] in _DIFFERENCES):
        difference = _difference(sources, terms, op)
        if difference is not None:
            found[index.op_statement[op]] = difference
    for difference in found.values():
        yield _finding(sources, difference)


def _difference(sources: Sources, terms: CancelledTerms, op: int) -> _Difference | None:
    """The two, where nothing but what was cut off is left in their difference, and a pass came to it."""
    index, cuts = sources.index, sources.cuts
    made_at, nodes = (index.recording.tensors.column(name) for name in ("op", "node"))
    taken, made = list(index.uses.of(op)), index.tensors_made(op)
    if len(taken) < 2 or not made or nodes[made[0]] < 0 or sources.passes.first_walked_at[nodes[made[0]]] < 0:
        return None
    for estimate, other in (taken[:2], taken[1::-1]):
        built = made_at[estimate]
        if not 0 <= built < op or other == estimate or index.func(built).rpartition(".")[2] not in _SUMS:
            continue
        parts = list(index.uses.of(built))
        cut = [one for one in parts if 0 <= made_at[one] < built and cuts.is_cut[made_at[one]]]
        if other not in parts or not cut:
            continue
        known = terms.of(op) or terms.of_distance(op)
        if known is not None and not known.left and known.constant:
            return _Difference(op, estimate, other)
    return None


def _finding(sources: Sources, found: _Difference) -> Finding:
    index = sources.index
    estimate, of = (sources.names.at(one, found.op) for one in (found.estimate, found.of))
    return sources.finding(
        f"Line {index.op_line(found.op)}: no gradient comes through the difference of {of} and {estimate}",
        why=f"{estimate} is a straight-through estimate, whose gradient goes to {of} as it is, so that the two ways "
        "cancel: what is computed from the difference trains nothing that comes before",
        op=found.op,
        tensors=[found.of, found.estimate],
        causes=sources.cause("used", found.op),
        evidence=[Evidence("ops", found.op), Evidence("tensors", found.estimate)],
        advice=f"Take {estimate}.detach() there." if not estimate.startswith("<") else "Detach the estimate there.",
    )


DIAGNOSIS = Diagnosis(
    code="estimate-subtracted",
    title="a straight-through estimate is taken away from its own input",
    severity="warning",
    explanation=Explanation(
        meaning="""A difference (or mse_loss) of z and z + (q - z).detach(), the straight-through estimate of what a
            quantiser gave for z, went into a loss, and a backward pass came through it.""",
        reason="""The estimate has the values of q and the gradient of z. The difference has the values of z - q, and
            the gradient 1 - 1: zero, whatever the values are. A residual quantiser that goes on with such a rest
            trains its encoder by the first layer alone, and a commitment loss of the two trains nothing.""",
        remedy="""Take the values alone away: rest = z - estimate.detach(). For a commitment loss compare z with what
            the quantiser gave, before it was made an estimate: mse_loss(z, q.detach()).""",
    ),
    example=Example(
        shows="""\
import torch

z = torch.tensor([0.2, 1.6], requires_grad=True)
code = torch.zeros(2, requires_grad=True)
for step in range(2):
    x = z * 1.5
    estimate = x + (x.round() - x).detach()
    rest = x - estimate
    loss = estimate.sum() + (rest - code).pow(2).sum()
    loss.backward()
""",
        instead_of="rest = x - estimate",
        silent="rest = x - estimate.detach()",
    ),
    find=_find,
)
