"""Networks that are teachers or targets and that an optimizer trains, only as the target of another network's loss."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, called, maker, plain_name, tracked_uses
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.names.held_names import HeldNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE

EITHER_SIDE = frozenset(
    """
    mse_loss smooth_l1_loss huber_loss l1_loss cosine_similarity cosine_embedding_loss pairwise_distance dist sub
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
SECOND_IS_TARGET = frozenset(("kl_div", "cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits"))
PRODUCT = "mul"
"""Of probabilities with the logarithms of others: a cross entropy that is written out."""
_MEASURES = frozenset(("pow", "square", "abs", "norm", "vector_norm", "mul", "sum", "mean"))
"""What a difference goes into where it is a distance."""

_SAYS_SO = re.compile(
    r"(^|[._])(teachers?|targets?|ema|averaged?|momentum|frozen|references?|ref|old)(_?(net|network|model|encoder|"
    r"policy|critic|actor|branch|projector|module))?[._\d]",
    re.IGNORECASE,
)
"""Parts of names that people give to networks which are to stay as they are, or to follow another."""
_TEACHER = re.compile(r"(^|[._])teachers?(_?(net|network|model|encoder))?[._]", re.IGNORECASE)
"""What is so called anywhere in a program is one, under whatever name the training has it."""

_SOURCE = re.compile(r"(^|[._])(source|src)[._]", re.IGNORECASE)


class TrainedTeacher(NamedTuple):
    """The losses of one pass whose targets come from such a network."""

    loss: int
    """The last of them."""
    target: int
    """The tensor that is its target."""
    leaves: list[int]
    """The network's parameters, which the targets alone lead to."""
    uses: int
    """The last call that took one of them before the loss."""
    span: int
    """Where the program calls the network for them; NONE where that was not seen."""
    is_called_so: bool
    """Its name says what it is. Else it was put into evaluation mode, and the other one into training mode."""
    cut: int = NONE
    """The op that cut what the loss compares it with off what that was computed from; NONE: none did."""


class _Distance(NamedTuple):
    """A loss between what two networks gave, and which of the two is the target."""

    loss: int
    target: int
    estimate: int
    leaves: frozenset[int]
    is_called_so: bool


