"""Terms of a loss that were computed from leaves and lost the way back to them, by what nobody wrote for that."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.graphs.loss_terms import is_number
from gradscope.analysis.facts.reaching.built_by_text import BuiltByText
from gradscope.analysis.facts.reaching.common_cuts import cuts_of_all
from gradscope.analysis.facts.reaching.left_values import is_built_from_values
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import NamedLine
from gradscope.recording import NONE
from gradscope.recording.flags import NO_STORAGE
from gradscope.recording.rows import OpKind

_MEANT = ("detach", "data", "no_grad", "inference_mode", "requires_grad_false")
"""Kinds of cuts that somebody wrote to have no gradient."""

_NEAR = 64
"""Ops between a call that takes values out of torch and the one that builds a tensor of them, in one function."""

_BENDS = frozenset(
    """
    pow abs square relu log exp sqrt norm clamp mse_loss l1_loss smooth_l1_loss huber_loss kl_div softplus sigmoid tanh
    cross_entropy nll_loss binary_cross_entropy vector_norm __pow__ maximum minimum max min
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions that make a term of values: what is only added and averaged may be a baseline."""

_OF_PROBABILITIES = frozenset(("log_softmax", "nll_loss", "cross_entropy"))
"""What makes a likelihood: to subtract one is to raise it, where another value may be subtracted as a correction."""


_MAKES = "__init__"
"""What makes an object of several tensors: a distribution's scale does not come from its mean."""

_REGIONS = ("no_grad",)
_WRITTEN = ("detach", "data", *_REGIONS)
"""Kinds of cuts by which a penalty comes to be one of values alone."""


class CutPenalty(NamedTuple):
    """A term that was computed, all of it, from what somebody cut off trained leaves by the way."""

    cuts: list[int]
    """The ops, one for each statement; that which all leaves lead to, alone, where there is one."""
    leaves: list[int]
    ways: list[list[Step]]
    """From each of the leaves to the term."""


class LostTerm(NamedTuple):
    """Where a term lost its gradient."""

    cut: int
    """The op."""
    built: NamedLine | None
    """The line that built a tensor of values that had left torch by the cut; None where they did not."""


