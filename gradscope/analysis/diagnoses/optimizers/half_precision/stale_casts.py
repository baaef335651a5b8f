"""Weights that a step changed while autocast went on with the copies that it had made of them before."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.blocks.with_blocks import with_around
from gradscope.recording import NONE
from gradscope.recording.flags import AUTOCAST

_CAST = "ToCopyBackward0"


class _UsedAfterStep(NamedTuple):
    """One use of a copy that is older than the parameter's values."""

    parameter: int
    step: int
    """The op that changed the parameter after the copy was made."""
    used: int
    """The op that took the copy all the same."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line whose steps were not seen by what ran after them."""
    index = sources.index
    by_line: dict[int, list[_UsedAfterStep]] = {}
    for one in _stale(sources):
        by_line.setdefault(index.op_statement[one.step], []).append(one)
    for found in by_line.values():
        step, used = found[-1].step, found[-1].used
        parameters = list(dict.fromkeys(one.parameter for one in found))
        names = sources.listed([sources.names.of(tensor) for tensor in parameters])
        around = _autocast_around(sources, step) or _autocast_around(sources, used)
        inside = f"the autocast of line {around[0].line}" if around else "an autocast that was not left"
        yield sources.finding(
            f"Line {index.op_line(step)}: {index.call_name(step)} changes {names} inside {inside}, and "
            f"{index.call_name(used)} (line {index.op_line(used)}) goes on with the copies of before",
            why="autocast keeps the copies of weights that it has cast until it is left",
            op=step,
            tensors=parameters,
            causes=[*around, *sources.cause("write", step)],
            evidence=[Evidence("ops", used), Evidence("ops", step)],
            advice="Open it for each forward pass, and step outside of it.",
        )


def _stale(sources: Sources) -> Iterator[_UsedAfterStep]:
    """Uses of a node that casts a leaf, by another op than that which made it, after a step has changed the leaf."""
    index, lives = sources.index, sources.lives
    nodes, flags = index.recording.nodes, index.recording.ops.column("flags")
    ops, names, variables = (nodes.column(name) for name in ("op", "name", "variable"))
    starts, following = sources.passes.edge_starts, index.edges.values
    given = set(index.recording.tensors.column("node"))
    casts = {node for node, name in enumerate(names) if index.recording.text(name) == _CAST and node not in given}
    for node, used in enumerate(ops):
        for position in range(starts[node], starts[node + 1]):
            cast = following[position]
            if cast not in casts or not ops[cast] < used < index.op_count or not flags[used] & AUTOCAST:
                continue
            leaf = following[starts[cast]] if starts[cast] < starts[cast + 1] else NONE
            steps = lives.steps.get(variables[leaf], []) if leaf >= 0 else []
            before = bisect_right(steps, used) - 1
            if before >= 0 and steps[before] > ops[cast] and flags[steps[before]] & AUTOCAST:
                yield _UsedAfterStep(variables[leaf], steps[before], used)


def _autocast_around(sources: Sources, op: int) -> list[Cause]:
    """The ``with`` that opens autocast around the line of an op, where the line's own function has it."""
    index = sources.index
    where = index.statements[index.op_statement[op]]
    if where.file < 0:
        return []
    line = with_around(index.recording.files[where.file].text, index.op_line(op), "autocast")
    function = index.recording.text(where.function)
    return [sources.cause_of_line("set", where.file, line, line, function)] if line else []


DIAGNOSIS = Diagnosis(
    code="stale-casts",
    title="autocast goes on with weights as they were before a step",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer stepped inside an autocast region, and a later operation of the region used the copy in
            lower precision that autocast had made of a parameter before the step: the graph leads through the cast of
            an earlier operation.""",
        reason="""Autocast casts a weight once and keeps the copy until its outermost region is left. Steps change the
            weight and not the copy, so that every forward pass in the region computes with the first weights.""",
        remedy="""Open autocast around each forward pass and its loss, and call backward() and step() outside of it. Or
            pass cache_enabled=False.""",
    ),
    example=Example(
        shows="""\
import torch

layers = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
optimizer = torch.optim.SGD(layers.parameters(), lr=0.1)
with torch.autocast("cpu", dtype=torch.bfloat16):
    for step in range(3):
        loss = layers(torch.ones(2, 3)).float().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
        instead_of='with torch.autocast("cpu", dtype=torch.bfloat16):',
        silent='with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):',
    ),
    find=_find,
)
