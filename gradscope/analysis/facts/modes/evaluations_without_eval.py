"""Evaluations in which dropouts and batch norms of a model run as in training.

An evaluation is told by what it does: without gradients the model is run on other data than those it is trained on,
what comes out is held against labels, and nothing but plain values comes of that. What a model gives for a later loss
(labels of a teacher, the data of a rollout) is none, nor are several runs on the same data (the spread of a dropout).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.batches import batch_behind, untracked_batch_behind
from gradscope.analysis.facts.modes.mode_runs import ModeRun
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, GRAD, PARAMETER
from gradscope.recording.rows import OpKind

_HELD_AGAINST = frozenset(("eq", "ne", "sub", "isclose", "allclose"))
"""Methods by which a prediction is held against a label; losses are told by their names."""
_BEFORE = 8
"""Calls before a dropout among which the weight is looked for."""
_STEPS = 4_096
"""Ops behind a run that are looked at."""


class EvaluationWithoutEval(NamedTuple):
    """What one place evaluated."""

    region: int
    """The op that switched gradients off for the last of it."""
    called: int
    """An op of the model in it, the first."""
    runs: tuple[ModeRun, ...]
    rounds: int


class _Evaluated(NamedTuple):
    run: ModeRun
    region: int
    """The op that had switched gradients off."""


def evaluations_without_eval(
    index: Index, sharing: StorageGroups, runs: list[ModeRun], regions: GradRegions
) -> Iterator[EvaluationWithoutEval]:
    """One for each statement that switches gradients off."""
    trained: dict[tuple[str, int], list[ModeRun]] = {}
    for run in runs:
        if run.is_active and run.walked_by >= 0:
            trained.setdefault(_layer(index, run), []).append(run)
    found: dict[int, list[_Evaluated]] = {}
    flags = index.recording.ops.column("flags")
    for run in runs:
        is_evaluated = run.is_active and run.walked_by < 0 and not flags[run.op] & GRAD
        region = regions.of(run.op) if is_evaluated else NONE
        if region >= 0 and _layer(index, run) in trained:
            found.setdefault(index.op_statement[region], []).append(_Evaluated(run, region))
    of_one_layer = next(iter(trained.values())) if found else []
    trained_on = {place for run in of_one_layer for place in _places(sharing, index, batch_behind(index, run.op))}
    for evaluated in found.values():
        if _is_evaluation(index, sharing, evaluated, trained_on):
            runs_there, region = tuple(one.run for one in evaluated), evaluated[-1].region
            called = next(one.run.op for one in evaluated if one.region == region)
            rounds = index.times(run.op for run in runs_there if run.site == runs_there[0].site)
            yield EvaluationWithoutEval(region, called, runs_there, rounds)


def _layer(index: Index, run: ModeRun) -> tuple[str, int]:
    """Which layer it is, wherever it is called from: a dropout is known by the weight behind it, if there is one."""
    flags, op = index.recording.tensors.column("flags"), run.op
    if run.site[0] == "weight":
        return run.site
    for _ in range(_BEFORE):
        taken = list(index.uses.of(op))
        weights = [one for one in taken if flags[one] & PARAMETER]
        if weights:
            return run.site[0], weights[0]
        made = index.made_by(taken[0]) if taken and not flags[taken[0]] & EXTERNAL else NONE
        if not 0 <= made < op:
            break
        op = made
    return run.site


def _places(sharing: StorageGroups, index: Index, tensors: Iterable[int]) -> frozenset[tuple[int, int]]:
    """Where tensors begin in memory: slices of a data set are made anew each time."""
    storages = index.recording.tensors.column("storage")
    return frozenset((storages[one], sharing.offset_of(one)) for one in tensors)


def _is_evaluation(
    index: Index, sharing: StorageGroups, evaluated: list[_Evaluated], trained_on: set[tuple[int, int]]
) -> bool:
    seen: dict[tuple[object, int], set[frozenset[tuple[int, int]]]] = {}
    for run, region in evaluated:
        if not index.op_line(region):
            return False
        batch = _places(sharing, index, untracked_batch_behind(index, run.op, region))
        once = seen.setdefault((run.site, region), set())
        if not batch or batch in once or not trained_on.isdisjoint(batch):
            return False  # (drawn from, or measured where it is trained)
        once.add(batch)
    becomes = [_becomes(index, run.op) for run, _ in evaluated]
    return all(is_held for is_held, _ in becomes) and any(left for _, left in becomes)


def _becomes(index: Index, op: int) -> tuple[bool, bool]:
    """Whether what comes of a run is held against other data, and has no part in anything tracked; whether it leaves
    torch.
    """
    flags, nodes = (index.recording.tensors.column(name) for name in ("flags", "node"))
    kinds = index.recording.ops.column("kind")
    behind, todo, asked = set(index.tensors_made(op)), list(index.tensors_made(op)), set[int]()
    is_held = left = False
    while todo and len(asked) < _STEPS:
        for user in index.users.of(todo.pop()):
            if user in asked or user <= op:
                continue
            asked.add(user)
            taken = index.uses.of(user)
            left |= kinds[user] == OpKind.EXPORT
            others = [one for one in taken if one not in behind and not flags[one] & (PARAMETER | EXTERNAL)]
            is_held |= bool(others) and _holds_against(index.method(user))
            for made in index.tensors_made(user):
                if nodes[made] >= 0:
                    return False, False
                behind.add(made)
                todo.append(made)
    return is_held, left


def _holds_against(method: str) -> bool:
    owner, _, name = method.rpartition(".")
    return name.strip("_") in _HELD_AGAINST or (owner == "F" and name.endswith(("loss", "entropy", "with_logits")))