class TrainedTeachers:
    """Finds them in one recording."""

    def __init__(self, index: Index, passes: Passes, events: Events, names: BestNames) -> None:
        self._index = index
        self._passes = passes
        self._events = events
        self._names = names
        self._variables = index.recording.nodes.column("variable")
        self._nodes = index.recording.tensors.column("node")

    def found(self) -> Iterator[TrainedTeacher]:
        """Those of the last pass that came through each loss in the source."""
        for op, losses in sorted(self.last_losses().items()):
            distances = [one for loss in losses for one in self._distances(loss, op)]
            others = self._beside(op, distances) if distances else set[int]()
            mine = [one for one in distances if one.leaves.isdisjoint(others)]
            own = self._beside(op, distances, with_estimates=False) if mine else set[int]()
            kept = [one for one in mine if self._has_other_to_learn(one, others, own)]
            while kept:
                leaves = set(kept[0].leaves)
                while not leaves.issuperset(more := leaves.union(*(one.leaves for one in kept if one.leaves & leaves))):
                    leaves = more
                last = next(one for one in reversed(kept) if one.leaves & leaves)
                kept = [one for one in kept if one.leaves.isdisjoint(leaves)]
                uses = max((at for one in leaves for at in self._index.users.of(one) if at < last.loss), default=NONE)
                where = self._called_at(leaves, others, op)
                shown = sorted(leaves)
                yield TrainedTeacher(last.loss, last.target, shown, uses, where, last.is_called_so)

    def reversed(self, flow: Flow) -> Iterator[TrainedTeacher]:
        """Those whose losses train nothing else: what is to learn was cut off, and the target was not.

        Only where it is called a teacher: two networks that learn from each other each cut the other one off, and one
        for a target domain learns from that for the source.
        """
        for op, losses in sorted(self.last_losses(tracked=1).items()):
            distances = [one for loss in losses for one in self._from_cut(loss, op)]
            others = self._beside(op, distances) if distances else set[int]()
            for one in distances:
                cut = self._cut_off(one, others, flow) if one.leaves.isdisjoint(others) else NONE
                if cut >= 0:
                    yield TrainedTeacher(one.loss, one.target, sorted(one.leaves), one.loss, NONE, True, cut)

    def _from_cut(self, loss: int, op: int) -> Iterator[_Distance]:
        """A loss whose one side has a gradient, and comes from a teacher that an optimizer steps."""
        name, taken = plain_name(self._index.func(loss)), list(self._index.uses.of(loss))
        (target,) = tracked_uses(self._index, loss)
        is_side = name in EITHER_SIDE - {"sub"} or (name in SECOND_IS_TARGET and taken[1:2] == [target])
        leaves = frozenset(self._passes.leaves_behind(self._nodes[target]))
        is_trained = bool(leaves) and all(leaf in self._events.in_optimizers for leaf in leaves)
        if len(taken) == 2 and is_side and is_trained and all(self.is_called_teacher(leaf, op) for leaf in leaves):
            (estimate,) = [one for one in taken if one != target] or [target]
            yield _Distance(loss, target, estimate, leaves, True)

    def _cut_off(self, one: _Distance, others: Collection[int], flow: Flow) -> int:
        """The one cut between an estimate and the leaves that other parts of the loss train; NONE for none."""
        steps = flow.origins(one.estimate, one.loss)
        learns = [leaf for leaf in steps if leaf in others and leaf in self._events.in_optimizers]
        if any(self._is_of_its_kind(leaf, one.loss) for leaf in learns):
            return NONE
        cuts = {next((step.op for step in flow.path(steps, leaf) if step.loses), NONE) for leaf in learns}
        return cuts.pop() if len(cuts) == 1 else NONE

    def last_losses(self, tracked: int = 2) -> dict[int, list[int]]:
        """By pass the calls with a gradient, of what may be such a loss, that no later pass came through again.

        Args:
            tracked: How many tensors with a gradient the calls take.
        """
        index, walked = self._index, self._passes.first_walked_at
        wanted = EITHER_SIDE | SECOND_IS_TARGET | {PRODUCT}
        spans, last, ops = index.recording.ops.column("span"), dict[int, int](), dict[int, list[int]]()
        for op in index.calls_of(lambda name: plain_name(name) in wanted):
            made = index.tensors_made(op)
            by = walked[self._nodes[made[0]]] if made and self._nodes[made[0]] >= 0 else NONE
            if by >= 0 and len(tracked_uses(index, op)) == tracked:
                last[spans[op]] = by
                ops.setdefault(by, []).append(op)
        kept = {by: [op for op in some if last[spans[op]] == by] for by, some in ops.items()}
        return {by: some for by, some in kept.items() if some}

    def _distances(self, loss: int, op: int) -> Iterator[_Distance]:
        """A loss with each of its sides as the target that comes from parameters of a teacher only."""
        name, (first, second) = plain_name(self._index.func(loss)), tracked_uses(self._index, loss)
        if name == PRODUCT:
            sides = [pair for pair in ((first, second), (second, first)) if self._is_cross_entropy(*pair)]
        elif name == "sub" and not self.is_measured(loss):
            return
        else:
            sides = [(first, second), (second, first)] if name in EITHER_SIDE else [(first, second)]
        for estimate, target in sides:
            leaves = frozenset(self._passes.leaves_behind(self._nodes[target]))
            learns = self._passes.leaves_behind(self._nodes[estimate])
            if not leaves or not learns or not all(leaf in self._events.in_optimizers for leaf in leaves):
                continue
            is_called_so = all(self._is_called_so(leaf, op) for leaf in leaves)
            if is_called_so and any(self._is_of_its_kind(leaf, op) for leaf in learns):
                continue
            if is_called_so or self._is_meant_by_modes(leaves, learns, op):
                yield _Distance(loss, target, estimate, leaves, is_called_so)

    def _is_cross_entropy(self, estimate: int, target: int) -> bool:
        """Whether an estimate's logarithms are multiplied by a target's probabilities."""
        shown = AS_IT_IS | {"neg"}
        makers = (maker(self._index, below(self._index, one, shown)) for one in (estimate, target))
        names = [called(self._index, op) if op >= 0 else "" for op in makers]
        return names == ["log_softmax", "softmax"]

    def is_measured(self, loss: int) -> bool:
        """Whether a difference is the way to a distance: it may be a residual, or an advantage."""
        users = [op for made in self._index.tensors_made(loss) for op in self._index.users.of(made)]
        return any(called(self._index, op) in _MEASURES for op in users)

    def _is_called_so(self, leaf: int, op: int) -> bool:
        """Whether what holds a parameter in the training is called a teacher or a target, or a teacher anywhere."""
        return _SAYS_SO.search(self._names.at(leaf, op)) is not None or self.is_called_teacher(leaf, op)

    def is_called_teacher(self, leaf: int, op: int) -> bool:
        """Whether what holds a parameter in the training, or anywhere in the program, is called a teacher."""
        if _TEACHER.search(self._names.at(leaf, op)):
            return True
        strings = self._index.recording.strings
        names = {one.name for one in self._held.of_tensor.get(leaf, ())}
        return any(_TEACHER.search(strings[name]) and not self._held.is_of_loop(name) for name in names)

    def _is_of_its_kind(self, leaf: int, op: int) -> bool:
        """Whether what learns is called the same, or the source, of which a target is the other domain."""
        name = self._names.at(leaf, op)
        return _SAYS_SO.search(name) is not None or _SOURCE.search(name) is not None

    @cached_property
    def _held(self) -> HeldNames:
        return HeldNames(self._index)

    @cached_property
    def _modes(self) -> TrainingModes:
        return TrainingModes(self._events)

    def _is_meant_by_modes(self, leaves: frozenset[int], learns: set[int], op: int) -> bool:
        """Whether the program trained others only in evaluation mode, and these in training mode, by calls of both.

        Not where the optimizer has them in groups of their own: who writes that wants them to be trained.
        """
        mode, other = (self._modes.last_before(op, frozenset(one)) for one in (leaves, learns))
        if mode is None or other is None or mode.training or mode.by_library or not other.training:
            return False
        first = min(self._first_passes.get(leaf, op) for leaf in leaves)
        before = self._modes.last_before(first, leaves)
        groups = [event for leaf in leaves for event in self._events.in_optimizers[leaf]]
        is_beside = any(not learns.isdisjoint(event.tensors) for event in groups)
        return is_beside and before is not None and not before.training

    @cached_property
    def _first_passes(self) -> dict[int, int]:
        """The first pass that led to each leaf."""
        found: dict[int, int] = {}
        for node, by in enumerate(self._passes.first_walked_at):
            leaf = self._variables[node]
            if by >= 0 and leaf >= 0:
                found[leaf] = min(by, found.get(leaf, by))
        return found

    def _has_other_to_learn(self, one: _Distance, others: Collection[int], own: Collection[int]) -> bool:
        """Whether a loss trains its estimate; where no name says which of the two teaches, by a loss of its own too."""
        learns = self._passes.leaves_behind(self._nodes[one.estimate])
        return not learns.isdisjoint(others if one.is_called_so else own)

    def _beside(self, op: int, distances: list[_Distance], with_estimates: bool = True) -> set[int]:
        """The leaves to which the graph leads from the roots of a pass without going from a loss to its target."""
        starts, following = self._passes.edge_starts, self._index.edges.values
        made_at = self._index.recording.nodes.column("op")
        left_out = {(one.loss, self._nodes[one.target]) for one in distances}
        left_out |= {(one.loss, self._nodes[one.estimate]) for one in distances if not with_estimates}
        stack = list(self._index.root_nodes(op))
        seen, found = set(stack), set[int]()
        while stack:
            one = stack.pop()
            if self._variables[one] >= 0:
                found.add(self._variables[one])
            new = [
                edge
                for edge in following[starts[one] : starts[one + 1]]
                if edge >= 0 and edge not in seen and (made_at[one], edge) not in left_out
            ]
            seen.update(new)
            stack += new
        return found

    def _called_at(self, leaves: Collection[int], others: Collection[int], op: int) -> int:
        """Where the program called the outermost module that has some leaves and none of others, for passes as one."""
        index, rows = self._index, self._index.recording.modules
        parents, spans = rows.column("parent"), rows.column("span")
        owners: dict[int, int] = {}
        mixed = set[int]()
        for module, tensor, _ in index.recording.module_tensors:
            if tensor in leaves:
                owners[tensor] = module
            up = module if tensor in others else NONE
            while up != NONE and up not in mixed:
                mixed.add(up)
                up = parents[up]
        called = set[int]()
        for module in owners.values():
            found, up = NONE, module
            while up != NONE and up not in mixed:
                found, up = (up if spans[up] != NONE else found), parents[up]
            called.add(found)
        called = {spans[one] for one in called if one != NONE and self._is_for(rows[one].op, op)}
        return called.pop() if len(called) == 1 else NONE

    def _is_for(self, first: int, op: int) -> bool:
        """Whether what ran in a module first, when its call was noted, was for a pass of the same statement."""
        index, walked = self._index, self._passes.first_walked_at
        nodes = (self._nodes[made] for at in range(first, min(first + 2, index.op_count)) for made in index.made.of(at))
        by = (walked[node] for node in nodes if node >= 0)
        return any(one >= 0 and index.op_statement[one] == index.op_statement[op] for one in by)
