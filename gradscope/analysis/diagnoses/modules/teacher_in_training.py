"""A network that gives another one its targets and that nothing put into evaluation mode (evaluated-without-eval)."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.teachers_in_training import TeacherInTraining, TeachersInTraining
from gradscope.analysis.facts.losses.trained_teachers import TrainedTeachers
from gradscope.analysis.facts.modes.mode_runs import ModeRun
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.names.given_names import function_around
from gradscope.frames.names.stored_names import assigned_names


def teachers_in_training(sources: Sources, modes: TrainingModes, runs: list[ModeRun]) -> Iterator[Finding]:
    """One finding for each such network."""
    teachers = TrainedTeachers(sources.index, sources.passes, sources.events, sources.names)
    finder = TeachersInTraining(sources.index, sources.passes, sources.lives, modes, teachers)
    for found in finder.found(runs):
        yield _finding(sources, found)


def _finding(sources: Sources, found: TeacherInTraining) -> Finding:
    index, loss = sources.index, found.losses[-1]
    called = _called_at(sources, found)
    frozen, leaves = _frozen_at(sources, found), sorted(found.leaves)
    names = [sources.names.of(leaf) for leaf in leaves]
    rounds = index.times(dict.fromkeys(found.begun))
    if found.undone is not None:
        line = index.span_line(found.undone.event.span)
        why = f"line {line} (train() of {found.undone.name}) put it back into training mode"
        causes = [*sources.cause_of_event("set", found.undone.event), *called]
    else:
        not_by = f", and line {frozen[0].line}, which freezes it, does not do that" if frozen else ""
        why = f"nothing calls eval() on it before that{not_by}"
        causes = [*frozen, *called] if frozen else [*called, *_begun_at(sources, names[0], called)]
    return sources.finding(
        f"Line {called[0].line}: the network of {sources.listed(names)} gives another one its targets and runs as in "
        f"training: nothing changes it meanwhile, and dropouts drop values in all {rounds:,} answers that the loss at "
        f"line {index.op_line(loss)} takes",
        why=why,
        op=loss,
        tensors=leaves,
        causes=causes,
        evidence=[Evidence("ops", run.op) for run in found.runs[-2:]],
        advice="Call eval() on it where its training is over.",
    )


def _called_at(sources: Sources, found: TeacherInTraining) -> list[Cause]:
    """The line that called the network: what took something of its results outside of a ``forward``, or stored it."""
    index, begun = sources.index, found.begun[0]
    caller = index.op_place(found.losses[0]).function

    def is_inside(op: int) -> bool:
        function = index.op_place(op).function
        return function != caller and function.rpartition(".")[2] == "forward"

    if not is_inside(begun):
        return sources.cause("used", begun)
    taken, by = found.target, found.losses[0]
    for op in sorted(found.ops, reverse=True):
        of_it = [one for one in index.uses.of(op) if index.made_by(one) in found.ops]
        if not is_inside(op) and of_it:
            taken, by = of_it[0], op
    inside = [one for one in sources.stored(taken, by) if one.function == index.op_place(by).function]
    return inside or _assigned(sources, taken, by) or sources.cause("used", by)


def _assigned(sources: Sources, tensor: int, by: int) -> list[Cause]:
    """The last statement of its function, before a call, that assigns the name under which the call takes a tensor."""
    index = sources.index
    at = index.statements[index.op_statement[by]]
    names = {index.recording.text(name) for name, op, _ in sources.names_held.get(tensor, ()) if op <= by}
    if at.file < 0 or not names:
        return []
    text = index.recording.files[at.file].text
    start = function_around(text, at.line)[0]
    lines = [line for line, name in assigned_names(text) if name in names and start < line < at.line]
    place = index.op_place(by).function
    return [sources.cause_of_line("used", at.file, max(lines), max(lines), place)] if lines else []


def _begun_at(sources: Sources, name: str, called: list[Cause]) -> list[Cause]:
    """The one line of its file that gives the network the name under which it is called."""
    index = sources.index
    file = next((number for number, one in enumerate(index.recording.files) if one.name == called[0].file), -1)
    parts = name.split(".")
    own = ".".join(parts[:2]) if parts[0] == "self" else parts[0]
    if file < 0 or f"{own}(" not in called[0].source:
        return []
    lines = [line for line, stored in assigned_names(index.recording.files[file].text) if stored == own]
    return [sources.cause_of_line("made", file, lines[0], lines[0], "")] if len(lines) == 1 else []


def _frozen_at(sources: Sources, found: TeacherInTraining) -> list[Cause]:
    """The one line that switched requires_grad off for all of it."""
    index, changes = sources.index, sources.index.recording.changes
    last = []
    for leaf in found.leaves:
        rows = [row for row in index.changed_ops.get(leaf, ()) if changes[row].op < found.begun[0]]
        if not rows or changes[rows[-1]].after:
            return []
        last.append(changes[rows[-1]].op)
    return sources.cause("set", last[-1]) if len({index.op_statement[op] for op in last}) == 1 else []
