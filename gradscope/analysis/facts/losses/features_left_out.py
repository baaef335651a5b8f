"""Values that were computed from an input beside indices, without a graph, and go into what is differentiated by it.

Which atoms are near is found under ``no_grad``, as it has no derivative; a cosine that is computed in the same block
has one, and forces lack it, though there are other ways to the positions. A value without a graph is often meant, too:
what parameters gave (a confidence), a rounded one, a straight-through estimate. They are left out, and so is a block
that gives no indices beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from gradscope.analysis.facts.losses.terms_left_out import LeftOutTerm, LeftOutTerms, inputs_asked
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER, RAISED
from gradscope.recording.rows import OpKind

_MOST = 16
"""Values of one derivative whose origins are walked."""
_STEPS = 16
"""Tensors without a graph that are followed back from one call."""


def features_left_out(
    index: Index,
    flow: Flow,
    cuts: Cuts,
    passes: Passes,
    lives: GradientLives,
    trained: Collection[int],
    taken_out: Callable[[int], int],
) -> Iterator[LeftOutTerm]:
    """For the last derivative of each line that asks: one for each block. The arguments are those of the terms."""
    terms = LeftOutTerms(index, flow, cuts, passes, taken_out)
    last: dict[int, int] = {}
    flags = index.recording.ops.column("flags")
    for op in index.of_kind(OpKind.GRAD, OpKind.BACKWARD):
        if not flags[op] & RAISED and len(index.roots.get(op, ())) == 1:
            last[index.op_statement[op]] = op
    finder = _FeaturesLeftOut(index, flow, cuts, passes, terms)
    for asked in last.values():
        for by in inputs_asked(index, lives, asked, trained):
            yield from finder.of(asked, by)


class _FeaturesLeftOut:
    def __init__(self, index: Index, flow: Flow, cuts: Cuts, passes: Passes, terms: LeftOutTerms) -> None:
        self._index = index
        self._flow = flow
        self._cuts = cuts
        self._passes = passes
        self._terms = terms

    def of(self, asked: int, by: int) -> Iterator[LeftOutTerm]:
        index, made_at = self._index, self._index.recording.tensors.column("op")
        (root,) = index.roots[asked]
        leading = self._terms.leading(self._passes.behind(index.recording.tensors.column("node")[root]), by)
        values, indices = self._of_blocks(asked, leading)
        told = set[int]()
        for value, at in values[:_MOST]:
            block = self._cuts.regions.of(made_at[value])
            if block in indices and block not in told:
                cut = self._cut(value, at, by, block)
                if cut >= 0 and not self._terms.is_added_by_itself(asked, by):
                    told.add(block)
                    yield LeftOutTerm(asked, by, root, value, at, cut)

    def _of_blocks(self, asked: int, leading: set[int]) -> tuple[list[tuple[int, int]], set[int]]:
        """What was made without a graph and went into nodes that lead to the leaf: values with the op, and the blocks
        that gave indices."""
        index, node_op = self._index, self._index.recording.nodes.column("op")
        values, indices = list[tuple[int, int]](), set[int]()
        for at in sorted({node_op[node] for node in leading if 0 <= node_op[node] < min(asked, index.op_count)}):
            for taken, block in self._of_a_block(at):
                if index.is_floating(taken):
                    values.append((taken, at))
                else:
                    indices.add(block)
        return values, indices

    def _of_a_block(self, at: int) -> Iterator[tuple[int, int]]:
        """What an op takes, or what this was computed from without a graph, that a block around neither made."""
        index, regions = self._index, self._cuts.regions
        made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
        todo, seen = [(taken, at) for taken in index.uses.of(at)], set[int]()
        while todo and len(seen) < _STEPS:
            taken, used = todo.pop()
            made = made_at[taken]
            if taken in seen or made >= used or flags[taken] & (PARAMETER | EXTERNAL) or index.requires_grad(taken, at):
                continue
            seen.add(taken)
            block = regions.of(made)
            if block < 0:
                todo += [(one, made) for one in index.uses.of(made)]
            elif regions.of(at) != block:
                yield taken, block

    def _cut(self, value: int, at: int, by: int, block: int) -> int:
        """Where a value lost its way to the leaf, in the block; NONE where it is no function of that alone, or flat."""
        flags, regions = self._index.recording.tensors.column("flags"), self._cuts.regions
        steps = self._flow.origins(value, at)
        if by not in steps or self._terms.is_like(value, by) or any(flags[one] & PARAMETER for one in steps):
            return NONE
        way = self._flow.path(steps, by)
        lost = [step.op for step in way if step.loses]
        region = regions.describe(lost[0]) if len(lost) == 1 and regions.of(lost[0]) == block else None
        is_written = region is not None and region.is_written and self._cuts.kind(lost[0]) == "no_grad"
        return lost[0] if is_written and self._terms.has_derivative(way, set()) else NONE
