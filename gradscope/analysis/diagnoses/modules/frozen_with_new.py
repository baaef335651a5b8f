"""Parameters that an optimizer was given to train, frozen by the call that adds new ones and is to freeze these."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import EventKind, OpKind

PASSES = 2
"""Passes that went through what was frozen from which on it is reported."""


class _Frozen(NamedTuple):
    """What one statement froze of an optimizer's parameters, and of what was made since."""

    statement: int
    held: dict[int, int]
    """The optimizer's, with the op that froze each."""
    new: list[int]


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for what one statement froze of an optimizer's parameters."""
    for optimizer in seen_optimizers(sources.index, sources.events):
        for found in _frozen(sources, optimizer):
            if not _steps_on(sources, optimizer, max(found.held.values())):
                continue
            passes = _passes_through(sources, found)
            way = _way(sources, found)
            if way and len(passes) >= PASSES:
                yield _finding(sources, optimizer, found, way, passes)


def _frozen(sources: Sources, optimizer: Optimizer) -> Iterator[_Frozen]:
    """What each statement froze for good after it was given, where it froze parameters that were made since, too."""
    index, by_statement = sources.index, dict[int, dict[int, int]]()
    is_parameter = index.recording.tensors.column("flags")
    for group in optimizer.groups:
        for tensor in group.tensors:
            if (off := _last_off(sources, tensor)) >= group.op:
                by_statement.setdefault(index.op_statement[off], {})[tensor] = off
    for statement, held in by_statement.items():
        first, last = min(held.values()), max(held.values())
        new = [
            tensor
            for tensor in index.changed_ops
            if tensor not in sources.events.in_optimizers and is_parameter[tensor] & PARAMETER
            if optimizer.made.op <= index.made_by(tensor) < (off := _last_off(sources, tensor))
            if index.op_statement[off] == statement
            if not ops_between(sources.hooks.pass_ops, min(off, first), max(off, last))
        ]
        if new:
            yield _Frozen(statement, held, new)


def _last_off(sources: Sources, tensor: int) -> int:
    """The op that switched a parameter off for good; -1 where none did."""
    changes, rows = sources.index.recording.changes, sources.index.changed_ops.get(tensor, [])
    last = changes[rows[-1]] if rows else None
    return last.op if last is not None and last.before and not last.after else -1


def _steps_on(sources: Sources, optimizer: Optimizer, since: int) -> bool:
    """Whether an optimizer goes on to step others of its parameters."""
    index = sources.index
    steps = (op for op in index.of_kind(OpKind.STEP) if op > since and index.func(op) == f"{optimizer.name}.step")
    return any(len(index.uses.of(op)) and optimizer.tensors.issuperset(index.uses.of(op)) for op in steps)


def _passes_through(sources: Sources, found: _Frozen) -> list[int]:
    """The passes since before each of which all that was frozen was computed with."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    since = max(found.held.values())
    ends = [op for op in sources.hooks.pass_ops if op > since]
    uses = [[op for op in sorted(index.users.of(tensor)) if kinds[op] == OpKind.CALL] for tensor in found.held]
    starts = pairwise((since, *ends))
    return [end for start, end in starts if all(ops_between(each, start, end) for each in uses)]


def _way(sources: Sources, found: _Frozen) -> list[int]:
    """The spans of the functions around what froze, from the one that adds to the one that has it added.

    Empty where the file itself does it, or where it was done by several calls: each of them may be meant.
    """
    index, spans = sources.index, sources.index.recording.spans
    ops = [*found.held.values(), *(_last_off(sources, one) for one in found.new)]
    ways = [
        event
        for event in sources.events.of(EventKind.FROZEN)
        if min(ops) <= event.subject <= max(ops) and index.statement_of_span[event.span] == found.statement
    ]
    through = ways[0].detail.get("through") if len(ways) == 1 and ways[0].subject == min(ops) else None
    if not isinstance(through, list):
        return []
    way = [one for one in through if isinstance(one, int) and 0 <= one < len(spans)]
    if len(way) < 2:
        return []
    functions = [spans[one].function for one in way]
    makers = {index.statements[index.op_statement[index.made_by(one)]].function for one in found.new}
    adds = next((at for at, function in enumerate(functions) if function in makers), min(1, len(way) - 2))
    if adds > 1:  # (who makes it and hands it on is not who sets the mode: the function between, which was handed it)
        return way[adds - 1 : adds + 1]
    is_copied = not all(index.is_new_parameter(one) for one in found.new)
    return [] if adds == 0 and is_copied else way[adds:]


def _finding(sources: Sources, optimizer: Optimizer, found: _Frozen, way: list[int], passes: list[int]) -> Finding:
    index, held, them = sources.index, [*found.held], "it" if len(found.held) == 1 else "them"
    names, new = (sources.listed([sources.names.at(one, passes[-1]) for one in some]) for some in (held, found.new))
    return sources.finding(
        f"Line {index.span_line(way[0])} switches requires_grad off for {names} as well when line "
        f"{index.span_line(way[-1])} adds {new}",
        why=f"the {optimizer.name} has {them} to train since before, and none of the {index.times(passes):,} backward "
        f"passes since gave {them} a gradient",
        op=passes[-1],
        tensors=held,
        causes=[*sources.cause_of_span("set", way[0]), *sources.cause_of_span("used", way[-1])],
        evidence=[*(Evidence("ops", op) for op in [*found.held.values()][:2]), Evidence("events", optimizer.made.row)],
        advice="Freeze what is new alone.",
    )


DIAGNOSIS = Diagnosis(
    code="frozen-with-new",
    title="the call that adds frozen parameters freezes those that are trained as well",
    severity="warning",
    explanation=Explanation(
        meaning="""After an optimizer was given parameters, a call made new ones and switched requires_grad off for
            these, and by the same statement for some that the optimizer has. The passes since went through them
            and gave them no gradient, while the optimizer steps others.""",
        reason="""A method that adds a part and sets the mode of all parts sets that of those in training, too. An
            optimizer passes by what has no gradient, and nothing fails.""",
        remedy="""Set requires_grad for the new part only, or switch the other one on again afterwards.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Adapters(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict()
    def add(self, name, trained):
        self.parts[name] = nn.Linear(3, 3)
        for part in self.parts.values():
            part.requires_grad_(trained)
    def forward(self, x):
        return self.parts["policy"](x)

net, head = Adapters(), nn.Linear(3, 1)
net.add("policy", trained=True)
optimizer = torch.optim.SGD([{"params": net.parameters()}, {"params": head.parameters()}], lr=0.1)
net.add("reference", trained=False)
for step in range(4):
    optimizer.zero_grad()
    head(net(torch.rand(5, 3))).sum().backward()
    optimizer.step()
""",
        instead_of="for part in self.parts.values():",
        silent="for part in [self.parts[name]]:",
    ),
    find=_find,
)
