"""Parts of two modules that an ``eval()`` of the one puts into evaluation mode, and that are trained under the other.

``student.train(); teacher.eval()`` where both have the same stem: the steps train the stem in evaluation mode. That the
call was for the other module shows by what that has beside the part: it gets no gradients while the part is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.mode_runs import ModeRun, mode_runs
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, GRAD, PARAMETER

PASSES = 3
"""Passes in which a shared part is trained in evaluation mode, from which on it is reported."""
_OPS_BACK = 400
"""Ops before one that are looked at."""


class EvaluatedThroughAnother(NamedTuple):
    """What the calls of one ``eval()`` did to a part that another module has as well."""

    evaluated: ModeCall
    train: ModeCall | None
    """The ``train()`` on the other module whose mode it undid; None where nothing had called that."""
    shared: tuple[int, ...]
    """The trained parameters of the part: weights of batch norms where there are some."""
    norms: int
    """Shared batch norms that kept their statistics."""
    dropouts: int
    """Places of shared dropouts that did nothing."""
    steps: tuple[int, ...]
    """Those that trained it so, in order."""


def evaluated_through_another(
    index: Index, modes: TrainingModes, passes: Passes, lives: GradientLives
) -> Iterator[EvaluatedThroughAnother]:
    """One for each statement that calls ``eval()``, where no pass since trained the part as in training."""
    by_span: dict[int, list[int]] = {}
    for at, call in enumerate(modes.calls):
        if not (call.training or call.by_library) and call.dropouts + call.norms and call.event.span >= 0:
            by_span.setdefault(call.event.span, []).append(at)
    if not by_span:
        return
    runs = [run for run in mode_runs(index, passes) if run.walked_by >= 0]
    windows = _EvalWindows(index, modes, runs, lives)
    for positions in by_span.values() if not all(run.is_active for run in runs) else ():
        found = [one for at in positions if (one := windows.after(at)) is not None]
        steps = sorted({step for one in found for step in one.steps})
        if len(steps) >= PASSES:
            yield found[-1]._replace(steps=tuple(steps))


class _EvalWindows:
    def __init__(self, index: Index, modes: TrainingModes, runs: list[ModeRun], lives: GradientLives) -> None:
        self._index = index
        self._modes = modes
        self._runs = runs
        self._lives = lives

    def after(self, at: int) -> EvaluatedThroughAnother | None:
        """What was trained in the mode that one call set, up to the next call that sets another."""
        call = self._modes.calls[at]
        trained = self._stepped(call.op, self._index.op_count)
        if call.parameters <= trained or call.parameters.isdisjoint(trained):
            return None
        end = next(
            (
                one.op
                for one in self._modes.calls[at + 1 :]
                if one.training and not one.parameters.isdisjoint(call.parameters & trained)
            ),
            self._index.op_count,
        )
        trained = self._stepped(call.op, end)
        shared, outside, own = call.parameters & trained, trained - call.parameters, call.parameters - trained
        if not shared or not outside or not own or self._get_gradients(own, call.op, end):
            return None
        train = self._undone(call, shared, outside)
        own -= train.parameters if train is not None else set()
        if not own or (train is None and not self._is_teacher(own, shared, call.op, end)):
            return None
        runs = [run for run in self._runs if call.op <= run.op < end]
        norms = [run for run in runs if run.site[0] == "weight" and run.site[1] in shared]
        dropouts = self._dropouts(runs, call, shared, train)
        if any(run.is_active for run in norms) or (not norms and not dropouts):
            return None
        walked = {run.walked_by for run in (*norms, *dropouts)}
        weights = {run.site[1] for run in norms}
        of = weights or shared
        lives = self._lives
        steps = {
            step
            for one in of
            for step in lives.steps[one]
            if call.op <= step < end and last_before(lives.passes[one], step) in walked
        }
        sites = len({run.site for run in dropouts})
        return EvaluatedThroughAnother(call, train, tuple(sorted(of)), len(weights), sites, tuple(sorted(steps)))

    def _stepped(self, since: int, end: int) -> set[int]:
        """The parameters to which steps up to an op apply passes since another one."""
        passes, found = self._lives.passes, set[int]()
        for tensor, steps in self._lives.steps.items():
            given = first_after(passes[tensor], since - 1)
            if given >= 0 and given < first_after(steps, given) < end:
                found.add(tensor)
        return found

    def _get_gradients(self, tensors: frozenset[int], since: int, end: int) -> bool:
        return any(last_before(self._lives.passes.get(one, []), end) >= since for one in tensors)

    def _undone(self, call: ModeCall, shared: frozenset[int], outside: set[int]) -> ModeCall | None:
        """The ``train()`` on another module, in force for what that has beside the part, that a call undid."""
        before = [one for one in self._modes.calls if one.event.row < call.event.row]
        train = next((one for one in reversed(before) if not one.parameters.isdisjoint(outside)), None)
        is_whole = train is not None and train.training and not train.by_library and train.covers(shared)
        return train if is_whole else None

    def _is_teacher(self, own: frozenset[int], shared: frozenset[int], since: int, end: int) -> bool:
        """Whether what a module has beside a part takes what the part gives, again and again, and no gradients flow.

        Frozen layers in front of those that are trained take nothing of these.
        """
        index, rounds = self._index, set[int]()
        steps = sorted({step for one in shared for step in self._lives.steps[one] if since <= step < end})
        for tensor in own:
            for op in index.users.of(tensor):
                if since <= op < end and index.func(op).startswith(("F.", "torch.")) and self._comes_of(op, shared):
                    rounds.add(last_before(steps, op))
        return len(rounds) >= PASSES

    def _comes_of(self, op: int, shared: frozenset[int]) -> bool:
        """Whether what an op takes beside parameters was computed by those of a part, and no gradient leads back."""
        index = self._index
        flags, made_by = (index.recording.tensors.column(name) for name in ("flags", "op"))
        if index.recording.ops.column("flags")[op] & GRAD and any(
            index.requires_grad(one, op) for one in index.tensors_made(op)
        ):
            return False
        seen, level = {op}, [op]
        while level and len(seen) < _OPS_BACK:
            taken = [tensor for one in level for tensor in index.uses.of(one)]
            if not shared.isdisjoint(taken):
                return True
            before = {made_by[tensor] for tensor in taken if not flags[tensor] & (EXTERNAL | PARAMETER)}
            level = sorted(one for one in before - seen if 0 <= one < op)
            seen.update(level)
        return False

    def _dropouts(
        self, runs: list[ModeRun], call: ModeCall, shared: frozenset[int], train: ModeCall | None
    ) -> list[ModeRun]:
        """Runs of dropouts that did nothing in functions that use parameters of the part alone.

        A dropout of rate zero does nothing in both modes. That there are others shows where such a place dropped in
        another pass, or where ``train()`` reached more of them than dropped in any of the passes since.
        """
        if not call.dropouts:
            return []
        kinds = {run.site for run in self._runs if run.is_active}
        active = [run for run in runs if run.site[0] != "weight" and run.is_active]
        in_pass = max((sum(run.walked_by == one.walked_by for run in active) for one in active), default=0)
        found, used = list[ModeRun](), dict[tuple[int, int], bool]()
        for run in runs:
            if run.site[0] == "weight" or run.is_active or "dropout" not in run.site[0]:
                continue
            if run.site not in kinds and (train is None or in_pass >= train.dropouts):
                continue
            where = self._index.function_of(run.op)
            if where not in used:
                used[where] = self._uses_alone(where, shared, call.op)
            found += [run] if used[where] else []
        return found if not any(run.site in {one.site for one in active} for run in found) else []

    def _uses_alone(self, where: tuple[int, int], shared: frozenset[int], since: int) -> bool:
        """Whether a function's own ops use parameters of a part, and no others, since an op."""
        index, flags = self._index, self._index.recording.tensors.column("flags")
        users = {op for one in shared for op in index.users.of(one) if op >= since and index.function_of(op) == where}
        if not users:
            return False
        last = max(users)
        first = max((op for op in users if op < last), default=NONE)
        inside = (op for op in range(min(first, last), last + 1) if index.function_of(op) == where)
        return not any(flags[one] & PARAMETER and one not in shared for op in inside for one in index.uses.of(op))
