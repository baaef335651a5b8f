"""Gradients that are clipped after each backward pass of an accumulation, and not once before the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import called_beside
from gradscope.analysis.diagnoses.optimizers.order.scaled_when_accumulated import scaled_when_accumulated
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import first_after, last_before, ops_between
from gradscope.analysis.report_model import Evidence
from gradscope.frames.values.clipping_limits import clipping_limits
from gradscope.recording.flags import RAISED

TIMES = 2
"""Clippings of what was clipped before from which on it is reported."""
_CLIPS = ("nn.utils.clip_grad", "Tensor.clamp_", "Tensor.clip_")
_NO_LIMIT = 1_000.0
"""A limit from which on a clipping is there to measure the norm, most likely."""


class _Again(NamedTuple):
    """A clipping of what one before had clipped, with a pass between."""

    first: int
    passed: int
    second: int


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that clips what accumulates."""
    index, lives = sources.index, sources.lives
    flags, clips = index.recording.ops.column("flags"), dict[tuple[int, int], list[int]]()
    for op in index.calls_of(lambda name: name.startswith(_CLIPS)):
        if flags[op] & RAISED:
            continue
        for tensor in dict.fromkeys(lives.owners[one] for one in index.uses.of(op) if one in lives.owners):
            clips.setdefault((index.op_statement[op], tensor), []).append(op)
    found: dict[int, dict[int, list[_Again]]] = {}
    for (statement, tensor), ops in clips.items():
        again = _clipped_again(sources, tensor, ops)
        if index.times(one.second for one in again) >= TIMES:
            found.setdefault(statement, {})[tensor] = again
    for leaves in found.values():
        if _limits(sources, leaves):
            yield _finding(sources, leaves)
    yield from scaled_when_accumulated(sources)


def _clipped_again(sources: Sources, tensor: int, clips: list[int]) -> list[_Again]:
    """Two clippings of one gradient with passes of one line before and between them, and a step after them."""
    index, lives = sources.index, sources.lives
    passes, cleared, steps = (known.get(tensor, []) for known in (lives.passes, lives.cleared, lives.steps))
    found = []
    for first, second in pairwise(clips):
        before, between = last_before(passes, first), ops_between(passes, first, second)
        if before < 0 or not between or not lives.was_added(tensor, between[0]):
            continue
        if last_before(steps, second) > before or last_before(cleared, second) > before:
            continue
        step, gone = first_after(steps, second), first_after(cleared, second)
        is_stepped = step >= 0 and not second < gone < step
        if is_stepped and {index.op_statement[op] for op in between} == {index.op_statement[before]}:
            found.append(_Again(first, between[-1], second))
    return found


def _limits(sources: Sources, leaves: dict[int, list[_Again]]) -> bool:
    """Whether the clipping limits anything, as far as the text tells the limit and the gradients were looked at."""
    index, ops = sources.index, {op for again in leaves.values() for one in again for op in (one.first, one.second)}
    clip = max(ops)
    file = index.statements[index.op_statement[clip]].file
    limits = clipping_limits(index.recording.files[file].text, index.span_source(clip)) if file >= 0 else []
    if not limits:
        return "inf" not in index.span_source(clip)
    if max(limits) >= _NO_LIMIT:
        return False
    if "norm" not in index.func(clip):
        return True
    looked = [
        math.hypot(*(look.norms[tensor] for tensor in leaves if tensor in look.norms))
        for look in sources.looks
        if look.norms.keys() & leaves.keys()
    ]
    return not looked or max(looked) > min(limits) or any(map(math.isnan, looked))


def _finding(sources: Sources, leaves: dict[int, list[_Again]]) -> Finding:
    index = sources.index
    last = max(again[-1] for again in leaves.values())
    times = max(index.times(one.second for one in again) for again in leaves.values())
    called = called_beside(sources, "used", last.second, last.passed)
    where = f" ({called[0]}, called at line {called[1].line})" if called is not None else ""
    return sources.finding(
        f"Line {index.op_line(last.second)}: {index.func(last.second).rpartition('.')[2]}{where} clips after each "
        "backward pass of an accumulation",
        why=f"what the passes before gave is clipped again with each further one ({times:,} times), so that the later "
        "ones count for more in the step",
        op=last.second,
        tensors=list(leaves),
        causes=[*sources.cause("used", last.second), *((called[1],) if called is not None else ())],
        evidence=[Evidence("ops", last.first), Evidence("ops", last.passed)],
        advice="Clip once, right before the step.",
    )


DIAGNOSIS = Diagnosis(
    code="clipped-while-accumulating",
    title="gradients are clipped after each pass of an accumulation",
    severity="warning",
    explanation=Explanation(
        meaning="""A line clipped the gradients, another backward pass added to them, and the line clipped the sum
            again, all before one step. Or so did a hook of register_post_accumulate_grad_hook, in each pass.""",
        reason="""Clipping scales all that is in .grad. What the first pass gave is made smaller with each clipping,
            what the last one gave only once: the step goes another way than the gradient of the whole batch.""",
        remedy="""Clip once, after the last backward pass of the accumulation and before the step: under the same
            condition as the step.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(8):
    loss = (layer(torch.ones(2, 3)) - 5).pow(2).mean() / 4
    loss.backward()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
    if step % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
""",
        instead_of="torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)",
        silent="if step % 4 == 3: torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)",
    ),
    find=_find,
)
