"""Gradients that are NaN and stay: what skips the step skips ``zero_grad()`` as well, and each pass adds to NaN."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import called_beside
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import first_after, last_before, ops_between
from gradscope.analysis.facts.value_looks import PassLook, is_bad, word_for
from gradscope.analysis.report_model import Evidence

ROUNDS = 2
"""How many times as many passes as between two clearings before have been added to what is not finite, at least.

Within one round of an accumulation they are added as well; its step is skipped, and then they are cleared."""


class _KeptNaN(NamedTuple):
    since: PassLook
    """The first pass whose gradient is not finite."""
    until: PassLook
    """The last that was looked at, whose loss is finite, and whose gradient is not."""
    cleared: int
    """What had cleared it the last time."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line cleared the last time."""
    looks, held = sources.looks, sources.events.in_optimizers
    bad = dict.fromkeys(tensor for look in looks for tensor in look.bad_gradients if tensor in held)
    found: dict[int, dict[int, _KeptNaN]] = {}
    for tensor in bad:
        if (kept := _kept(sources, tensor, looks)) is not None:
            found.setdefault(sources.index.op_statement[kept.cleared], {})[tensor] = kept
    for leaves in found.values():
        yield _finding(sources, leaves)


def _kept(sources: Sources, tensor: int, looks: list[PassLook]) -> _KeptNaN | None:
    index, lives = sources.index, sources.lives
    passes, cleared, steps = (known.get(tensor, []) for known in (lives.passes, lives.cleared, lives.steps))
    first = next(look for look in looks if tensor in look.bad_gradients)
    last = last_before(cleared, first.op)
    if last < 0 or first_after(steps, first.op) >= 0 or not steps:
        return None
    gone = first_after(cleared, first.op)
    end = gone if gone >= 0 else index.op_count
    later = [look for look in looks if first.op < look.op < end and tensor in look.bad_gradients]
    later = [look for look in later if look.roots and not any(map(is_bad, look.roots))]
    if not later or not all(lives.was_added(tensor, op) for op in ops_between(passes, first.op, end)):
        return None
    rounds = [-1, *cleared[: bisect_left(cleared, first.op)]]
    usual = max(index.times(ops_between(passes, start, stop)) for start, stop in pairwise(rounds))
    added = bisect_right(passes, later[-1].op) - bisect_right(passes, last)
    return _KeptNaN(first, later[-1], last) if added > ROUNDS * max(usual, 1) else None


def _finding(sources: Sources, leaves: dict[int, _KeptNaN]) -> Finding:
    index = sources.index
    kept = next(iter(leaves.values()))
    names = sources.listed([sources.names.of(tensor) for tensor in leaves])
    called = called_beside(sources, "cleared", kept.cleared, kept.since.op)
    line = called[1].line if called is not None else index.op_line(kept.cleared)
    what = called[0] if called is not None else index.func(kept.cleared).rpartition(".")[2]
    value = word_for(kept.since.gradients[next(iter(leaves))])
    number = 1 + index.times(op for op in sources.gradients.roots if op < kept.since.op)
    return sources.finding(
        f"Line {line}: {what} has not cleared the gradients of {names} since they became {value} in backward pass "
        f"{number}",
        why="the steps are skipped since then, and this with them; each further pass adds to what is not finite, "
        "though its loss is finite",
        op=kept.cleared,
        tensors=list(leaves),
        causes=[called[1]] if called is not None else sources.cause("cleared", kept.cleared),
        evidence=[Evidence("events", kept.since.event), Evidence("events", kept.until.event)],
        advice="Clear the gradients also where the step is skipped.",
    )


DIAGNOSIS = Diagnosis(
    code="nan-left-in-gradients",
    title="gradients that are NaN are not cleared, since what skips the step skips that too",
    severity="warning",
    explanation=Explanation(
        meaning="""A gradient became NaN or infinite, the program made no step with it, and nothing cleared it: of
            passes long after, whose losses are finite, the gradient is not finite either. No step was made since.""",
        reason="""Backward adds to .grad, and NaN plus anything is NaN. Where a check of the norm continues with the
            next batch before zero_grad() is reached, it fails from then on.""",
        remedy="""Call zero_grad() before the check returns, or at the beginning of each round, before backward.""",
    ),
    example=Example(
        shows="""\
import torch

torch.manual_seed(0)
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(12):
    x = torch.rand(4, 3) * (float("nan") if step == 3 else 1.0)
    layer(x).pow(2).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    if not torch.isfinite(norm):
        continue
    optimizer.step()
    optimizer.zero_grad()
""",
        instead_of="if not torch.isfinite(norm):",
        silent="if not torch.isfinite(norm):\n    optimizer.zero_grad()",
    ),
    find=_find,
)
