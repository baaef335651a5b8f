"""Terms of a sum that lost their way to an input by which the sum is differentiated: forces of a part of an energy.

Forces are asked of the whole energy, by ``autograd.grad(energy, positions)`` or a pass that fills ``positions.grad``. A
term that was computed from the positions under ``no_grad`` is a constant to that derivative, whatever parameters it has
a gradient by. Sums have such terms on purpose, too: one of a straight-through estimate, one that is taken off what it
was added to (the largest of a ``logsumexp``), a baseline, one whose derivative is added by itself. They are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.graphs.lost_terms import LostTerms
from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, plain_name
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER, RAISED
from gradscope.recording.rows import OpKind

_WRITES = frozenset(("add", "sub", "index_add", "scatter_add"))
_TAKES_ALL = frozenset(("add", "index_add", "scatter_add", "stack", "cat"))
_TAKES_FIRST = frozenset(("sub",))
_OF_ONE = AS_IT_IS | {"sub", "mul", "div", "truediv", "sum", "mean", "neg"}

_WITHOUT_WAY = frozenset(
    """
    sample normal bernoulli poisson multinomial argmax argmin round sign sgn floor ceil trunc heaviside
    eq ne lt le gt ge bucketize searchsorted one_hot
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Calls that have no gradient, with a graph or without."""

_ARRAYS = frozenset(("numpy", "__array__", "tolist"))
"""Calls that give arrays of values, which others compute with."""

_REGIONS = ("no_grad", "inference_mode")
_WRITTEN = ("detach", "data")

_LONGEST = 200
"""Terms of one sum that are looked at."""
_FOLLOWED = 40
"""Calls after a derivative that are followed."""
RUNS = 2
"""Derivatives of one line from which on it is told: a single one may be there to show what a cut does."""


class LeftOutTerm(NamedTuple):
    """A term that a derivative leaves out."""

    asked: int
    """The op that computed the derivative."""
    by: int
    """The leaf."""
    root: int
    term: int
    at: int
    """The op that added it."""
    cut: int
    """The op at which the way to the leaf was lost; one that takes values out of torch where they left it."""


def terms_left_out(
    index: Index,
    flow: Flow,
    cuts: Cuts,
    passes: Passes,
    lives: GradientLives,
    trained: Collection[int],
    taken_out: Callable[[int], int],
) -> Iterator[LeftOutTerm]:
    """The last for each line that asks, and each line that cuts; leaves that optimizers hold are looked at elsewhere.

    Args:
        index: The recording.
        flow: Where values came from.
        cuts: What cut them off.
        passes: The graph.
        lives: What became of gradients.
        trained: Leaves that optimizers hold.
        taken_out: For an op that adds a number: the call that took this out of a tensor, or NONE.
    """
    finder = LeftOutTerms(index, flow, cuts, passes, taken_out)
    by_line: dict[int, list[int]] = {}
    flags = index.recording.ops.column("flags")
    for op in index.of_kind(OpKind.GRAD, OpKind.BACKWARD):
        if not flags[op] & RAISED and len(index.roots.get(op, ())) == 1:
            by_line.setdefault(index.op_statement[op], []).append(op)
    for ops in by_line.values():
        asked = ops[-1]
        for by in inputs_asked(index, lives, asked, trained) if len(ops) >= RUNS else ():
            yield from finder.of(asked, by)


def inputs_asked(index: Index, lives: GradientLives, asked: int, trained: Collection[int]) -> list[int]:
    """The leaves by which a pass gave a derivative that was used, without parameters."""
    if index.recording.ops.column("kind")[asked] == OpKind.GRAD:
        found = set(index.uses.of(asked)).difference(index.roots[asked])
    else:
        used = (one for one in lives.given.get(asked, ()) if any(op > asked for op in index.users.of(one)))
        found = {lives.owners[one] for one in used}
    flags = index.recording.tensors.column("flags")
    return sorted(
        one
        for one in found
        if not flags[one] & PARAMETER and one not in trained and index.is_leaf_with_grad(one, asked)
    )


class LeftOutTerms:
    """Looks at one derivative."""

    def __init__(self, index: Index, flow: Flow, cuts: Cuts, passes: Passes, taken_out: Callable[[int], int]) -> None:
        self._index = index
        self._flow = flow
        self._cuts = cuts
        self._passes = passes
        self._taken_out = taken_out
        self._lost = LostTerms(index, flow, cuts)
        self._nodes = index.recording.tensors.column("node")

    def of(self, asked: int, by: int) -> Iterator[LeftOutTerm]:
        (root,) = self._index.roots[asked]
        behind = self._passes.behind(self._nodes[root])
        leading = self.leading(behind, by)
        if not leading:
            return
        flags, variables = self._index.recording.tensors.column("flags"), self._index.recording.nodes.column("variable")
        is_model = any(variables[node] >= 0 and flags[variables[node]] & PARAMETER for node in behind)
        lines = set[int]()
        terms, summed = self._terms(root, asked, leading, by)
        for term, at in terms:
            cut = self._cut(term, at, root, asked, by, summed, is_model=is_model)
            line = self._index.op_statement[self._cuts.line_to_change(cut)] if cut >= 0 else NONE
            if cut < 0 or line in lines:
                continue
            if self.is_added_by_itself(asked, by):
                return
            lines.add(line)
            yield LeftOutTerm(asked, by, root, term, at, cut)

    def _cut(self, term: int, at: int, root: int, asked: int, by: int, summed: set[int], *, is_model: bool) -> int:
        """Where a term lost its way to a leaf; NONE where it did not come from that, or is meant to be a constant."""
        if term < 0:
            export = self._taken_out(at)
            return export if export >= 0 and self._left_from(export, by, summed) else NONE
        steps = self._flow.origins(term, at)
        if by not in steps:
            left = None if self.is_like(term, by) else self._lost.rebuilt_by_text(steps)
            return left.cut if left is not None and self._left_from(left.cut, by, summed) else NONE
        way = self._flow.path(steps, by)
        lost = [step for step in way if step.loses]
        if not lost or self.is_like(term, by):
            return NONE
        cut, after = lost[0].op, way[way.index(lost[0]) :]
        kind = self._cuts.kind(cut)
        if kind not in _REGIONS and (kind not in _WRITTEN or not is_model):
            return NONE
        is_meant = not self.has_derivative(way, summed) or self._goes_elsewhere(after, term, at, root, asked)
        return NONE if is_meant else cut

    def _left_from(self, export: int, by: int, summed: set[int]) -> bool:
        """Whether values that left torch were computed from a leaf, by calls that have a derivative."""
        given = self._index.uses.of(export)[0]
        steps = self._flow.origins(given, export)
        if by not in steps or not self._index.is_floating(given) or given in summed:
            return False
        way = self._flow.path(steps, by)
        return self.has_derivative(way, summed) or self._index.call_name(export).rpartition(".")[2] in _ARRAYS

    def leading(self, behind: list[int], by: int) -> set[int]:
        """The nodes of a graph from which a way leads to a leaf."""
        starts, following = self._passes.edge_starts, self._index.edges.values
        variables = self._index.recording.nodes.column("variable")
        before: dict[int, list[int]] = {}
        for node in behind:
            for after in following[starts[node] : starts[node + 1]]:
                before.setdefault(after, []).append(node)
        stack = [node for node in behind if variables[node] == by]
        found = set(stack)
        while stack:
            new = [node for node in before.get(stack.pop(), ()) if node not in found]
            found.update(new)
            stack += new
        return found

    def _terms(self, root: int, before: int, leading: set[int], by: int) -> tuple[list[tuple[int, int]], set[int]]:
        """The largest terms of a sum from which no way leads to a leaf, with the ops that added them, and the others.

        Args:
            root: The sum.
            before: The pass.
            leading: The nodes from which one does.
            by: The leaf.

        Returns:
            As a term NONE for a plain number; the others are partial sums, too.
        """
        index, made_at = self._index, self._index.recording.tensors.column("op")
        stack, seen, found = [root], {root}, list[tuple[int, int]]()
        while stack and len(seen) < _LONGEST:
            tensor = stack.pop()
            written = (op for op in index.users.of(tensor) if op < before and called(index, op) in _WRITES)
            for op in {made_at[tensor], *(op for op in written if index.func(op).endswith("_"))}:
                name, taken = called(index, op), list(index.uses.of(op)) if op < index.op_count else []
                is_sum = name in _TAKES_ALL or (name in _TAKES_FIRST and len(taken) > 1)
                if not is_sum and (name not in _OF_ONE or not self._is_scaled(taken, op, leading, by)):
                    continue
                if is_sum and len(taken) == 1 and name == "add":
                    found.append((NONE, op))
                for place, one in enumerate(taken):
                    is_led = one == tensor or self._nodes[one] in leading
                    if is_led and one not in seen:
                        seen.add(one)
                        stack.append(one)
                    elif not is_led and is_sum and (name in _TAKES_ALL or not place):
                        found.append((one, op))
        return found, seen - {by}

    def _is_scaled(self, taken: list[int], op: int, leading: set[int], by: int) -> bool:
        """Whether one of the factors alone comes from a leaf."""
        others = [one for one in taken if self._nodes[one] not in leading]
        return len(taken) - len(others) == 1 and all(by not in self._flow.origins(one, op) for one in others)

    def is_like(self, term: int, by: int) -> bool:
        """Whether a term has the shape of the leaf itself: one of a straight-through estimate has."""
        recording = self._index.recording
        shapes = [
            recording.text(recording.layouts[recording.tensors.column("layout")[one]].shape) for one in (term, by)
        ]
        return shapes[0] == shapes[1]

    def has_derivative(self, way: list[Step], summed: set[int]) -> bool:
        """Whether calls with a derivative lead from a leaf to a term, without what it was added to.

        The least of some energies that is added to all of them is an offset, and no energy.
        """
        if any(step.gives in summed for step in way[:-1]):
            return False
        names = [plain_name(self._index.func(step.op)) for step in way]
        is_computed = any(name not in AS_IT_IS | {"detach", "data"} for name in names)
        return is_computed and not any(
            name in _WITHOUT_WAY or not self._index.is_floating(step.gives)
            for name, step in zip(names, way, strict=True)
        )

    def _goes_elsewhere(self, after: list[Step], term: int, at: int, root: int, before: int) -> bool:
        """Whether what was computed behind the cut has a part in the sum beside the term."""
        index = self._index
        own = set(self._passes.behind(self._nodes[term]))
        others = set(self._passes.behind(self._nodes[root])) - own
        return any(
            self._nodes[made] in others
            for step in after
            for op in index.users.of(step.gives)
            if op < before and (step.gives, op) != (term, at)
            for made in index.tensors_made(op)
            if self._nodes[made] >= 0
        )

    def is_added_by_itself(self, asked: int, by: int) -> bool:
        """Whether something else that was computed from the leaf is added to the derivative: that of the term."""
        index, storage = self._index, self._index.storage_at(by, asked)
        todo, seen = self._derivatives(asked, by), set[int]()
        while todo:
            tensor = todo.pop()
            for op in index.users.of(tensor):
                if op <= asked or op in seen or len(seen) > _FOLLOWED:
                    continue
                seen.add(op)
                name, others = called(index, op), [one for one in index.uses.of(op) if one != tensor]
                if name in ("add", "sub") and others:
                    is_moved = storage >= 0 and index.storage_at(others[0], op) == storage
                    if not is_moved and self._comes_from(others[0], op, by):
                        return True
                elif name in _OF_ONE and not others:
                    todo += index.tensors_made(op)
        return False

    def _comes_from(self, tensor: int, at: int, by: int) -> bool:
        steps = self._flow.origins(tensor, at)
        left = None if by in steps else self._lost.rebuilt_by_text(steps)
        return by in steps or (left is not None and self._left_from(left.cut, by, set()))

    def _derivatives(self, asked: int, by: int) -> list[int]:
        made = list(self._index.tensors_made(asked))
        columns = (self._index.recording.gradients.column(name) for name in ("op", "tensor", "grad"))
        made += [grad for op, of, grad in zip(*columns, strict=True) if (op, of) == (asked, by) and grad >= 0]
        return made
