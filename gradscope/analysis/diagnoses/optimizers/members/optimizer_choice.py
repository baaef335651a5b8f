"""Which optimizer a parameter should have been given to, where only one comes into question."""

from __future__ import annotations

import re
from functools import cached_property

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_STEP_OF_PATH = re.compile(r"\[[^]]*\]|\.?[^.\[]+")


class OptimizerFor:
    """Chooses among the optimizers of a run.

    A single one comes into question alone. Of several it is the one that holds a parameter of the same shape that gets
    no gradient (a model was replaced, and the optimizer holds the old one); or else the one that holds parameters to
    which the same passes gave gradients; or of several such the one whose steps follow these passes; or the one that
    holds those with the most of the name's beginning in common (``net.head.weight`` belongs to ``net.body.weight``).
    One that was made for all that others hold (a phase of training follows another) stands for them, for a parameter
    that was made after it.
    """

    def __init__(self, sources: Sources, optimizers: list[Optimizer]) -> None:
        self._sources = sources
        self._optimizers = optimizers
        self._passes = {tensor: frozenset(passes) for tensor, passes in sources.lives.passes.items()}
        self._layouts = sources.index.recording.tensors.column("layout")

    def of(self, tensor: int) -> Optimizer | None:
        """The optimizer for a parameter that none holds; None where there is none or more than one.

        One that was made behind the last pass that gave it a gradient is for something else, where others are there.
        """
        last = max(self._passes.get(tensor, ()), default=NONE)
        there = [one for one in self._optimizers if one.made.op <= last] or self._optimizers
        if len(there) < 2:
            return there[0] if there else None
        for rule in (self._idle, self._beside, self._follows):
            chosen = [one for one in there if rule(one, tensor)]
            if len(chosen) == 1:
                return chosen[0]
        return self._by_name(tensor) or self._last_of_phases(tensor)

    def _idle(self, optimizer: Optimizer, tensor: int) -> bool:
        """Whether it holds a parameter of the shape that gets no gradient."""
        layout = self._layouts[tensor]
        return any(self._layouts[other] == layout and other not in self._passes for other in optimizer.tensors)

    def _beside(self, optimizer: Optimizer, tensor: int) -> bool:
        """Whether a pass gave gradients to the parameter and to one that it holds."""
        passes = self._passes.get(tensor, frozenset())
        return any(not passes.isdisjoint(self._passes.get(other, ())) for other in optimizer.tensors)

    def _follows(self, optimizer: Optimizer, tensor: int) -> bool:
        """Whether it makes a step after a pass that gave the parameter a gradient, and before the next pass."""
        return not self._followed_by[optimizer.made.row].isdisjoint(self._passes.get(tensor, ()))

    @cached_property
    def _followed_by(self) -> dict[int, set[int]]:
        """By the event that made each optimizer the passes that its steps follow."""
        index, passes = self._sources.index, sorted(self._sources.gradients.roots)
        found: dict[int, set[int]] = {one.made.row: set() for one in self._optimizers}
        for step in index.of_kind(OpKind.STEP):
            last_pass, used = last_before(passes, step), index.uses.of(step)
            for one in self._optimizers:
                if not one.tensors.isdisjoint(used):
                    found[one.made.row].add(last_pass)
        return found

    def _by_name(self, tensor: int) -> Optimizer | None:
        names, own = self._sources.names, _parts(self._sources.names.of(tensor))
        beside = [one for one in self._optimizers if self._beside(one, tensor)]
        common = [max(_common(own, _parts(names.of(other))) for other in one.tensors) for one in beside]
        best = max(common, default=0)
        return beside[common.index(best)] if best and common.count(best) == 1 else None

    def _last_of_phases(self, tensor: int) -> Optimizer | None:
        """The last made of those beside it, where that holds all that the others hold, and the parameter is newer."""
        beside = [one for one in self._optimizers if self._beside(one, tensor)]
        last = max(beside, key=lambda one: one.made.row, default=None)
        if last is None or self._sources.index.made_by(tensor) < last.made.op:
            return None
        return last if all(one.tensors <= last.tensors for one in beside) else None


def _parts(name: str) -> list[str]:
    return _STEP_OF_PATH.findall(name)


def _common(first: list[str], second: list[str]) -> int:
    """How many steps two paths have in common from their beginnings on."""
    return next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
