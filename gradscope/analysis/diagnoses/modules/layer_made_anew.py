"""A layer that forward makes in each of its calls, or a loop in each round: it is new each time, and never trained."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.made_each_round import MadeEachRound
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.unregistered import is_in_module_method
from gradscope.recording.flags import LEAF, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

TIMES = 3
"""Layers that one line of a forward made, of each of which the parameters got a gradient, to be reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    made: dict[int, dict[int, list[int]]] = {}
    for leaf, passes in sources.lives.passes.items():
        op = index.made_by(leaf) if flags[leaf] & PARAMETER else -1
        is_dropped = len(passes) == 1 and leaf not in sources.events.in_optimizers
        if 0 <= op < index.op_count and is_dropped and _is_in_forward(index, op):
            made.setdefault(index.op_statement[op], {}).setdefault(op, []).append(leaf)
    told = set[int]()
    computed = _with_graph(index) if made else set[int]()
    for statement, layers in made.items():
        if any(index.storage_at(leaf, op) in computed for op, leaves in layers.items() for leaf in leaves):
            continue
        if len(layers) >= TIMES and not any(leaf in sources.lives.steps for all_ in layers.values() for leaf in all_):
            op, leaves = max(layers.items())
            told.add(statement)
            yield sources.finding(
                f"Line {index.op_line(op)}: {index.call_name(op).removesuffix('.__init__')} is made again in each call "
                f"of {_function_of(index, op)} ({index.times(layers):,} times)",
                why="each of them starts at random, gets a gradient once and is dropped; no optimizer has them",
                op=op,
                tensors=leaves,
                causes=sources.cause("made", op),
                evidence=[Evidence("ops", one) for one in list(layers)[-TIMES:]],
                advice="Make it in __init__, and call it in forward.",
            )

    for found in sources.made_each_round:
        if told.isdisjoint(index.op_statement[op] for op in found.ops):
            yield _of_loop(sources, found)


def _of_loop(sources: Sources, found: MadeEachRound) -> Finding:
    """What a line of a loop, or of a function that is called in each round, has made anew."""
    index, op = sources.index, found.ops[-1]
    line = index.line(found.file, found.at.line)
    what = found.at.name or index.call_name(op).removesuffix(".__init__")
    named = [sources.names.of(leaf) for leaf in found.leaves if sources.names.is_named(leaf)]
    names = sources.listed(named) if named else "parameters of its own"
    causes = sources.cause("made", op)
    if found.at.name:
        causes = [sources.cause_of_line("made", found.file, found.at.line, found.at.end_line, "")]
    them, each = ("them", "each of them starts") if len(found.leaves) > 1 or not named else ("it", "it starts")
    passes = max(len(sources.lives.passes[leaf]) for leaf in found.leaves)
    gets = "a gradient once" if passes == 1 else f"gradients from {passes:,} passes"
    return sources.finding(
        f"Line {line}: {what} is made again in each round ({index.times(found.ops):,} times), with {names}",
        why=f"{each} anew, gets {gets} and is dropped; no optimizer has {them}",
        op=op,
        tensors=list(found.leaves),
        causes=causes,
        evidence=[Evidence("ops", one) for one in found.ops[-TIMES:]],
        advice="Make it once, before the loop, and give its parameters to the optimizer.",
    )


def _is_in_forward(index: Index, op: int) -> bool:
    """Whether forward made something, or another method of a class that has a forward made a whole layer."""
    function = _function_of(index, op)
    if function in ("forward", "__call__"):
        return True
    is_layer = index.recording.ops.column("kind")[op] == OpKind.GROUP and function != "__init__"
    where = index.statements[index.op_statement[op]]
    return is_layer and where.file >= 0 and is_in_module_method(index.recording.files[where.file].text, where.line)


def _with_graph(index: Index) -> set[int]:
    """The memory of what was computed with a graph: ``nn.Parameter(x)`` of it cuts that (see leaf-unreached)."""
    columns = (index.recording.tensors.column(name) for name in ("storage", "flags"))
    return {on for on, flags in zip(*columns, strict=True) if flags & REQUIRES_GRAD and not flags & LEAF}


def _function_of(index: Index, op: int) -> str:
    """The function that an op was called in; of a generator or a comprehension, the one that it is written in."""
    parts = index.op_place(op).function.split(".")
    return next((part for part in reversed(parts) if not part.startswith("<")), parts[-1])


DIAGNOSIS = Diagnosis(
    code="layer-made-anew",
    title="a layer that is made again in each call or round",
    severity="warning",
    explanation=Explanation(
        meaning="""A line of a forward, or of a method of a module that has one, made a layer (or a parameter) again
            and again. The parameters of each got one gradient, and no optimizer was given them. Or a loop that trains
            made a module (a loss with weights that are to be learned) or a parameter in each of its rounds, each of
            which went untrained.""",
        reason="""A layer's parameters are made with the layer, at random. One that is made in forward is another one
            in each call: the optimizer, which was made before, knows none of them.""",
        remedy="""Make layers in __init__. Where a size is known in forward only, nn.LazyLinear, or make it in the first
            call, before the optimizer.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        head = nn.Linear(3, 1)
        return head(x)


net = Net()
for step in range(4):
    net(torch.ones(2, 3)).sum().backward()
""",
        instead_of="head = nn.Linear(3, 1)",
        silent="head = self.head",
    ),
    find=_find,
)
