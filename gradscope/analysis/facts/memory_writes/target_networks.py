"""Copies of a network that were taken once, give it the targets of its loss without a gradient, and never change.

That is a target network as it is before its first update; a network that is to stay as it was when the training
began (the reference of a distance, an anchor) is measured the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, called
from gradscope.analysis.facts.memory_writes.overwritten_weights import whole_copies
from gradscope.analysis.facts.memory_writes.values_written import made_of, writes_beside_steps
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

STEPS = 10
"""Steps of the network since the copy from which on it counts."""
_RUNS = 8
"""Runs of the copy, the last ones, that are followed to what they are compared with."""
_FOLLOWED = 1_024
"""Ops of one run."""
_CHOOSES = AS_IT_IS | {"max", "amax", "min", "amin", "minimum", "gather", "values", "detach", "linear", "addmm", "cat"}
_SAYS_SO = re.compile(r"gamma|discount|reward|done|terminal|bootstrap|\bnext_|_next\b|\btd_?", re.IGNORECASE)
"""Words of reinforcement learning: the sum alone may be one step of a solver."""


class TargetNetwork(NamedTuple):
    """One copy."""

    leaves: tuple[int, ...]
    """Its parameters."""
    originals: tuple[int, ...]
    """The parameters that they were copied from, or are written into."""
    copied: int
    """The call that copied them, or the last of several; NONE where they are only written into the others."""
    steps: tuple[int, ...]
    """The steps that changed what they were copied from since."""
    runs: tuple[int, ...]
    """Calls that took the first of the parameters since, between these steps and after."""
    meets: int
    """The last op in which a result of it met one of the network, in what that is trained by; NONE: none was seen."""
    is_bootstrapped: bool
    """What it gave was made smaller by a factor and added to what it did not give, on the way there."""
    given_back: tuple[int, ...]
    """The calls that wrote the first of what they were copied from with values made of the first of them."""


def target_networks(index: Index, passes: Passes, lives: GradientLives) -> Iterator[TargetNetwork]:
    """One for all that one statement copied, and for all that one statement writes into what is trained."""
    copies = _copies(index, lives)
    given = _given_back(index, lives)
    for leaf, (original, _) in given.items():
        copies.setdefault(leaf, (NONE, original))
    if not copies:
        return
    written, together = last_written(index), dict[tuple[int, int], list[int]]()
    for leaf, (op, original) in copies.items():
        first = op if op >= 0 else lives.steps[original][0]
        is_trained_before = any(step < first for step in lives.steps[original])
        if written.get(index.storage_at(leaf, first), NONE) <= first and not is_trained_before:
            by = given[leaf][1][-1] if leaf in given else NONE
            key = (index.op_statement[op], NONE) if op >= 0 else (NONE, index.op_statement[by])
            together.setdefault(key, []).append(leaf)
    for leaves in together.values():
        copied = max(copies[leaf][0] for leaf in leaves)
        originals = tuple(copies[leaf][1] for leaf in leaves)
        steps = tuple(sorted({op for one in originals for op in lives.steps[one] if op > copied}))
        runs = [op for leaf in leaves[:1] for op in index.users.of(leaf) if steps and op > max(copied, steps[0])]
        if index.times(steps) < STEPS or not runs:
            continue
        walk = _WayToTarget(index, passes, frozenset(originals))
        met = next((found for op in runs[: -_RUNS - 1 : -1] if (found := walk.from_op(op)) is not None), None)
        meets, is_bootstrapped = met if met is not None else (NONE, False)
        back = tuple(op for op in given[leaves[0]][1] if op > copied) if leaves[0] in given else ()
        yield TargetNetwork(tuple(leaves), originals, copied, steps, tuple(runs), meets, is_bootstrapped, back)


def _given_back(index: Index, lives: GradientLives) -> dict[int, tuple[int, list[int]]]:
    """For each parameter without gradients one that is stepped and written with values made of it, and these writes."""
    flags, layouts = (index.recording.tensors.column(name) for name in ("flags", "layout"))
    constant = {
        index.storage_at(leaf, index.op_count): leaf
        for leaf, flag in enumerate(flags)
        if flag & PARAMETER and leaf not in lives.passes and leaf not in lives.steps
    }
    found = dict[int, tuple[int, list[int]]]()
    if not constant:
        return found
    writes = writes_beside_steps(index, lives.steps)
    for leaf, steps in lives.steps.items():
        storage = index.storage_at(leaf, index.op_count)
        for op in (one for one in writes[storage] if one > steps[0]):
            for on in made_of(index, op, storage):
                source = constant.get(on, NONE)
                if source >= 0 and layouts[source] == layouts[leaf]:
                    found.setdefault(source, (leaf, []))[1].append(op)
    return found


def _copies(index: Index, lives: GradientLives) -> dict[int, tuple[int, int]]:
    """For each parameter without gradients that was copied, once, from one that is stepped: the call, and that one."""
    tensors = index.recording.tensors
    flags, layouts = (tensors.column(name) for name in ("flags", "layout"))
    loads, deep = whole_copies(index), _deep_copies(index)
    by_storage = {index.storage_at(leaf, index.op_count): leaf for leaf in lives.steps}
    found: dict[int, tuple[int, int]] = {}
    for leaf, flag in enumerate(flags):
        if not flag & PARAMETER or leaf in lives.passes or leaf in lives.steps:
            continue
        taken, copied = list[tuple[int, int]](), deep.get(index.storage_at(leaf, index.op_count))
        if copied is not None and copied[1] in lives.steps and layouts[copied[1]] == layouts[leaf]:
            taken.append(copied)
        for at, source in loads.get(index.storage_at(leaf, index.op_count), ()):
            original = by_storage.get(index.storage_at(source, at), NONE)
            taken.append((at, original))
        if len(taken) == 1 and taken[0][1] >= 0:
            found[leaf] = taken[0]
    runs: dict[tuple[int, int], int] = {}
    for op, original in found.values():
        key = index.op_statement[op], original
        runs[key] = runs.get(key, 0) + 1
    repeated = {statement for (statement, _), times in runs.items() if times > 1}  # (one of several targets in turn)
    return {leaf: one for leaf, one in found.items() if index.op_statement[one[0]] not in repeated}


def _deep_copies(index: Index) -> dict[int, tuple[int, int]]:
    """For each memory block that a deep copy took, the call and the tensor that was copied into it."""
    found, made_at = dict[int, tuple[int, int]](), index.recording.storages.column("op")
    blocks: dict[int, list[int]] = {op: [] for op in index.calls_of(lambda name: name.endswith("__deepcopy__"))}
    for storage, op in enumerate(made_at):
        if op in blocks:
            blocks[op].append(storage)
    for op, storages in blocks.items():
        originals = list(index.uses.of(op))
        if len(originals) == len(storages):
            found.update((to, (op, one)) for to, one in zip(storages, originals, strict=True))
    return found


class _WayToTarget:
    """From the runs of a copy to what its results meet."""

    def __init__(self, index: Index, passes: Passes, originals: frozenset[int]) -> None:
        self._index = index
        self._passes = passes
        self._originals = originals
        self._node = index.recording.tensors.column("node")

    def from_op(self, op: int) -> tuple[int, bool] | None:
        """The op in which what a call gave meets what the network gave, and whether it is bootstrapped; None: none."""
        index = self._index
        behind, todo, asked = dict.fromkeys(index.tensors_made(op), NONE), list(index.tensors_made(op)), set[int]()
        while todo and len(asked) < _FOLLOWED:
            tensor = todo.pop(0)
            for user in index.users.of(tensor):
                if user <= op or user in asked:
                    continue
                asked.add(user)
                made = index.tensors_made(user)
                if any(self._leads_to_originals(one) for one in made):
                    return user, self._is_bootstrapped(tensor, behind)
                new = [one for one in made if not self._is_walked(one) and one not in behind]
                behind.update(dict.fromkeys(new, tensor))
                todo += new
        return None

    def _is_walked(self, tensor: int) -> bool:
        node = self._node[tensor]
        return node >= 0 and self._passes.first_walked_at[node] >= 0

    def _leads_to_originals(self, tensor: int) -> bool:
        is_walked = self._is_walked(tensor)
        return is_walked and not self._originals.isdisjoint(self._passes.leaves_behind(self._node[tensor]))

    def _is_bootstrapped(self, target: int, behind: dict[int, int]) -> bool:
        index, sums, factors, says_so = self._index, False, False, False
        while behind[target] != NONE:
            op = index.made_by(target)
            name, taken = called(index, op), list(index.uses.of(op))
            says_so |= _SAYS_SO.search(index.op_place(op).source) is not None
            if name == "add":
                sums |= len(taken) == 2 and sum(one in behind for one in taken) == 1
            elif name in ("mul", "multiply"):
                factors = True
            elif name not in _CHOOSES:
                break
            says_so |= name in ("max", "amax", "min", "minimum", "gather")
            target = behind[target]
        return sums and factors and says_so
