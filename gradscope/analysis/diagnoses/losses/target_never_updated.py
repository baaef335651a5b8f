"""A copy of a network that gives it its targets, and that nothing updates though the program is made to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.target_networks import TargetNetwork, target_networks
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.updates_written import (
    NotReached,
    Update,
    not_reached,
    updates_written,
    writers_of_models,
)
from gradscope.recording import NONE


class _UpdateText(NamedTuple):
    """What the program has to update a copy."""

    written: bool
    """It has a statement for it, which may have run or not."""
    file: int
    update: Update | None
    reason: NotReached | None
    """Why the one that it has did not run."""


def _find(sources: Sources) -> Iterator[Finding]:
    if sources.index.recording.info.outcome.kind not in ("ok", "exit"):
        return
    for one in target_networks(sources.index, sources.passes, sources.lives):
        if one.given_back or one.copied < 0:
            continue  # (the wrong way round, or both ways)
        text = _in_text(sources, one)
        if text.reason is not None and _is_told(one, text, text.reason):
            yield _not_reached(sources, one, text, text.reason)
        elif not text.written and one.is_bootstrapped:
            yield _not_written(sources, one)


def _is_told(one: TargetNetwork, text: _UpdateText, reason: NotReached) -> bool:
    """Whether an update that did not run was to: one that nothing calls, or one that waits for a size to be reached.

    A condition that is a setting was chosen. Copies that are in no loss are told where nothing calls their update
    alone: of a model that is to be the best so far no later one need be better.
    """
    if reason.function and text.update is None:
        return one.is_bootstrapped  # (what it would write is not named there)
    return bool(reason.function) or (one.meets >= 0 and (reason.is_counted or reason.is_compared))


def _in_text(sources: Sources, one: TargetNetwork) -> _UpdateText:
    recording = sources.index.recording
    models, others = _names(sources, one)
    if not models or not others:
        return _UpdateText(True, NONE, None, None)  # (what has no name may be written under any)
    ran = _lines_seen(sources)
    found = _UpdateText(False, NONE, None, None)
    for file, row in enumerate(recording.files):
        if not row.is_user:
            continue
        copied = sources.index.op_line(one.copied)
        lines = sources.index.statements[sources.index.op_statement[one.copied]]
        for update in updates_written(row.text, models, others):
            if lines.file == file and update.line <= copied <= update.end_line:
                continue
            first, last = update.callee if update.callee[0] else (update.line, update.end_line)
            if any((file, line) in ran for line in range(first, last + 1)):
                return _UpdateText(True, file, update, None)
            reason = not_reached(row.text, update.line)
            if reason is not None and reason.test and not _is_seen(ran, file, reason.scope):
                reason = None  # (whether the condition was looked at is not known)
            if found.written and reason != found.reason:
                return _UpdateText(True, file, update, None)
            found = _UpdateText(True, file, update, reason)
    return found if found.written else _by_other_names(sources, ran)


def _by_other_names(sources: Sources, ran: set[tuple[int, int]]) -> _UpdateText:
    """What may update any model and did not run: a function that nothing calls, or what may have been meant for it."""
    found = _UpdateText(False, NONE, None, None)
    for file, row in enumerate(sources.index.recording.files):
        for first, last in writers_of_models(row.text) if row.is_user else ():
            if any((file, line) in ran for line in range(first, last + 1)):
                continue
            reason = not_reached(row.text, first)
            if reason is None or not reason.function or (found.written and reason != found.reason):
                return _UpdateText(True, file, None, None)
            found = _UpdateText(True, file, None, reason)
    return found


def _is_seen(ran: set[tuple[int, int]], file: int, scope: tuple[int, int]) -> bool:
    return any(at == file and scope[0] <= line < scope[1] for at, line in ran)


def _lines_seen(sources: Sources) -> set[tuple[int, int]]:
    """The lines of which something was recorded."""
    files, lines = (sources.index.recording.spans.column(name) for name in ("file", "line"))
    return set(zip(files, lines, strict=True))


def _names(sources: Sources, one: TargetNetwork) -> tuple[set[str], set[str]]:
    """The parts of the names of both by which these differ: ``target`` and ``online``."""
    copy, original = (set(sources.names.of(leaves[0]).split(".")) for leaves in (one.leaves, one.originals))
    return copy - original, original - copy


def _keep(sources: Sources, one: TargetNetwork) -> str:
    others = sources.listed([sources.names.of(leaf) for leaf in one.originals])
    copied = sources.index.op_line(one.copied)
    return (
        f"keep the values that line {copied} gave them through all {sources.index.times(one.steps):,} steps of {others}"
    )


def _gives(sources: Sources, one: TargetNetwork) -> str:
    if one.meets < 0:
        return "what is computed with them is that of the beginning"
    return f"line {sources.index.op_line(one.meets)} takes its targets from what they give"


def _not_reached(sources: Sources, one: TargetNetwork, text: _UpdateText, reason: NotReached) -> Finding:
    line, is_note = sources.index.line(text.file, reason.line), reason.is_counted
    names = sources.listed([sources.names.of(leaf) for leaf in one.leaves])
    if reason.function:
        would = ", which it would write," if text.update is not None else ""
        what = f"nothing calls {reason.function}, and {names}{would} {_keep(sources, one)}"
        advice = "Call it after the optimizer's step."
    else:
        what = f"{reason.test} was never true, so that {names}, which are written under it, {_keep(sources, one)}"
        advice = "" if is_note else "Let it be true before the training is over."
    return sources.finding(
        f"Line {line}: {what}",
        why=_gives(sources, one),
        op=one.meets if one.meets >= 0 else one.runs[-1],
        tensors=one.leaves,
        causes=[
            sources.cause_of_line("step", text.file, reason.line, reason.line, ""),
            *([] if is_note else sources.cause("made", one.copied)),
        ],
        evidence=[Evidence("ops", one.copied), Evidence("ops", one.steps[-1])],
        advice=advice,
        severity="note" if is_note else None,
    )


def _not_written(sources: Sources, one: TargetNetwork) -> Finding:
    names = sources.listed([sources.names.of(leaf) for leaf in one.leaves])
    return sources.finding(
        f"Line {sources.index.op_line(one.copied)}: {names} {_keep(sources, one)}, and the program has nothing that "
        "would write them",
        why=f"{_gives(sources, one)}, and the value of what follows is that of a network that has not learned anything",
        op=one.meets,
        tensors=one.leaves,
        causes=[*sources.cause("made", one.copied), *sources.cause("step", one.steps[-1])],
        evidence=[Evidence("ops", one.copied), Evidence("ops", one.steps[-1])],
        advice="Load the network's state into them every so many steps, or move them a little towards it after each.",
    )


DIAGNOSIS = Diagnosis(
    code="target-never-updated",
    title="a target network that keeps the values of the start",
    severity="warning",
    explanation=Explanation(
        meaning="""A network was copied once, before it was trained, and the copy gave the targets of its loss (or was
            run later) while it had ten steps and more. Nothing wrote the copy, and either the program has a function
            that would, which nothing calls, or a condition that was never true stands before that; or the target is a
            reward and the discounted value of what follows, and the program has no line that updates the copy. An
            interval in rounds that is longer than the run is a note. A teacher, a reference model or an anchor, for
            which the program has no update, is no case of it.""",
        reason="""A target network stands for what the network knows by now. One that stays as it was drawn gives values
            that nothing has learned, and the network learns to fit these.""",
        remedy="""target.load_state_dict(net.state_dict()) every so many steps, or target.lerp_(net, tau) for each
            parameter after each step.""",
    ),
    example=Example(
        shows="""\
import copy

import torch

net = torch.nn.Linear(4, 1)
target = copy.deepcopy(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(12):
    state, following, reward = torch.rand(8, 4), torch.rand(8, 4), torch.rand(8, 1)
    with torch.no_grad():
        goal = reward + 0.9 * target(following)
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(net(state), goal).backward()
    optimizer.step()
    net.state_dict()
""",
        instead_of="net.state_dict()",
        silent="target.load_state_dict(net.state_dict())",
    ),
    find=_find,
)
