"""An evaluation in the middle of training that leaves a model in evaluation mode: the next steps train it so."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import chain, compress, islice
from typing import NamedTuple

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.mode_runs import ModeRun, mode_runs
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.modules.module_words import module_word
from gradscope.analysis.facts.passes.gradient_lives import first_after, last_before
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.calls.reached_functions import reached_functions
from gradscope.frames.modules.modes_read_late import mode_read_after

STEPS = 3
"""Steps in evaluation mode from which on it is reported."""


class _Trained(NamedTuple):
    """The backward passes of a program by what its dropouts and batch norms did in them."""

    as_evaluated: frozenset[int]
    as_trained: frozenset[int]
    evaluations: list[int]
    """Calls of theirs in evaluation that no pass came through, in order."""


class _Training(NamedTuple):
    """The passes and steps of a module's parameters, in order."""

    passes: list[int]
    steps: list[int]
    before: dict[int, int]
    """The last pass before each step."""
    usual: frozenset[int]
    """Statements that made passes in training mode."""


class _LeftBehind(NamedTuple):
    """An ``eval()`` after which a model was evaluated, and then trained."""

    call: ModeCall
    back: ModeCall | None
    """Where the program calls ``train()`` on it."""
    is_put_back: bool
    """That call, or another of ``train()``, ended it."""
    place: int
    """The span of the evaluation, in the function that has the loop of the training as well."""
    steps: tuple[int, ...]
    of: int
    """All steps of the module."""


def left_in_evaluation(sources: Sources, modes: TrainingModes) -> Iterator[tuple[Finding, frozenset[int]]]:
    """One finding for each place of an evaluation, with the spans of the calls of ``eval()`` that it speaks of."""
    calls = modes.calls
    is_asked = [not (one.training or one.by_library) and one.dropouts + one.norms > 0 for one in calls]
    trained = _passes_by_mode(sources) if any(is_asked) else None
    if trained is None:
        return
    found: dict[int, list[_LeftBehind]] = {}
    training: dict[int, _Training] = {}
    for at, call in compress(enumerate(calls), is_asked):
        if call.module not in training:
            training[call.module] = _training_of(sources, call.parameters, trained)
        if (left := _left(sources, calls, at, trained, training[call.module])) is not None:
            found.setdefault(left.place, []).append(left)
    for group in found.values():
        steps = sorted({step for left in group for step in left.steps})
        if len(steps) >= STEPS:
            yield _finding(sources, group, steps), frozenset(left.call.event.span for left in group)


def has_no_effect(sources: Sources, tensors: Collection[int], since: int) -> bool:
    """Whether dropouts and batch norms ran as before after an ``eval()``, in the passes that gave tensors gradients.

    The mode may have been put back by setting ``training``; and a dropout of rate zero has none.
    """
    passes = {op for tensor in tensors for op in sources.lives.passes[tensor]}
    runs = [run for run in mode_runs(sources.index, sources.passes) if run.walked_by in passes]
    before = {run.site for run in runs if run.walked_by < since and not run.is_active}
    after = {run.site for run in runs if run.walked_by >= since and not run.is_active}
    return bool(runs) and after <= before


def _passes_by_mode(sources: Sources) -> _Trained | None:
    """None where no dropout or batch norm ran in both modes in forwards that passes came through."""
    runs = mode_runs(sources.index, sources.passes)
    by_pass: dict[int, dict[tuple[str, int], set[bool]]] = {}
    for run in runs:
        if run.walked_by >= 0:
            by_pass.setdefault(run.walked_by, {}).setdefault(run.site, set()).add(run.is_active)
    seen: dict[bool, set[tuple[str, int]]] = {True: set(), False: set()}
    for sites in by_pass.values():
        for site, active in sites.items():
            if len(active) == 1:
                seen[next(iter(active))].add(site)
    switched = seen[True] & seen[False]
    if not switched:
        return None
    kinds: dict[bool, set[int]] = {True: set(), False: set()}
    for op, sites in by_pass.items():
        active = set().union(*(sites[site] for site in sites if site in switched))
        if len(active) == 1:
            kinds[next(iter(active))].add(op)
    return _Trained(frozenset(kinds[False]), frozenset(kinds[True]), _evaluations(runs, switched))


