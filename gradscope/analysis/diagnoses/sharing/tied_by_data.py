"""Two parameters that were put on one memory by ``.data``: an optimizer steps them as two."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

STEPS = 2
"""Steps of both from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each parameter that lies on the memory of another, as long as both are stepped."""
    index, steps = sources.index, sources.lives.steps
    flags = index.recording.tensors.column("flags")
    by_storage: dict[int, list[int]] = {}
    for leaf in steps:
        if flags[leaf] & PARAMETER:
            by_storage.setdefault(index.storage_at(leaf, steps[leaf][-1]), []).append(leaf)
    optimizers = seen_optimizers(index, sources.events) if any(map(_several, by_storage.values())) else []
    for leaves in filter(_several, by_storage.values()):
        for leaf in leaves:
            set_at = _put_by_data(sources, leaf)
            others = [other for other in leaves if other != leaf and _put_by_data(sources, other) == NONE]
            holder = next((one for one in optimizers if leaf in one.tensors), None)
            same = others and index.layout_at(leaf, index.op_count) == index.layout_at(others[0], index.op_count)
            if set_at < 0 or not same or holder is None or not _has_state(holder, leaf):
                continue
            if min(len(steps[leaf]), len(steps[others[0]])) >= STEPS:
                yield _finding(sources, leaf, others[0], set_at, holder)


def _several(leaves: list[int]) -> bool:
    return len(leaves) > 1


def _has_state(optimizer: Optimizer, leaf: int) -> bool:
    """Whether it keeps something of each parameter: steps of plain SGD add up to that of the sum."""
    return optimizer.name != "SGD" or bool(optimizer.setting(leaf, "momentum"))


def _put_by_data(sources: Sources, leaf: int) -> int:
    """The last op that put a parameter on other memory by ``x.data = y``; NONE where none did."""
    moves = [op for op, _ in sources.index.moves.get(leaf, ()) if sources.index.func(op) == "Tensor.data.__set__"]
    return moves[-1] if moves else NONE


def _finding(sources: Sources, leaf: int, other: int, set_at: int, holder: Optimizer) -> Finding:
    index, steps = sources.index, sources.lives.steps[leaf]
    name, of = sources.names.of(leaf), sources.names.of(other)
    return sources.finding(
        f"Line {index.op_line(set_at)}: {name} is put on the memory of {of} by .data, and both stay parameters of "
        f"their own ({index.times(steps):,} steps of {holder.name} of both)",
        why="each gets its own part of the gradient, and each step writes the one memory twice, by two states; a move "
        "to another device or type parts the two",
        op=set_at,
        tensors=[leaf, other],
        causes=sources.cause("set", set_at),
        evidence=[Evidence("ops", steps[-1])],
        advice="Give both layers the one parameter: a.weight = b.weight.",
    )


DIAGNOSIS = Diagnosis(
    code="tied-by-data",
    title="two parameters on one memory, stepped as two",
    severity="warning",
    explanation=Explanation(
        meaning="""x.weight.data = y.weight.data put one parameter on the memory of another. Both got gradients of their
            own, and an optimizer that keeps a state for each (momentum, running means) stepped both.""",
        reason=""".data shares memory, not the parameter: parameters() lists two, each with its own .grad. The steps of
            both are written to the one memory, after one another. model.to(...) gives each memory of its own.""",
        remedy="""Tie the parameter itself: x.weight = y.weight, before the optimizer is made.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

embed, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
head.weight.data = embed.weight.data
optimizer = torch.optim.Adam([*embed.parameters(), *head.parameters()])
for step in range(3):
    optimizer.zero_grad()
    head(embed(torch.arange(5))).pow(2).sum().backward()
    optimizer.step()
""",
        instead_of="head.weight.data = embed.weight.data",
        silent="head.weight.data.copy_(embed.weight.data)",
    ),
    find=_find,
)
