"""Parts that two models share, frozen with one of them and set back with the other, so that steps change both.

That one part is to be trained with a new head is no such thing: there it runs once, between what is frozen and the
head. What is told of runs in the model that was frozen, with frozen parts of that on either side, and in the other one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER


class SetBackByAnother(NamedTuple):
    """What one statement froze for good but for what another one set back."""

    frozen: int
    """The first op that froze some."""
    back: int
    """The last op that set one back."""
    tensors: list[int]
    """The shared ones."""
    still: list[int]
    """Those that stay frozen."""
    others: list[int]
    """Those that were set with the shared ones, and had not been frozen."""
    parts: frozenset[str]
    """The names that the shared parts have in either model."""
    kinds: frozenset[str]
    """The classes of the other model and of its parts."""


def set_back_by_another(
    index: Index, lives: GradientLives, names: dict[int, list[tuple[int, int, int]]]
) -> Iterator[SetBackByAnother]:
    """One for each pair of such statements.

    Args:
        index: The recording.
        lives: The steps of its optimizers.
        names: For each tensor the names under which it was seen, with op and span.
    """
    changes = index.recording.changes
    by_statement: dict[int, dict[int, tuple[int, int]]] = {}
    for tensor, rows in index.changed_ops.items():
        first, last = changes[rows[0]], changes[rows[-1]]
        if first.before and not first.after and len(rows) <= 2:
            back = last.op if len(rows) == 2 else NONE
            by_statement.setdefault(index.op_statement[first.op], {})[tensor] = (first.op, back)
    for frozen in by_statement.values():
        shared = [one for one, (_, back) in frozen.items() if back >= 0]
        still = [one for one, (_, back) in frozen.items() if back < 0]
        if not shared or not still or len({index.op_statement[frozen[one][1]] for one in shared}) != 1:
            continue
        back = max(frozen[one][1] for one in shared)
        others = _set_with(index, back, frozen)
        is_changed = all(one in lives.steps and lives.steps[one][-1] > back for one in shared)
        if others and is_changed and _runs_in_both(index, lives, back, shared, still, others):
            at = min(op for op, _ in frozen.values())
            yield SetBackByAnother(at, back, shared, still, others, _parts(index, shared, names), _kinds(index, others))


def _set_with(index: Index, back: int, frozen: dict[int, tuple[int, int]]) -> list[int]:
    """The parameters that the run of a statement set as well, and that required grad already."""
    flags, statement = index.recording.tensors.column("flags"), index.op_statement[back]
    first, end = back, back + 1
    while first and index.op_statement[first - 1] == statement:
        first -= 1
    while end < index.op_count and index.op_statement[end] == statement:
        end += 1
    found = {
        tensor: None
        for op in range(first, end)
        for tensor in index.uses.of(op)
        if flags[tensor] & PARAMETER and tensor not in frozen and index.requires_grad(tensor, op)
    }
    return list(found)


def _runs_in_both(
    index: Index, lives: GradientLives, since: int, shared: list[int], still: list[int], others: list[int]
) -> bool:
    """Whether, before one pass, the shared parts ran beside frozen ones alone, and another time beside the others."""
    of: dict[int, str] = {}
    for label, tensors in (("shared", shared), ("still", still), ("others", others)):
        wanted = {*tensors}
        of.update({module: label for module, tensor, _ in index.recording.module_tensors if tensor in wanted})
    ops = [(op, of[module]) for op, module in index.recording.module_ops if module in of and op > since]
    begun = since
    for passed in ops_between(lives.passes[shared[0]], since, index.op_count):
        order = [label for label, _ in groupby(label for op, label in ops if begun < op < passed)]
        around = [{*order[max(at - 1, 0) : at + 2]} for at, label in enumerate(order) if label == "shared"]
        if any("others" in one for one in around) and {"shared", "still"} in around:
            return True
        begun = passed
    return False


def _parts(index: Index, tensors: list[int], names: dict[int, list[tuple[int, int, int]]]) -> frozenset[str]:
    text, modules = index.recording.text, index.recording.modules
    found = {text(modules[one].name) for one in _around(index, tensors)}
    for tensor in tensors:
        found.update(part for name, *_ in names.get(tensor, ()) for part in text(name).split(".")[1:-1])
    return frozenset(one for one in found if one.isidentifier())


def _kinds(index: Index, tensors: list[int]) -> frozenset[str]:
    return frozenset(index.recording.text(index.recording.modules[one].kind) for one in _around(index, tensors))


def _around(index: Index, tensors: list[int]) -> set[int]:
    """The modules that have some tensors, and those that these are part of."""
    wanted = {*tensors}
    return {up for module, tensor, _ in index.recording.module_tensors if tensor in wanted for up in _up(index, module)}


def _up(index: Index, module: int) -> Iterator[int]:
    parents = index.recording.modules.column("parent")
    while module != NONE:
        yield module
        module = parents[module]
