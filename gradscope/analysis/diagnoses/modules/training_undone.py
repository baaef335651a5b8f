"""A helper that evaluates between ``train()`` and the training pass, and leaves the model in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.modules.left_in_evaluation import STEPS, may_train, place_of_evaluation
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.facts.modes.undone_trainings import UndoneTraining, undone_trainings
from gradscope.analysis.facts.modules.module_words import module_word
from gradscope.analysis.report_model import Evidence


def training_undone(sources: Sources, modes: TrainingModes) -> Iterator[tuple[Finding, frozenset[int]]]:
    """One finding for each place of an evaluation, with the spans of the calls of ``eval()`` that it speaks of."""
    index = sources.index
    for group in undone_trainings(index, modes, sources.passes, sources.lives):
        by_place: dict[int, list[UndoneTraining]] = {}
        for one in group:
            place, within = place_of_evaluation(sources, one.evaluated, one.train)
            if not may_train(sources, within, one.first):
                by_place.setdefault(place, []).append(one)
        for place, undone in by_place.items():
            if len({step for one in undone for step in one.steps}) >= STEPS:
                yield _finding(sources, place, undone), frozenset(one.evaluated.event.span for one in undone)


def _finding(sources: Sources, place: int, undone: list[UndoneTraining]) -> Finding:
    index, last = sources.index, undone[-1]
    steps = sorted({step for one in undone for step in one.steps})
    call = last.evaluated
    line, at, train = (index.span_line(span) for span in (place, call.event.span, last.train.event.span))
    how = f" (eval() at line {at})" if at != line else ""
    parts = ["without dropout"] * bool(call.dropouts)
    parts += ["with statistics of batch norms that stand still"] * bool(call.norms)
    return sources.finding(
        f"Line {line}: an evaluation between train() and the training pass leaves "
        f"{module_word(index, sources.names, call)} in evaluation mode{how}, and {index.times(steps):,} steps train it "
        f"so, {' and '.join(parts)}",
        why=f"it undoes what train() at line {train} has just set, each time",
        op=steps[-1],
        tensors=sorted(call.parameters)[:1],
        causes=[
            *sources.cause_of_span("set", place),
            *sources.cause_of_event("set", call.event),
            *sources.cause_of_event("set", last.train.event),
        ],
        evidence=[Evidence("events", one.row) for one in (call.event, last.train.event)],
        advice="Call train() after the evaluation, or let it put the mode back that it found.",
    )
