"""Closures of LBFGS that compute nothing anew: what they return or differentiate was computed before the step.

The step moves the parameters and asks its closure for the loss and the gradients there. One whose passes go through
operations on the parameters that all ran before the step gives those of before the move.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_of_closures import STEP
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.called_by_torch.closures_given import PlainClosure, plain_closure
from gradscope.recording import NONE
from gradscope.recording.flags import CONTINUED, RAISED
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps with a closure that computes nothing from which on it is reported; of one that differentiates again, two passes
in one step are enough, after which LBFGS stops: it sees no change."""
_QUIET = (OpKind.EXPORT, OpKind.READ_GRAD, OpKind.MODE)
_CLEARS = ("optim.Optimizer.zero_grad", "nn.Module.zero_grad")


class StaleClosure(NamedTuple):
    """All steps of one line."""

    step: int
    """The last op of the last step."""
    steps: tuple[int, ...]
    """The first op of each step."""
    carried: int
    """What the closure goes on with: a tensor that was computed before the step."""
    passes: tuple[int, ...]
    """The passes that it made; none where it computes nothing at all."""
    closure: PlainClosure | None
    """Where the text has it, of one that computes nothing."""


def stale_closures(index: Index, events: Events, passes: Passes) -> Iterator[StaleClosure]:
    """One for each line that makes steps with a closure, where no call of it used the parameters."""
    by_line = _steps_by_line(index)
    if not by_line:
        return
    optimizers = [one for one in seen_optimizers(index, events) if one.name == "LBFGS"]
    held = frozenset(tensor for one in optimizers for tensor in one.tensors)
    is_asked_again = all(one.setting(tensor, "max_iter") > 1 for one in optimizers for tensor in one.tensors)
    calls = _ClosureCalls(index, passes, held)
    for statement, steps in by_line.items():
        if not held or calls.uses_parameters(steps):
            continue
        found = calls.carrying(steps)
        if not found and is_asked_again and len(steps) >= STEPS:
            found = calls.idle(statement, steps)
        yield from found


def _steps_by_line(index: Index) -> dict[int, list[list[int]]]:
    """For each line the steps that were made there: the ops that one is recorded as, between calls of its closure."""
    flags, found = index.recording.ops.column("flags"), dict[int, list[list[int]]]()
    for op in index.calls_of(STEP.__eq__):
        steps = found.setdefault(index.op_statement[op], [])
        if flags[op] & CONTINUED and steps:
            steps[-1].append(op)
        else:
            steps.append([op])
    found.pop(NOWHERE, None)
    return found


class _ClosureCalls:
    def __init__(self, index: Index, passes: Passes, held: frozenset[int]) -> None:
        self._index = index
        self._passes = passes
        self._held = held
        self._kinds = index.recording.ops.column("kind")
        self._made_at, self._nodes = (index.recording.tensors.column(name) for name in ("op", "node"))

    def _inside(self, step: list[int]) -> list[int]:
        """What calls of the closure ran, without what clears or reads gradients and takes values."""
        own = set(step)
        return [
            op
            for op in range(step[0], step[-1])
            if op not in own and self._kinds[op] not in _QUIET and self._index.func(op) not in _CLEARS
        ]

    def uses_parameters(self, steps: list[list[int]]) -> bool:
        """Whether a call of the closure took a parameter, or what lies on its memory; or raised."""
        index, flags = self._index, self._index.recording.ops.column("flags")
        passes = (OpKind.BACKWARD, OpKind.GRAD)
        for step in steps:
            on = {index.storage_at(tensor, step[0]) for tensor in self._held} - {NONE}
            for op in self._inside(step):
                is_forward = self._kinds[op] not in passes
                takes = is_forward and any(index.storage_at(one, op) in on for one in index.uses.of(op))
                if takes or flags[op] & RAISED:
                    return True
        return False

    def carrying(self, steps: list[list[int]]) -> list[StaleClosure]:
        """Where each pass of the closure goes through what used the parameters before the step, and nothing else."""
        made, carried = list[int](), NONE
        is_repeated = False
        for step in steps:
            passes = [op for op in self._inside(step) if self._kinds[op] == OpKind.BACKWARD]
            if not all(self._is_of_before(op, step[0]) for op in passes):
                return []
            is_repeated = is_repeated or len(passes) > 1
            made += passes
            carried = self._carried(step, carried)
        if not is_repeated or carried < 0:
            return []
        return [StaleClosure(steps[-1][-1], tuple(step[0] for step in steps), carried, tuple(made), None)]

    def _is_of_before(self, op: int, first: int) -> bool:
        """Whether all nodes through which a pass reaches what the optimizer holds were made before an op."""
        index, nodes = self._index, self._index.recording.nodes
        made_at, variables = nodes.column("op"), nodes.column("variable")
        reached = [
            node
            for root in index.root_nodes(op)
            for node in self._passes.behind(root)
            if any(after >= 0 and variables[after] in self._held for after in index.edges.of(node))
        ]
        return bool(reached) and all(made_at[node] < first for node in reached)

    def _carried(self, step: list[int], before: int) -> int:
        """The first tensor with a graph that the closure took and that was made before the step."""
        for op in self._inside(step):
            taken: list[int] = [*self._index.uses.of(op), *self._index.roots.get(op, ())]
            for tensor in taken:
                if self._nodes[tensor] >= 0 and self._made_at[tensor] < step[0]:
                    return tensor
        return before

    def idle(self, statement: int, steps: list[list[int]]) -> list[StaleClosure]:
        """Where nothing was computed inside, and the text has a closure that computes nothing either."""
        index, where = self._index, self._index.statements[statement]
        if where.file < 0 or any(self._inside(step) for step in steps):
            return []
        closure = plain_closure(index.recording.files[where.file].text, where.line)
        first = steps[-1][0]
        before = [op for op in index.of_kind(OpKind.BACKWARD) if op < first]
        roots = [one for op in before[-1:] for one in index.roots.get(op, ()) if self._nodes[one] >= 0]
        if closure is None or not roots:
            return []
        return [StaleClosure(steps[-1][-1], tuple(step[0] for step in steps), roots[0], (), closure)]
