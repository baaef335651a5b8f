"""Gradients that the loss of what makes samples left in the network that judges them, and that its step applied.

``g_opt.zero_grad(); d_opt.zero_grad(); loss_g.backward(); loss_d.backward(); g_opt.step(); d_opt.step()``: backward of
the generator's loss gives the discriminator a gradient too, and its own loss wants the opposite.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.losses.contrary_terms import ContraryTerms, SignedTerm
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

TIMES = 2
"""Steps with gradients of both from which on it is reported."""


class LeftInJudge(NamedTuple):
    """One such round of a kind."""

    first: int
    """The pass that came first of the two."""
    second: int
    is_own_second: bool
    """The second pass is that of the judge's own loss."""
    step: int
    tensors: tuple[int, ...]
    """The judge's parameters, with gradients of both."""
    term: int
    """The node of the term of the own loss that leads to the maker of the samples as well; NONE where none does."""
    makers: tuple[int, ...]
    """What that term leads to."""
    times: int


class LeftInJudges:
    """Finds them in one recording."""

    def __init__(self, index: Index, passes: Passes, lives: GradientLives, by_step: PassesByStep) -> None:
        self._index = index
        self._lives = lives
        self._by_step = by_step
        self._terms = ContraryTerms(index, passes)

    def found(self) -> Iterator[LeftInJudge]:
        """One for each place of the two passes and of the step."""
        places: dict[tuple[int, ...], list[tuple[int, int, int, int]]] = {}
        for one in self._rounds():
            places.setdefault(tuple(self._index.op_statement[op] for op in one), []).append(one)
        for rounds in places.values():
            times = self._index.times(step for _, _, step, _ in rounds)
            shown = rounds[-2:][0]  # (under which names the last round's are held was not always seen)
            if times >= TIMES and (found := self._judged(*shown, times)) is not None:
                yield found

    def _rounds(self) -> Iterator[tuple[int, int, int, int]]:
        """For each two steps without a pass between: the pass of the maker, the judge's own, its step and the maker's.

        Both passes are among those that the judge's step applied, and the maker's was given gradients by the first.
        """
        steps, backwards = self._index.of_kind(OpKind.STEP), sorted(self._index.roots)
        kinds = self._index.recording.ops.column("kind")
        for step, other in pairwise(steps):
            if first_after(backwards, step) not in (NONE, first_after(backwards, other)):
                continue
            for judge, maker in ((step, other), (other, step)):
                mine, others = self._by_step.updated(judge), self._by_step.updated(maker)
                if not mine or not others or not mine.isdisjoint(others):
                    continue
                applied = self._lives.applied_to_all(mine, judge)
                is_by_backward = all(kinds[op] == OpKind.BACKWARD for op in applied)
                if len(applied) < 2 or not is_by_backward or last_before(steps, min(step, other)) > applied[0]:
                    continue
                for of_maker in self._lives.applied_to_all(others, maker):
                    yield from ((of_maker, own, judge, maker) for own in applied if own != of_maker in applied)

    def _judged(self, of_maker: int, own: int, step: int, other_step: int, times: int) -> LeftInJudge | None:
        """What there is to say of a round in which the two passes want opposite things of the judge; else None."""
        judge, maker = self._by_step.updated(step), self._by_step.updated(other_step)
        wanted = [term for term in self._terms.of_pass(of_maker) if term.leaves & judge and term.leaves & maker]
        owns = [term for term in self._terms.of_pass(own) if term.leaves & judge]
        against = next((one for one in owns for term in wanted if self._are_contrary(term, one, judge)), None)
        if against is None or not self._judges_others(against, of_maker, judge, maker, step):
            return None
        reached = tuple(sorted(against.leaves & maker)) if own > of_maker else ()
        first, second = sorted((of_maker, own))
        if own > of_maker and not reached:  # (where its first pass begins, what was left is to be gone)
            second = min(op for op in self._lives.applied_to_all(judge, step) if op > of_maker)
        term, tensors = (against.top if reached else NONE), tuple(sorted(judge))
        return LeftInJudge(first, second, own > of_maker, step, tensors, term, reached, times)

    def _are_contrary(self, one: SignedTerm, other: SignedTerm, judge: frozenset[int]) -> bool:
        return self._terms.want_contrary(one, other) and self._terms.are_of_one(one, other, judge)

    def _judges_others(
        self, against: SignedTerm, of_maker: int, judge: frozenset[int], maker: frozenset[int], step: int
    ) -> bool:
        """Whether the judge's own loss wants the opposite of it where it judges what the maker did not make."""
        samples, used = self._terms.samples(against, judge), against.leaves & judge
        for op in self._lives.applied_to_all(judge, step):
            for term in self._terms.of_pass(op) if op != of_maker else ():
                is_alone = not term.leaves & maker and term.leaves & judge >= used
                is_of_others = is_alone and samples.isdisjoint(self._terms.samples(term, judge))
                if is_of_others and self._terms.want_contrary(term, against):
                    return True
        return False
