"""The sentences on gradients that a round left as they were, and that its step applied again."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.applied_unchanged import AppliedUnchanged, applied_unchanged
from gradscope.analysis.facts.leaf_gradients.gradients_given_once import given_once
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.guards_of_gradients import guard_of_gradient

_TIMES = 2
"""Steps with old gradients from which on it is reported."""


def left_from_before(sources: Sources, known: Collection[int]) -> Iterator[Finding]:
    """One finding for each two statements that gave gradients and made the steps.

    Args:
        sources: The facts.
        known: Parameters of which another sentence tells that their gradients are applied again.
    """
    index, alike = sources.index, dict[tuple[int, int], list[AppliedUnchanged]]()
    found = [
        one
        for one in applied_unchanged(index, sources.lives)
        if index.times(one.steps) >= _TIMES and one.tensor not in known
    ]
    once = {one.tensor for one in given_once(index, sources.lives)} if found else set[int]()
    for one in found:
        if one.tensor not in once:
            places = index.op_statement[one.given], index.op_statement[one.steps[-1]]
            alike.setdefault(places, []).append(one)
    for group in alike.values():
        yield _finding(sources, group)


def _finding(sources: Sources, group: list[AppliedUnchanged]) -> Finding:
    """By what gives some of them new ones, or clears those of some."""
    index, last = sources.index, max(group, key=lambda one: one.steps[-1])
    step, tensors = last.steps[-1], [one.tensor for one in group]
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    times = index.times({step for one in group for step in one.steps})
    symptom = (
        f"Line {index.op_line(step)}: {index.func(step).removeprefix('optim.')} applied gradients of earlier steps to "
        f"{names} again ({times:,} times)"
    )
    if last.is_pass:
        cleared = index.call_name(last.cleared).removeprefix("optim.")
        causes = [*sources.cause("cleared", last.cleared), *sources.cause("step", step)]
        why = f"no pass since gave them others, and {cleared} of line {index.op_line(last.cleared)} clears others only"
        advice = "Call zero_grad() of the optimizer that makes the step: it leaves out what has no gradient then."
    else:
        statement = index.statements[index.op_statement[last.given]]
        guard = guard_of_gradient(index.recording.files[statement.file].text, statement.line)
        causes, under = sources.cause("made", last.given), ""
        if guard is not None:
            function = index.op_place(last.given).function
            causes.append(sources.cause_of_line("made", statement.file, *guard, function))
            under = f", under the condition of line {index.line(statement.file, guard[0])}"
        why = f"line {index.op_line(last.given)} gave others new ones then{under}, and nothing cleared theirs"
        advice = "Set .grad to None where there is no new gradient: the optimizer leaves it out then."
    return sources.finding(
        symptom,
        why=why,
        op=step,
        tensors=tensors,
        causes=causes,
        evidence=[Evidence("ops", op) for op in (last.given, last.renewed)],
        advice=advice,
    )
