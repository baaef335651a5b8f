"""Networks that are done with training, and whose dropouts drop values where they give another network its targets.

That one is done is measured: it had backward passes or was loaded, was copied from such a one, or is called a teacher;
and nothing wrote its parameters from its first answer to the last. An average that follows another network is written
in between, and what draws several answers for one input does so on purpose.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, called, maker, plain_name
from gradscope.analysis.facts.losses.trained_teachers import EITHER_SIDE, PRODUCT, SECOND_IS_TARGET, TrainedTeachers
from gradscope.analysis.facts.modes.mode_runs import ModeRun
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import OpKind

ROUNDS = 2
"""Losses with such targets from which on it is told."""
_LOSSES = SECOND_IS_TARGET | EITHER_SIDE | {PRODUCT, "nll_loss"}
_STEPS = 2_048
"""Ops of one answer that are looked at."""


class TeacherInTraining(NamedTuple):
    """The answers of one such network."""

    leaves: frozenset[int]
    """Its parameters."""
    runs: tuple[ModeRun, ...]
    """A dropout of each answer."""
    begun: tuple[int, ...]
    """The first op of each answer."""
    losses: tuple[int, ...]
    """The op of each round that holds an answer against what another network gave."""
    target: int
    """The first answer."""
    ops: frozenset[int]
    """The calls from which it was computed, of the network on."""
    undone: ModeCall | None
    """The call of ``train()``, on what has it as a part, that ended its evaluation mode; None: it was never in that."""


class _Answer(NamedTuple):
    run: ModeRun
    begun: int
    loss: int
    leaves: frozenset[int]
    inputs: frozenset[tuple[int, int]]
    """Which parameters were used with which other inputs."""
    is_mixed: bool
    """Whether it comes of several runs of the network on one input."""
    target: int
    ops: frozenset[int]
    """The calls from which it was computed."""
    learns: frozenset[int]
    """The other network's parameters."""