class LostTerms:
    """Looks at what terms were computed from."""

    def __init__(self, index: Index, flow: Flow, cuts: Cuts) -> None:
        self._index = index
        self._flow = flow
        self._cuts = cuts
        self._known: dict[tuple[int, int], dict[int, Step]] = {}
        self._built = BuiltByText(index)

    def is_meant(self, tensor: int, at: int) -> bool:
        """Whether a term was cut off by a call that is there for nothing else: a correction, a target."""
        steps = self._steps(tensor, at)
        return any(step.loses and self._cuts.kind(step.op) in _MEANT for step in steps.values())

    def of(self, tensor: int, at: int) -> LostTerm | None:
        """Where a term without a gradient lost it on all ways to leaves; None where it came from none, or is meant so.

        Args:
            tensor: The term.
            at: The op that added it.
        """
        steps = self._steps(tensor, at)
        lost = {step.op for step in steps.values() if step.loses}
        if any(self._cuts.kind(op) in _MEANT for op in lost):
            return None
        cut = self._one_cut(steps, at) if lost else NONE
        if self._index.func(cut).endswith(_MAKES):
            return None
        return LostTerm(cut, None) if cut >= 0 else self._rebuilt(tensor, steps)

    def rebuilt_by_text(self, steps: dict[int, Step]) -> LostTerm | None:
        """That a term was built of values that left torch, and of which the text says that they are the same.

        Args:
            steps: Its origins.
        """
        for taken in steps:
            known = self._built.of(taken) if self._index.is_floating(taken) else None
            for export in self._built.exports(known) if known is not None else ():
                if known is not None and self._cut_before(export) is not None:
                    return LostTerm(export, known.line)
        return None

    def penalty(
        self, tensor: int, at: int, before: int, trained: Collection[int], *, is_added: bool
    ) -> CutPenalty | None:
        """That a term bends values of trained leaves, all of them cut off where they went in, for nothing else.

        A number that is detached as a whole is meant to be a constant; so is what a computation with a graph takes too:
        a target, a weight.

        Args:
            tensor: The term.
            at: The op that added it.
            before: The backward pass.
            trained: Leaves that optimizers hold.
            is_added: And not subtracted.
        """
        index, steps = self._index, self._steps(tensor, at)
        leaves = [one for one in steps if one in trained and index.is_leaf_with_grad(one, at)]
        names = {index.call_name(step.op).rpartition(".")[2] for step in steps.values() if step.op >= 0}
        if not leaves or not (_BENDS if is_added else _OF_PROBABILITIES) & names:
            return None
        cuts: dict[int, int] = {}
        ways: list[list[Step]] = []
        for leaf in leaves:
            way = self._flow.path(steps, leaf)
            ways.append(way)
            first = next((place for place, step in enumerate(way) if step.loses), None)
            kinds = _WRITTEN if is_added else _REGIONS
            if first is None or self._cuts.kind(way[first].op) not in kinds:
                return None
            values = [step.gives for step in way[first:] if not is_number(index, step.gives)]
            if not values or any(self._goes_into_graph(one, before) for one in values):
                return None
            cuts[index.op_statement[way[first].op]] = way[first].op
        return CutPenalty(cuts_of_all(index, self._flow, cuts.values(), leaves), leaves, ways)

    def frozen(self, tensor: int, at: int, trained: Collection[int]) -> list[int]:
        """Leaves among what a term was computed from that optimizers hold, and that required no grad by then."""
        index = self._index
        return [one for one in self._steps(tensor, at) if one in trained and not index.requires_grad(one, at)]

    def _goes_into_graph(self, tensor: int, before: int) -> bool:
        """Whether a call that gave a tracked result took a tensor in, or somebody wrote it elsewhere.

        (Inside a transform of torch.func its own derivatives are tracked: no graph of the program's.)
        """
        index, flags = self._index, self._index.recording.tensors.column("flags")
        return any(
            index.requires_grad(made, op + 1)
            for op in index.users.of(tensor)
            if op < before
            for made in index.tensors_made(op)
            if not flags[made] & NO_STORAGE
        )

    def _steps(self, tensor: int, at: int) -> dict[int, Step]:
        known = self._known.get((tensor, at))
        if known is None:
            known = self._known[tensor, at] = self._flow.origins(tensor, at)
        return known

    def _one_cut(self, steps: dict[int, Step], at: int) -> int:
        """The cut that lies on the ways to leaves, where each has one alone; the last of several; or NONE."""
        leaves = [one for one in steps if self._index.is_leaf_with_grad(one, at)]
        lost = [[step.op for step in self._flow.path(steps, leaf) if step.loses] for leaf in leaves]
        return max((ops[0] for ops in lost if len(ops) == 1), default=NONE)

    def _rebuilt(self, tensor: int, steps: dict[int, Step]) -> LostTerm | None:
        """That a tensor was built, in one function, of values that tracked tensors gave there right before."""
        index, made_at = self._index, self._index.recording.tensors.column("op")
        names = {index.call_name(step.op).rpartition(".")[2] for step in steps.values() if step.op >= 0}
        names.add(index.call_name(made_at[tensor]).rpartition(".")[2])
        bends = bool(_BENDS & names)
        for taken in steps:
            if not is_built_from_values(index, taken):
                continue
            built = made_at[taken]
            export = self._export_before(built)
            if export < 0 or not (bends or index.op_statement[export] == index.op_statement[built]):
                continue
            if self._cut_before(export) is not None:
                return LostTerm(export, index.op_line(built))
        for taken in steps:
            known = self._built.of(taken)
            for export in self._built.exports(known) if known is not None else ():
                is_lost = self._cut_before(export) is not None if bends else self.is_lost_at(export)
                if known is not None and is_lost:
                    return LostTerm(export, known.line)
        return None

    def is_lost_at(self, export: int) -> bool:
        """Whether what left torch at a call came from leaves, and nobody cut it off on purpose before.

        ``loss.detach().item()`` is how many write ``loss.item()``.
        """
        index, cut = self._index, self._cut_before(export)
        if cut is None or self._cuts.kind(cut) not in _MEANT:
            return cut is not None
        is_habit = self._cuts.kind(cut) == "detach" and index.op_statement[cut] == index.op_statement[export]
        return is_habit and all(is_number(index, one) for one in index.uses.of(cut))

    def _cut_before(self, export: int) -> int | None:
        """The call that cut what left torch at another off leaves: that one itself of what was tracked; or None."""
        index, given = self._index, self._index.uses.of(export)[0]
        if index.requires_grad(given, export):
            return export
        cut = self._one_cut(self._flow.origins(given, export), export)
        return cut if cut >= 0 else None

    def _export_before(self, built: int) -> int:
        """The last call before another one that took values out of torch, in the same function and near; or NONE."""
        index = self._index
        position = bisect_left(self._exports, built)
        export = self._exports[position - 1] if position else NONE
        if export < 0 or built - export > _NEAR or not len(index.uses.of(export)):
            return NONE
        first, second = (index.statements[index.op_statement[op]] for op in (export, built))
        return export if (first.file, first.function) == (second.file, second.function) and first.file >= 0 else NONE

    @cached_property
    def _exports(self) -> list[int]:
        return self._index.of_kind(OpKind.EXPORT)
