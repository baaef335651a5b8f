"""Gradients that one network's loss adds to those of another, between the other's own pass and its step.

``loss_g.backward(retain_graph=True); d_opt.zero_grad(); loss_d.backward(); g_opt.step(); d_opt.step()``: where the
discriminator's loss judges what is not detached, the generator's step applies the gradients of both, which are against
each other. Two losses may as well be meant to train the same weights: what tells the two apart is written down here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.pass_order import PassOrder
from gradscope.analysis.facts.losses.contrary_terms import ContraryTerms
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep, RoundOfTwo
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

TIMES = 2
"""Steps with gradients of both from which on it is reported."""


class ReachedBeforeStep(NamedTuple):
    """What happened in one such round of a kind."""

    own: int
    """The pass of the network that was reached."""
    other: int
    """The pass that added to its gradients, of the other network's loss."""
    step: int
    other_step: int
    tensors: tuple[int, ...]
    """The parameters with gradients of both passes, all that the step updates."""
    term: int
    """Of the other loss: the node of the term that leads to both, where the other network judges what this one made.

    NONE where it is this one that judges: then its parameters are used there on purpose.
    """
    times: int


class ReachedBeforeSteps:
    """Finds them in one recording."""

    def __init__(self, index: Index, passes: Passes, lives: GradientLives, by_step: PassesByStep) -> None:
        self._index = index
        self._passes = passes
        self._lives = lives
        self._by_step = by_step
        self._terms = ContraryTerms(index, passes)

    def found(self) -> Iterator[ReachedBeforeStep]:
        """One for each place of the two passes and of the step."""
        places: dict[tuple[int, ...], list[RoundOfTwo]] = {}
        for one in self._rounds():
            key = (*(self._index.op_statement[op] for op in one), *sorted(self._given(one.step)))
            places.setdefault(key, []).append(one)
        for rounds in places.values():
            times = self._index.times(one.step for one in rounds)
            shown = rounds[-2:][0]  # (under which names the last round's are held was not always seen)
            if times >= TIMES and (term := self._judged(shown)) is not None:
                yield ReachedBeforeStep(*shown, tuple(sorted(self._given(shown.step))), term, times)

    def _rounds(self) -> Iterator[RoundOfTwo]:
        """The pairs of steps without a pass between, each with the passes of which the first one applied both."""
        kinds = self._index.recording.ops.column("kind")
        for step, other_step, before in self._by_step.pairs():
            own, *later = self._applied(self._given(step), step)
            if own < 0 or kinds[own] != OpKind.BACKWARD or before > own:
                continue
            if (other := self._of_others(self._given(other_step), own, later, other_step)) >= 0:
                yield RoundOfTwo(own, other, step, other_step)

    def _given(self, step: int) -> frozenset[int]:
        """What a step wrote of which passes gave gradients."""
        return self._by_step.updated(step)

    def _applied(self, tensors: frozenset[int], step: int) -> list[int]:
        """The passes whose gradients a step applied, where these are the same for all; else [NONE]."""
        return self._lives.applied_to_all(tensors, step) or [NONE]

    def _of_others(self, others: frozenset[int], own: int, later: list[int], step: int) -> int:
        """The first later pass for others, whose gradients of the own pass were cleared before it; NONE for none.

        Who clears them says that the own pass is not for those, and that each of the two networks has a loss.
        """
        applied = self._applied(others, step)
        is_given = all(own in self._lives.passes[tensor] for tensor in others)
        if not is_given or applied[0] <= own:
            return NONE
        return next((op for op in applied if op in later), NONE)

    def _judged(self, one: RoundOfTwo) -> int | None:
        """The node of :attr:`ReachedBeforeStep.term`, or NONE; None where the networks are not against each other.

        They are where one judges what the other made, and in a loss of its own as well what the other did not make.
        """
        mine, others = self._given(one.step), self._given(one.other_step)
        order = PassOrder(self._index, self._passes, one.other)
        through_others, through_mine = (
            order.came_through(others, to=mine),
            order.came_through(mine, to=others),
        )
        if through_others == through_mine:
            return None
        judge, maker = (others, mine) if through_others else (mine, others)
        owns = self._applied(judge, one.other_step if through_others else one.step)
        owns = owns if through_others else [op for op in owns if op < one.other]
        alone = [term.leaves & judge for op in owns for term in self._terms.of_pass(op) if not term.leaves & maker]
        both = [term for term in self._terms.of_pass(one.other) if term.leaves & maker and term.leaves & judge]
        if not both or not any(leaves >= both[0].leaves & judge for leaves in alone):
            return None
        return both[0].top if through_others else NONE