class TeachersInTraining:
    """Finds them in one recording."""

    def __init__(
        self, index: Index, passes: Passes, lives: GradientLives, modes: TrainingModes, teachers: TrainedTeachers
    ) -> None:
        self._index = index
        self._passes = passes
        self._lives = lives
        self._modes = modes
        self._teachers = teachers
        self._flags, self._node = (index.recording.tensors.column(name) for name in ("flags", "node"))

    def found(self, runs: Iterable[ModeRun]) -> Iterator[TeacherInTraining]:
        """One for each network.

        Args:
            runs: Calls of dropouts and batch norms.
        """
        together: dict[frozenset[int], list[_Answer]] = {}
        seen = set[int]()
        for run in runs:
            if not run.is_active or run.walked_by >= 0 or run.site[0] == "weight" or run.op in seen:
                continue
            answer = self._answer(run, seen)
            if answer is not None:
                together.setdefault(answer.leaves, []).append(answer)
        told = set[int]()
        for leaves, answers in sorted(together.items(), key=lambda one: -len(one[0])):
            if not told.isdisjoint(leaves):
                continue
            if len({answer.loss for answer in answers}) < ROUNDS or not self._is_done(leaves, answers):
                continue
            learns = frozenset[int]().union(*(answer.learns for answer in answers))
            is_told, undone = self._mode(leaves, learns, answers[-1])
            if is_told and learns.isdisjoint(leaves) and not self._draws_several(answers):
                columns = zip(*((one.run, one.begun, one.loss) for one in answers), strict=True)
                runs_of, begun, losses = map(tuple, columns)
                told |= leaves
                yield TeacherInTraining(leaves, runs_of, begun, losses, answers[0].target, answers[0].ops, undone)

    def _answer(self, run: ModeRun, seen: set[int]) -> _Answer | None:
        """What a dropout's result comes to: the other side of a loss that trains another network."""
        index, made_first = self._index, self._index.tensors_made(run.op)
        behind, todo, asked = set(made_first), list(made_first), set[int]()
        while todo and len(asked) < _STEPS:
            for user in index.users.of(todo.pop(0)):
                if user <= run.op or user in asked:
                    continue
                asked.add(user)
                learns = self._learns(user, behind)
                if learns:
                    target = next(one for one in index.uses.of(user) if one in behind)
                    return self._of_target(run, user, target, learns, seen)
                made = [one for one in index.tensors_made(user) if not self._is_walked(one)]
                behind.update(made)
                todo += made
        if len(asked) < _STEPS:
            seen |= asked  # (what comes of a dropout among them comes of this one too)
        return None

    def _of_target(
        self, run: ModeRun, loss: int, target: int, learns: frozenset[int], seen: set[int]
    ) -> _Answer | None:
        """The whole answer: the parameters from which it was computed, and where that began."""
        index, leaves, inputs, begun, is_mixed = self._index, set[int](), set[tuple[int, int]](), run.op, False
        todo, asked = [target], set[int]()
        while todo:
            one = todo.pop()
            at = NONE if self._flags[one] & EXTERNAL else index.made_by(one)
            if not 0 <= at < index.op_count or at in asked:
                continue
            asked.add(at)
            if len(asked) > _STEPS:
                return None
            taken = list(index.uses.of(at))
            own = [other for other in taken if self._flags[other] & PARAMETER]
            leaves.update(own)
            pairs = {(parameter, other) for parameter in own for other in taken if other not in own}
            is_mixed |= not inputs.isdisjoint(pairs)
            inputs.update(pairs)
            begun = min(begun, at) if own else begun
            todo += [other for other in taken if other not in own]
        seen.update(asked)
        if not leaves:
            return None
        ops = frozenset(op for op in asked if op >= begun)
        return _Answer(run, begun, loss, frozenset(leaves), frozenset(inputs), is_mixed, target, ops, learns)

    def _learns(self, op: int, behind: Collection[int]) -> frozenset[int]:
        """The leaves that a loss trains whose other side is an answer; none where an op is no such loss."""
        index, name = self._index, plain_name(self._index.func(op))
        taken, made = list(index.uses.of(op)), index.tensors_made(op)
        if name not in _LOSSES or len(taken) < 2 or not made or not self._is_walked(made[0]):
            return frozenset()
        sides = [one for one in taken if one not in behind and self._node[one] >= 0]
        targets = [one for one in taken if one in behind]
        if len(sides) != 1 or len(targets) != 1 or index.requires_grad(targets[0], op):
            return frozenset()
        if name not in EITHER_SIDE and name != PRODUCT and taken[1] != targets[0]:
            return frozenset()
        if name == PRODUCT and not self._is_cross_entropy(sides[0], targets[0]):
            return frozenset()
        if name == "sub" and not self._teachers.is_measured(op):
            return frozenset()
        return frozenset(self._passes.leaves_behind(self._node[sides[0]]))

    def _is_cross_entropy(self, estimate: int, target: int) -> bool:
        """Whether probabilities are multiplied by the logarithms of others."""
        shown = AS_IT_IS | {"neg", "detach"}
        makers = [maker(self._index, below(self._index, one, shown)) for one in (estimate, target)]
        return [called(self._index, op) if op >= 0 else "" for op in makers] == ["log_softmax", "softmax"]

    def _is_walked(self, tensor: int) -> bool:
        return self._node[tensor] >= 0 and self._passes.first_walked_at[self._node[tensor]] >= 0

    def _is_done(self, leaves: frozenset[int], answers: list[_Answer]) -> bool:
        """Whether a network had been trained, and is not any more."""
        index, first = self._index, answers[0].begun
        written = last_written(index)
        if any(written.get(index.storage_at(leaf, NONE), NONE) > first for leaf in leaves):
            return False
        if any(op > first for leaf in leaves for op in self._passes_of(leaf)):
            return False
        was_trained = any(self._passes_of(leaf) for leaf in leaves) or self._is_copied(leaves)
        writers = {written.get(index.storage_at(leaf, NONE), NONE) for leaf in leaves}
        is_loaded = any(index.func(op).endswith("load_state_dict") for op in writers if 0 <= op < index.op_count)
        is_so_called = all(self._teachers.is_called_teacher(leaf, first) for leaf in leaves)
        return was_trained or is_loaded or is_so_called

    def _is_copied(self, leaves: frozenset[int]) -> bool:
        """Whether it is the one copy that was taken of what had been trained by then."""
        index, made_at = self._index, self._index.recording.tensors.column("op")
        by = {made_at[leaf] for leaf in leaves}
        copies = set(index.calls_of(lambda name: name.endswith("__deepcopy__")))
        if not by <= copies:
            return False
        originals = {one for op in by for one in index.uses.of(op)}
        is_only = all(op in by or originals.isdisjoint(index.uses.of(op)) for op in copies)
        return is_only and any(passes[0] < min(by) for one in originals if (passes := self._passes_of(one)))

    def _passes_of(self, leaf: int) -> list[int]:
        return self._lives.passes.get(leaf, [])

    def _mode(self, leaves: frozenset[int], learns: frozenset[int], last: _Answer) -> tuple[bool, ModeCall | None]:
        """Whether the mode of a network is none that was meant, and the call that put it back into training mode.

        Meant is a ``train()`` of its own after its training. One on what it is a part of, with what learns, is not.
        """
        trained = max((ops[-1] for leaf in leaves if (ops := self._passes_of(leaf))), default=NONE)
        later = [call for call in self._modes.calls if trained < call.op <= last.begun and call.covers(leaves)]
        if not later:
            return True, None
        call = later[-1]
        was_evaluated = any(not one.training for one in later)
        if not call.training or call.parameters.isdisjoint(learns):
            return False, None
        return True, call if was_evaluated else None

    def _draws_several(self, answers: list[_Answer]) -> bool:
        """Whether one round, up to a step, learns from several answers for one input."""
        steps = self._index.of_kind(OpKind.STEP)
        seen = dict[tuple[int, tuple[int, int]], int]()
        for answer in answers:
            round_of = bisect_right(steps, answer.begun)
            if answer.is_mixed or any(
                seen.setdefault((round_of, one), answer.begun) != answer.begun for one in answer.inputs
            ):
                return True
        return False
