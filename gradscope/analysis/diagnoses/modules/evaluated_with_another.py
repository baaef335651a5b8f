"""A part of two modules that ``eval()`` of the one puts into evaluation mode, and that is trained under the other."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.evaluated_through_another import (
    EvaluatedThroughAnother,
    evaluated_through_another,
)
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.modules.module_words import module_word
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.shared_arguments import built_with_argument


def evaluated_with_another(sources: Sources, modes: TrainingModes) -> Iterator[tuple[Finding, frozenset[int]]]:
    """One finding for each place of an ``eval()``, with its span."""
    for one in evaluated_through_another(sources.index, modes, sources.passes, sources.lives):
        yield _finding(sources, one), frozenset([one.evaluated.event.span])


def _finding(sources: Sources, found: EvaluatedThroughAnother) -> Finding:
    index, call, last = sources.index, found.evaluated, found.steps[-1]
    line, word = index.span_line(call.event.span), module_word(index, sources.names, call)
    norms = "batch norm keeps its" if found.norms == 1 else "batch norms keep their"
    what = [f"its {norms} statistics"] * bool(found.norms) + ["its dropout does nothing"] * bool(found.dropouts)
    shared = sources.listed([sources.names.at(one, last) for one in found.shared])
    train = found.train
    why = f"line {line} called eval() on {word}, which has this part as well"
    if train is not None:
        other = module_word(index, sources.names, train)
        other = other if other != word else "the other"
        why += f", after line {index.span_line(train.event.span)} had called train() on {other}"
    return sources.finding(
        f"Line {index.op_line(last)}: {index.times(found.steps):,} steps train {shared} in evaluation mode, in which "
        f"{' and '.join(what)}",
        why=why,
        op=last,
        tensors=found.shared[:1],
        causes=[
            *sources.cause_of_event("set", call.event),
            *(sources.cause_of_event("set", train.event) if train is not None else ()),
            *_built(sources, call),
        ],
        evidence=[Evidence("events", one.event.row) for one in (call, train) if one is not None],
        advice="Call eval() on what the other module has alone, or train() on the shared part after it.",
    )


def _built(sources: Sources, call: ModeCall) -> list[Cause]:
    """The lines that build what ``eval()`` is called on with what another module is built with too."""
    recording = sources.index.recording
    for span in call.through:
        row = recording.spans[span]
        at = (row.line, row.col, row.end_line, row.end_col)
        lines = built_with_argument(recording.files[row.file].text, at) if row.file >= 0 else []
        if lines:
            return [sources.cause_of_line("made", row.file, line, line, "") for line in lines]
    return []
