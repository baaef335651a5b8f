"""Terms of a loss whose gradients reach none of what the next step updates, and are cleared before a step applies them.

A generator's loss, in which the discriminator judges what the generator made, cut off: the term trains neither. It may
still reach what both are given, the encoder of a condition, by a way around the generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.graphs.loss_terms import terms_without_gradient
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep
from gradscope.analysis.facts.reaching.common_cuts import cuts_of_all
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_WRITTEN = ("detach", "data", "no_grad", "inference_mode")
_AT_ONE_TENSOR = ("detach", "data")
"""Cuts of one tensor, which leave the ways around it as they are."""


class TermForOthers(NamedTuple):
    """One such term."""

    term: int
    cuts: list[int]
    """The ops at which the term was cut off what that step updates."""
    trained: list[int]
    """What it updates, of that the term was computed from."""
    others: list[int]
    """The leaves that the term gives gradients."""
    cleared: int
    """The op that cleared them."""


class TermsForOthers:
    """Finds them in one recording."""

    def __init__(
        self, index: Index, passes: Passes, by_step: PassesByStep, lives: GradientLives, flow: Flow, cuts: Cuts
    ) -> None:
        self._index = index
        self._by_step = by_step
        self._passes = passes
        self._lives = lives
        self._flow = flow
        self._cuts = cuts

    def of_pass(self, op: int, roots: list[int]) -> Iterator[TermForOthers]:
        """The terms of one pass, where the step of an optimizer follows it before the next pass."""
        index, nodes = self._index, self._index.recording.tensors.column("node")
        updated = self._by_step.updated(self._by_step.step_after(op))
        for root in roots if updated else ():
            terms = terms_without_gradient(index, root, op).tracked
            behind = {term: self._passes.leaves_behind(nodes[term]) for term in terms}
            if not any(leaves & updated for leaves in behind.values()):
                continue
            for term, leaves in behind.items():
                reached, others = leaves & updated, leaves - updated
                cleared = self._cleared_unused(others, op)
                if not others or cleared < 0:
                    continue
                ways = self._ways(term, op, updated - reached)
                if ways is None or (reached and not self._is_around(reached, ways[0])):
                    continue
                if any(not one.isdisjoint(ways[1]) for one in behind.values()) or not reached:
                    yield TermForOthers(term, *ways, sorted(others), cleared)

    def _cleared_unused(self, leaves: frozenset[int] | set[int], op: int) -> int:
        """The last op that cleared the gradients of leaves after a pass, before any step used them; NONE: not all."""
        last = NONE
        for leaf in leaves:
            cleared = first_after(self._lives.cleared.get(leaf, []), op)
            used = first_after(self._lives.steps.get(leaf, []), op)
            if cleared < 0 or not self._lives.steps.get(leaf) or 0 <= used < cleared:
                return NONE
            last = max(last, cleared)
        return last

    def _is_around(self, reached: frozenset[int] | set[int], cuts: list[int]) -> bool:
        """Whether all updated leaves that a term reaches come before each of the cuts as well.

        Where one comes after a cut only, it is what the term is to train: an actor on features that it is not to move.
        """
        for cut in cuts:
            taken = list(self._index.uses.of(cut))
            if self._cuts.kind(cut) not in _AT_ONE_TENSOR or len(taken) != 1:
                return False
            if not reached <= self._flow.origins(taken[0], cut).keys():
                return False
        return True

    def _ways(self, term: int, op: int, updated: frozenset[int]) -> tuple[list[int], list[int]] | None:
        """The cuts, all of them written as such, between a term and what is updated; and the leaves behind them."""
        steps = self._flow.origins(term, op)
        leaves = [leaf for leaf in sorted(updated) if leaf in steps]
        cuts: dict[int, None] = {}
        for leaf in leaves:
            cut = next((step.op for step in self._flow.path(steps, leaf) if step.loses), NONE)
            if cut < 0 or self._cuts.kind(cut) not in _WRITTEN:
                return None
            cuts[cut] = None
        return (cuts_of_all(self._index, self._flow, cuts, leaves), leaves) if leaves else None