def _evaluations(runs: list[ModeRun], switched: set[tuple[str, int]]) -> list[int]:
    """Runs in evaluation of what no pass came through, but for those of frozen parts in a forward that is trained.

    After one of those the forward goes on to what a pass comes through, before the part itself runs again.
    """
    found, following, trained = [], dict[tuple[str, int], int](), len(runs)
    for at in range(len(runs) - 1, -1, -1):
        run = runs[at]
        if run.walked_by >= 0:
            trained = at
        elif not run.is_active and run.site in switched and following.get(run.site, len(runs)) <= trained:
            found.append(run.op)
        following[run.site] = at
    return found[::-1]


def _training_of(sources: Sources, parameters: frozenset[int], trained: _Trained) -> _Training:
    index, lives = sources.index, sources.lives
    tensors = [tensor for tensor in parameters if tensor in lives.steps]
    passes = sorted({op for tensor in tensors for op in lives.passes[tensor]})
    before = {step: last_before(lives.passes[tensor], step) for tensor in tensors for step in lives.steps[tensor]}
    usual = frozenset(index.op_statement[op] for op in passes if op in trained.as_trained)
    return _Training(passes, sorted(before), before, usual)


def _left(
    sources: Sources, calls: list[ModeCall], at: int, trained: _Trained, training: _Training
) -> _LeftBehind | None:
    """What went on in the mode that a call had set, if first there was an evaluation: else it may be set for training.

    The lines that train must be lines that train in training mode as well.
    """
    index, call = sources.index, calls[at]
    first = first_after(training.passes, call.op - 1)
    evaluation = first_after(trained.evaluations, call.op - 1)
    ends = [one for one in islice(calls, at + 1, None) if _ends(one, call)]
    if ends and _is_set_again(calls, at, ends[0], trained, first) and _read_late(sources, call):
        del ends[0]
    ended = ends[0] if ends else None
    until = ended.op if ended is not None else index.op_count
    if not 0 <= evaluation < first < until:
        return None
    steps = tuple(
        step
        for step in training.steps[bisect_left(training.steps, first) : bisect_left(training.steps, until)]
        if (op := training.before[step]) >= first
        and op in trained.as_evaluated
        and index.op_statement[op] in training.usual
    )
    if not steps:
        return None
    earlier, later = (calls[one] for one in range(at - 1, -1, -1)), islice(calls, at + 1, None)
    back = next((one for one in chain(earlier, later) if one.training and _overlap(one, call)), None)
    place, within = place_of_evaluation(sources, call, back)
    if may_train(sources, within, first):
        return None
    return _LeftBehind(call, back, ended is not None and ended.training, place, steps, index.times(training.steps))


def _ends(later: ModeCall, call: ModeCall) -> bool:
    """Whether a later call set another mode for a part of a module, or the same for all of it again."""
    return _overlap(later, call) if later.training else later.covers(call.parameters)


def _is_set_again(calls: list[ModeCall], at: int, again: ModeCall, trained: _Trained, first: int) -> bool:
    """Whether the evaluation that a call begins sets the mode again when it is over, though it was another before.

    ``train(False)``, before the first pass. Where training was to go on in that mode, it was set by other calls.
    """
    evaluations = [first_after(trained.evaluations, op - 1) for op in (calls[at].op, again.op)]
    if again.training or not evaluations[0] < again.op <= first or again.op <= evaluations[1] < first:
        return False
    own = (calls[at].event.span, again.event.span)
    before = (one for one in reversed(calls[:at]) if one.event.span not in own and _ends(one, calls[at]))
    found = next(before, None)
    return found is None or found.training


