"""Gradients that a loss which only raises what a network says leaves in that network, whose own loss compares it.

``critic_loss.backward(); policy_loss.backward(); critic_opt.step(); policy_opt.step()``: the policy is to do what the
critic values highly, ``-q(x, pi(x)).mean()``, and backward gives the critic a gradient that raises all it says.

Two losses may be meant to train the same weights. That this one is not for the critic is told by what was measured: it
takes what the critic gives as it is, so that nothing ends it; it reaches the maker through the critic alone, and the
critic's other loss compares what it gives with numbers, and does not reach the maker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.linear_ways import LinearWays
from gradscope.analysis.facts.leaf_gradients.pass_order import PassOrder
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep, RoundOfTwo
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

TIMES = 2
"""Steps with gradients of both from which on it is reported."""


class RaisedEstimate(NamedTuple):
    """What happened in one such round of a kind."""

    own: int
    """The pass of the critic's own loss."""
    other: int
    """The pass of the loss that raises what the critic says."""
    step: int
    tensors: tuple[int, ...]
    """The critic's parameters with gradients of both."""
    makers: tuple[int, ...]
    """What the other pass is for."""
    times: int


class RaisedEstimates:
    """Finds them in one recording."""

    def __init__(self, index: Index, passes: Passes, lives: GradientLives, by_step: PassesByStep) -> None:
        self._index = index
        self._passes = passes
        self._lives = lives
        self._by_step = by_step
        self._ways = LinearWays(index, passes)

    def found(self) -> Iterator[RaisedEstimate]:
        """One for each place of the two passes and of the step."""
        places: dict[tuple[int, ...], list[RoundOfTwo]] = {}
        for one in self._rounds():
            places.setdefault(tuple(self._index.op_statement[op] for op in one), []).append(one)
        for rounds in places.values():
            times = self._index.times(one.step for one in rounds)
            shown = rounds[-2:][0]  # (under which names the last round's are held was not always seen)
            if times >= TIMES and (found := self._judged(shown, times)) is not None:
                yield found

    def _rounds(self) -> Iterator[RoundOfTwo]:
        """The pairs of steps without a pass between, each with two passes of which the first step applied both."""
        kinds = self._index.recording.ops.column("kind")
        for step, other_step, before in self._by_step.pairs():
            others = self._by_step.updated(other_step)
            applied = self._applied(self._by_step.updated(step), step)
            if len(applied) < 2 or applied[0] < before or any(kinds[op] != OpKind.BACKWARD for op in applied):
                continue
            theirs = set(self._applied(others, other_step)) & set(applied)
            owns = [op for op in applied if not any(op in self._lives.passes[one] for one in others)]
            yield from (RoundOfTwo(own, other, step, other_step) for other in theirs for own in owns[-1:])

    def _applied(self, tensors: frozenset[int], step: int) -> list[int]:
        """The passes whose gradients a step applied to any of some parameters."""
        return sorted({op for tensor in tensors for op in self._lives.applied(tensor, step)})

    def _judged(self, one: RoundOfTwo, times: int) -> RaisedEstimate | None:
        """What there is to say of a round in which the other pass raises what the own one compares; else None."""
        both = {one.own, one.other}
        updated, theirs = self._by_step.updated(one.step), self._by_step.updated(one.other_step)
        mine = frozenset(tensor for tensor in updated if both <= set(self._lives.applied(tensor, one.step)))
        makers = frozenset(tensor for tensor in theirs if one.other in self._lives.applied(tensor, one.other_step))
        order = PassOrder(self._index, self._passes, one.other)
        if not order.came_through(mine, to=makers) or order.came_through(makers, to=mine):
            return None
        raised, own = self._ways.of_pass(one.other, mine), self._ways.of_pass(one.own, mine)
        if not raised.is_plain or raised.compared or not raised.taken:
            return None
        if not raised.taken <= own.compared or raised.taken & own.taken:
            return None
        return RaisedEstimate(one.own, one.other, one.step, tuple(sorted(mine)), tuple(sorted(makers)), times)
