"""Parameters whose requires_grad was saved when it was off already, so that off is what is set back."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.saved_flags import saves_flags_at, sets_back_at
from gradscope.recording.rows import OpKind

PASSES = 2
"""Passes without it from which on it is reported."""
_FLAG = "requires_grad"


class _SetBack(NamedTuple):
    """One parameter."""

    change: int
    """The row of ``changes`` by which it was switched off, the last change of it."""
    again: int
    """The op that switched it off once more."""
    back: int
    """The op that set it back, to off."""
    passes: tuple[int, ...]
    """Passes since that it took part in."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line switched off."""
    index = sources.index
    alike: dict[int, list[tuple[int, _SetBack]]] = {}
    for tensor in sources.events.in_optimizers:
        if (left := _left(sources, tensor)) is not None:
            alike.setdefault(index.op_statement[left.again], []).append((tensor, left))
    for statement, group in alike.items():
        where = index.statements[statement]
        text = index.recording.files[where.file].text if where.file >= 0 else ""
        saves = saves_flags_at(text, int(where.line))
        if saves is None:
            continue
        tensors, left = [tensor for tensor, _ in group], group[0][1]
        names, line = sources.listed([sources.names.of(tensor) for tensor in tensors]), index.line(where.file, saves[0])
        first = f"line {index.op_line(left.again)} has switched it off" if where.line != line else "it was switched off"
        yield sources.finding(
            f"Line {line}: requires_grad of {names} is saved a second time when {first}, so that off is what is set "
            "back",
            why=f"an optimizer holds {'it' if len(tensors) == 1 else 'them'}, and none of the "
            f"{index.times(left.passes):,} backward passes since gave a gradient",
            op=left.back,
            tensors=tensors,
            causes=[
                sources.cause_of_line("set", where.file, *saves, index.op_place(left.again).function),
                *sources.cause("set", left.again),
            ],
            evidence=[*(Evidence("changes", one.change) for _, one in group), Evidence("ops", left.again)],
            advice="Save it once only: pass by what is saved already.",
        )


def _left(sources: Sources, tensor: int) -> _SetBack | None:
    """The change that left a parameter off, where the same line visited it twice before another set it back."""
    index, changes = sources.index, sources.index.recording.changes
    kinds, rows = index.recording.ops.column("kind"), index.changed_ops.get(tensor, [])
    change = changes[rows[-1]] if rows else None
    if change is None or change.after or not change.before:
        return None
    users = sorted(index.users.of(tensor))
    later = [op for op in users if op > change.op and _FLAG in index.func(op)]
    off = index.op_statement[change.op]
    if not later or index.op_statement[later[0]] != off:
        return None
    back = next((op for op in later if index.op_statement[op] != off), None)
    if back is None or not _sets_others_back(sources, off, index.op_statement[back]):
        return None
    ends = [op for op in sources.hooks.pass_ops if op > change.op]
    took_part = [
        any(kinds[op] == OpKind.CALL for op in ops_between(users, start, end))
        for start, end in pairwise((change.op, *ends))
    ]
    passes = tuple(op for op, is_used in zip(ends, took_part, strict=True) if is_used)
    return _SetBack(rows[-1], later[0], back, passes) if len(passes) >= PASSES else None


def _sets_others_back(sources: Sources, off: int, back: int) -> bool:
    """Whether a statement that sets what was kept switched on again what another one had switched off."""
    index, changes = sources.index, sources.index.recording.changes
    where = index.statements[back]
    if where.file < 0 or not sets_back_at(index.recording.files[where.file].text, int(where.line)):
        return False
    for rows in index.changed_ops.values():
        for one, other in pairwise(changes[row] for row in rows):
            if not one.after and index.op_statement[one.op] == off and index.op_statement[other.op] == back:
                return True
    return False


DIAGNOSIS = Diagnosis(
    code="saved-when-frozen",
    title="requires_grad is saved when it is off already, and off is what is set back",
    severity="warning",
    explanation=Explanation(
        meaning="""A function saved requires_grad of parameters and switched it off, and came by some of them a second
            time before they were set back. What was set back for these is off: an optimizer holds them, they are used,
            and no pass gives them a gradient any more.""",
        reason="""What is saved the second time is what the first visit has just set. A parameter that two optimizers,
            or a module and its parent, have in common is visited twice in a loop over all of them.""",
        remedy="""Pass by what has been saved already (if p in saved: continue), or save everything before anything is
            switched off.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, left, right = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
parts = [[*body.parameters(), *left.parameters()], [*body.parameters(), *right.parameters()]]
optimizers = [torch.optim.SGD(part, lr=0.1) for part in parts]

def toggle(active):
    saved = {}
    for part in parts:
        for p in part:
            saved[p] = p.requires_grad
            p.requires_grad = False
    for p in parts[active]:
        p.requires_grad = saved[p]
    return saved

for step in range(6):
    saved = toggle(step % 2)
    optimizers[step % 2].zero_grad()
    (left, right)[step % 2](body(torch.rand(5, 3))).sum().backward()
    optimizers[step % 2].step()
    for p, flag in saved.items():
        p.requires_grad = flag
""",
        instead_of="saved[p] = p.requires_grad",
        silent="saved.setdefault(p, p.requires_grad)",
    ),
    find=_find,
)