def _overlap(one: ModeCall, other: ModeCall) -> bool:
    return not one.parameters.isdisjoint(other.parameters)


def place_of_evaluation(sources: Sources, call: ModeCall, back: ModeCall | None) -> tuple[int, tuple[int, ...]]:
    """Where the function that sets both modes, itself or by others, sets this one; and the calls inside of that."""
    spans = sources.index.recording.spans
    functions = {(spans[one].file, spans[one].function): one for one in back.through} if back is not None else {}
    for at, span in enumerate(call.through):
        if functions.get((spans[span].file, spans[span].function), span) != span:
            return span, call.through[:at]
    return call.event.span, call.through[: len(call.through) - 1]


def may_train(sources: Sources, calls: tuple[int, ...], op: int) -> bool:
    """Whether the functions of some calls may come to make a pass: what an evaluation trains is trained for it."""
    index, files = sources.index, sources.index.recording.files
    function = index.op_place(op).function.rpartition(".")[2]
    spans = [index.recording.spans[one] for one in calls]
    return any(function in reached_functions(files[one.file].text, one.line) for one in spans if one.file >= 0)


def _finding(sources: Sources, group: list[_LeftBehind], steps: list[int]) -> Finding:
    index, last = sources.index, group[-1]
    line, at = index.span_line(last.place), index.span_line(last.call.event.span)
    calls = {one.call.module: one.call for one in group}.values()
    modules = list(dict.fromkeys(module_word(index, sources.names, one) for one in calls))
    dropouts, norms = sum(one.dropouts for one in calls), sum(one.norms for one in calls)
    parts = ["without dropout"] * bool(dropouts) + ["with statistics of batch norms that stand still"] * bool(norms)
    how = f" (eval() at line {at})" if at != line else ""
    when = "does only later" if any(left.is_put_back for left in group) else "did before it only"
    read = _read_late(sources, last.call)
    again = f" (line {index.span_line(_shown(sources, last.back, last.place))} {when})" if last.back else ""
    if read:
        return sources.finding(
            f"Line {read[0].line} keeps the mode after eval() has set it, so that it is False always: the evaluation "
            f"leaves {listed(list(dict.fromkeys(left.call.name for left in group)))} in evaluation mode",
            why=f"{index.times(steps):,} of {max(left.of for left in group):,} steps then train it so, "
            f"{' and '.join(parts)}",
            op=steps[-1],
            tensors=sorted(last.call.parameters)[:1],
            causes=read,
            evidence=[Evidence("events", left.call.event.row) for left in group],
            advice="Keep it before: was = model.training, then model.eval().",
        )
    return sources.finding(
        f"Line {line}: an evaluation in the middle of training leaves "
        f"{listed(modules)} in evaluation mode{how}, and "
        f"{index.times(steps):,} of {max(left.of for left in group):,} steps then train it so, {' and '.join(parts)}",
        why=f"nothing calls train() before they go on{again}",
        op=steps[-1],
        tensors=sorted(last.call.parameters)[:1],
        causes=sources.cause_of_span("set", last.place),
        evidence=[Evidence("events", left.call.event.row) for left in group],
        advice="Call train() again after each evaluation.",
    )


def _read_late(sources: Sources, call: ModeCall) -> list[Cause]:
    """The statement that keeps the mode that is put back after an evaluation, where it does so too late."""
    recording = sources.index.recording
    if call.event.span < 0:
        return []
    span = recording.spans[call.event.span]
    read = mode_read_after(recording.files[span.file].text, span.line) if span.file >= 0 else None
    if read is None:
        return []
    return [sources.cause_of_line("set", span.file, *read, recording.text(span.function))]


def _shown(sources: Sources, back: ModeCall, place: int) -> int:
    """Where the function that has the evaluation calls ``train()``, itself or by others."""
    spans = sources.index.recording.spans
    function = (spans[place].file, spans[place].function)
    inside = (one for one in back.through if (spans[one].file, spans[one].function) == function)
    return next(inside, back.event.span)
