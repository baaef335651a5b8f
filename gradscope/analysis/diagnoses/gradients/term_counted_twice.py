"""A part of the loss that a backward pass of its own went through before: its gradient is added twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import first_after
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    """The last pair of passes of each two lines, of which the second goes through all of the first one's graph."""
    index, lives = sources.index, sources.lives
    kinds, flags = (index.recording.ops.column(name) for name in ("kind", "flags"))
    pairs: dict[tuple[int, int], dict[tuple[int, int], list[int]]] = {}
    for leaf, passes in lives.passes.items():
        ends = sorted({*lives.cleared.get(leaf, ()), *lives.steps.get(leaf, ())})
        steps = lives.steps.get(leaf, [])
        for first, second in pairwise(passes):
            if first_after(steps, second) < 0:
                continue
            if first < first_after(ends, first) < second or _cleared_unused(ends, steps, second):
                continue
            if all(kinds[op] == OpKind.BACKWARD and not flags[op] & RAISED for op in (first, second)):
                lines = (index.op_statement[first], index.op_statement[second])
                pairs.setdefault(lines, {}).setdefault((first, second), []).append(leaf)
    for rounds in pairs.values():
        (first, second), leaves = max(rounds.items())
        if _is_part(sources, first, second):
            yield _finding(sources, first, second, leaves, sources.index.times(op for _, op in rounds))


def _cleared_unused(ends: list[int], steps: list[int], second: int) -> bool:
    """Whether the gradient was cleared after the second pass, before a step took it."""
    return first_after(ends, second) not in steps


def _is_part(sources: Sources, first: int, second: int) -> bool:
    """Whether what the first pass started from was computed on the way to what the second one started from."""
    roots: dict[int, set[int]] = {first: set(), second: set()}
    for row in sources.index.recording.backwards:
        if row.op in roots and row.node >= 0:
            roots[row.op].add(row.node)
    behind = {node for root in roots[second] for node in sources.passes.behind(root)}
    is_again = sources.index.op_statement[first] == sources.index.op_statement[second]  # (a loop over parts of a sum)
    return bool(roots[first]) and roots[first] <= behind and not (is_again and roots[first] == roots[second])


def _finding(sources: Sources, first: int, second: int, leaves: list[int], times: int) -> Finding:
    index = sources.index
    part, whole = (sources.names.at(sources.gradients.roots[op][0], op) for op in (first, second))
    names = sources.listed([sources.names.at(leaf, second) for leaf in leaves])
    often = f", {times:,} times" if times > 1 else ""
    is_same = part == whole
    return sources.finding(
        f"Line {index.op_line(first)}: the gradient of {part} goes into .grad of {names} here, and again with "
        f"{'the next pass from it' if is_same else f'{whole}, of which it is a part'}{often}",
        why="nothing clears it between the two, and the step takes both",
        op=second,
        tensors=leaves,
        causes=sources.cause("backward", first),
        evidence=[Evidence("ops", first)],
        advice="Call backward once, on the sum.",
    )


DIAGNOSIS = Diagnosis(
    code="term-counted-twice",
    title="a part of the loss whose gradient is added twice",
    severity="warning",
    explanation=Explanation(
        meaning="""A backward pass ran from a part of the loss, a second one from the whole of it, and the step after
            them took what both had added to .grad: the part counts twice.""",
        reason="""Backward adds to .grad. With retain_graph=True the second pass goes through the part's graph again;
            without it torch would have raised an error.""",
        remedy="""Call backward on the sum alone. To have the parts apart, call it on each of them, and not on the sum.
            For a look at one part's gradient, torch.autograd.grad leaves .grad as it is.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w], lr=0.1)
penalty = w.pow(2).sum()
loss = (w * 2 - 1).pow(2).sum() + 0.1 * penalty
penalty.backward(retain_graph=True)
loss.backward()
optimizer.step()
""",
        instead_of="penalty.backward(retain_graph=True)",
        silent="torch.autograd.grad(penalty, w, retain_graph=True)",
    ),
    find=_find,
)
