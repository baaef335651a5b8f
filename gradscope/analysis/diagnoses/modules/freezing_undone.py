"""Parameters that were frozen among others, and set back together with all the others before anything used them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.set_back_by_another import SetBackByAnother, set_back_by_another
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.shared_parts import shared_parts
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

_OF_MODULE = ".requires_grad_"
"""How the method of modules ends: a class of the program's may have one of its own."""


class _Undone(NamedTuple):
    """Parameters that one statement froze and another set back."""

    frozen: int
    """The first op that froze some."""
    back: int
    """The last op that set one back."""
    tensors: list[int]


def _find(sources: Sources) -> Iterator[Finding]:
    index, lives = sources.index, sources.lives
    for undone in _undone(index):
        trained = [
            one
            for one in undone.tensors
            if lives.passes.get(one, [0])[-1] > undone.back and lives.steps.get(one, [0])[-1] > undone.back
        ]
        if trained and _covers_others(index, undone):
            yield _finding(sources, undone, lives.passes[trained[0]][-1])
    for found in set_back_by_another(index, lives, sources.names_held):
        yield _with_another(sources, found)


def _undone(index: Index) -> Iterator[_Undone]:
    """What a statement froze first and another set back next, all of it, before anything used it."""
    changes = index.recording.changes
    by_statement: dict[int, dict[int, tuple[int, int]]] = {}
    for tensor, rows in index.changed_ops.items():
        first, following = changes[rows[0]], [changes[row] for row in rows[1:2]]
        if first.before and not first.after:
            back = following[0].op if following and not _is_used(index, tensor, first.op, following[0].op) else NONE
            by_statement.setdefault(index.op_statement[first.op], {})[tensor] = (first.op, back)
    for statement, frozen in by_statement.items():
        set_back = {index.op_statement[back] if back >= 0 else NONE for _, back in frozen.values()}
        if len(set_back) == 1 and set_back.isdisjoint((statement, NONE)):
            yield _Undone(min(op for op, _ in frozen.values()), max(back for _, back in frozen.values()), list(frozen))


def _is_used(index: Index, tensor: int, since: int, until: int) -> bool:
    kinds, users = index.recording.ops.column("kind"), index.users.of(tensor)
    between = users[bisect_right(users, since) : bisect_left(users, until)]
    return any(
        kinds[op] != OpKind.SET and not index.method(op).endswith((_OF_MODULE, "Tensor.detach")) for op in between
    )


def _covers_others(index: Index, undone: _Undone) -> bool:
    """Whether the statement that set them back took others along that had not been frozen: it makes no choice."""
    kinds, flags = index.recording.ops.column("kind"), index.recording.tensors.column("flags")
    statement = index.op_statement[undone.back]
    for op in range(undone.frozen, index.op_count):
        if index.op_statement[op] != statement:
            if op > undone.back:
                break
        elif kinds[op] == OpKind.SET or index.func(op).endswith(_OF_MODULE):
            for tensor in index.uses.of(op):
                if flags[tensor] & PARAMETER and tensor not in undone.tensors and index.requires_grad(tensor, op):
                    return True
    return False


def _finding(sources: Sources, undone: _Undone, backward: int) -> Finding:
    index = sources.index
    names = sources.listed([sources.names.at(tensor, backward) for tensor in undone.tensors])
    return sources.finding(
        f"Line {index.op_line(undone.frozen)} froze {names}, and line {index.op_line(undone.back)} set requires_grad "
        "for them again, with that of others, before anything used them",
        why="backward gives them gradients and the steps change them, as if nothing had been frozen",
        op=undone.back,
        tensors=undone.tensors,
        causes=[*sources.cause("set", undone.back), *sources.cause("set", undone.frozen)],
        evidence=[Evidence("ops", undone.frozen), Evidence("ops", backward)],
        advice="Freeze after that, or leave requires_grad there as it is.",
    )


def _with_another(sources: Sources, found: SetBackByAnother) -> Finding:
    """What two models share, set back with the other one."""
    index = sources.index
    backward = sources.lives.passes[found.tensors[0]][-1]
    shared, still, others = (
        sources.listed([sources.names.at(one, backward) for one in some])
        for some in (found.tensors, found.still, found.others)
    )
    lines = _lines_that_share(sources, found)
    given = f", as line {lines[0].line} gives the one what the other has, without a copy" if lines else ""
    return sources.finding(
        f"Line {index.op_line(found.frozen)} froze {shared} with {still}, and line {index.op_line(found.back)} set "
        f"requires_grad for them again with that of {others}",
        why=f"they run in both models{given}, and the steps change them, while the rest that was frozen stays as it is",
        op=found.back,
        tensors=found.tensors,
        causes=[*lines, *sources.cause("set", found.back), *sources.cause("set", found.frozen)],
        evidence=[Evidence("ops", found.frozen), Evidence("ops", backward)],
        advice="Give one of them a copy: copy.deepcopy.",
    )


def _lines_that_share(sources: Sources, found: SetBackByAnother) -> list[Cause]:
    """The one statement that does, as far as the text shows it."""
    places = [
        (file, *lines)
        for file, source in enumerate(sources.index.recording.files)
        if source.is_user
        for lines in shared_parts(source.text, found.parts, found.kinds)
    ]
    return [sources.cause_of_line("set", *place, "") for place in places] if len(places) == 1 else []


DIAGNOSIS = Diagnosis(
    code="freezing-undone",
    title="parameters that were frozen and set back with all the others",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement switched requires_grad off for some parameters. Before anything used them another one
            switched it on for all of these, and for others that had not been frozen. They got gradients afterwards,
            and steps changed them. Or it did so for a part of them that another model has as well, which runs in both.
            """,
        reason="""requires_grad has one value, the one that was set last. Code that builds an optimizer or prepares a
            model often sets it for every parameter. A module that two models have is one, by whatever name it is
            reached.""",
        remedy="""Freeze after the code that sets requires_grad for all, or let that code leave it as it is. Give the
            second model a copy of what it takes from the first.""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
net[0].requires_grad_(False)
decayed, others = [], []
for name, p in net.named_parameters():
    p.requires_grad = True
    (others if "bias" in name else decayed).append(p)
optimizer = torch.optim.SGD([{"params": decayed, "weight_decay": 0.01}, {"params": others}], lr=0.1)
net(torch.ones(2, 3)).sum().backward()
optimizer.step()
""",
        instead_of="p.requires_grad = True",
        silent="assert p.is_leaf",
    ),
    find=_find,
)
