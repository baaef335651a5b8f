"""Gradients that are clipped in every so many rounds only: by what is there to tell their norm, most likely."""

from __future__ import annotations

import ast
import math
from collections.abc import Collection, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import called_beside
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.clipped_rounds import ClippedRounds, RoundOfStep, clipped_rounds
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.every_nth_run import runs_by_remainder
from gradscope.frames.values.clipping_limits import clipping_limits
from gradscope.recording.flags import RAISED

_CLIPS = "nn.utils.clip_grad_norm"
_LOOKS = 2
"""Rounds without clipping whose gradients were looked at."""
_ROUNDING = 1.01


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that clips in some of the rounds."""
    index, owners = sources.index, sources.lives.owners
    flags, calls = index.recording.ops.column("flags"), dict[int, list[int]]()
    for op in index.calls_of(lambda name: name.startswith(_CLIPS)):
        if not flags[op] & RAISED:
            calls.setdefault(index.op_statement[op], []).append(op)
    for ops in calls.values():
        leaves = list(dict.fromkeys(owners[one] for op in ops for one in index.uses.of(op) if one in owners))
        limit = _limit(sources, ops[-1])
        known = clipped_rounds(index, sources.lives, leaves[0], ops) if leaves and limit < math.inf else None
        if known is None or not (known.is_regular or _is_counted(sources, ops[-1])):
            continue
        clipped, unclipped = (_norms(sources, rounds, leaves) for rounds in (known.clipped, known.unclipped))
        above = [norm for norm in unclipped if norm > limit * _ROUNDING]
        # (where the gradients decide, those of rounds that are not clipped are below the limit)
        if len(above) < _LOOKS or max(clipped, default=min(unclipped)) <= limit * _ROUNDING:
            continue
        yield _finding(sources, known, leaves, limit, above)


def _limit(sources: Sources, clip: int) -> float:
    """The largest norm that a call may let through, as far as the text tells; infinite where it does not."""
    index = sources.index
    source, file = index.span_source(clip), index.statements[index.op_statement[clip]].file
    return (
        max(clipping_limits(index.recording.files[file].text, source), default=math.inf)
        if _is_of_2(source)
        else math.inf
    )


def _is_of_2(source: str) -> bool:
    """Whether a call asks for the 2-norm, which is what passes are looked at for."""
    try:
        call = ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return False
    calls = [one for one in ast.walk(call) if isinstance(one, ast.Call)]
    return bool(calls) and "norm_type" not in source and len(calls[0].args) < 3


def _is_counted(sources: Sources, clip: int) -> bool:
    """Whether the text counts the rounds in which it clips: it asks for nothing that the gradients are like."""
    index = sources.index
    file = index.statements[index.op_statement[clip]].file
    return runs_by_remainder(index.recording.files[file].text, int(index.op_line(clip)))


def _norms(sources: Sources, rounds: Collection[RoundOfStep], leaves: Collection[int]) -> list[float]:
    """The norms of the gradients of some rounds before anything clipped them, of those that were looked at."""
    looks = {look.op: look.norms for look in sources.looks}
    norms = (looks[one.passed] for one in rounds if one.passed in looks)
    return [math.hypot(*(norm[leaf] for leaf in leaves if leaf in norm)) for norm in norms]


def _finding(
    sources: Sources, known: ClippedRounds, leaves: list[int], limit: float, above: Collection[float]
) -> Finding:
    index, last = sources.index, known.clipped[-1]
    called = called_beside(sources, "used", last.clip, last.passed)
    where = f" ({called[0]}, called at line {called[1].line})" if called is not None else ""
    clipped, unclipped = (index.times(one.step for one in rounds) for rounds in (known.clipped, known.unclipped))
    return sources.finding(
        f"Line {index.op_line(last.clip)}: {index.func(last.clip).rpartition('.')[2]}{where} scales the gradients to a "
        f"norm of {limit:g} in some of the rounds only",
        why=f"it was called between the backward pass and the step in {clipped:,} rounds, again and again, and nothing "
        f"clipped the gradients in {unclipped:,} others, of which those that were looked at had norms up to "
        f"{max(above):.3g}: the rounds that it is called in count for less",
        op=last.clip,
        tensors=leaves[:1],
        causes=[*sources.cause("used", last.clip), *((called[1],) if called is not None else ())],
        evidence=[Evidence("ops", last.passed), Evidence("ops", last.step)],
        advice='To tell the norm alone give it max_norm=float("inf"), or call nn.utils.get_total_norm; to clip, do it '
        "in each round.",
    )


DIAGNOSIS = Diagnosis(
    code="clipped-in-some-rounds",
    title="gradients are clipped in every so many rounds only",
    severity="warning",
    explanation=Explanation(
        meaning="""clip_grad_norm_ was called between a backward pass and the step in every so many rounds, and nothing
            clipped the gradients of the rounds between them, which were above the limit as well.""",
        reason="""clip_grad_norm_ returns the norm, and scales the gradients in place where that is above the limit.
            Called to log the norm, it makes the step of each logged round shorter than the others.""",
        remedy="""clip_grad_norm_(parameters, float("inf")) gives the norm and changes nothing; so does
            nn.utils.get_total_norm of the gradients. To clip, call it in each round.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
for step in range(9):
    optimizer.zero_grad()
    (layer(torch.ones(2, 3)) - 50).pow(2).mean().backward()
    if step % 3 == 0:
        print(torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0))
    optimizer.step()
""",
        instead_of="print(torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0))",
        silent='print(torch.nn.utils.clip_grad_norm_(layer.parameters(), float("inf")))',
    ),
    find=_find,
)
