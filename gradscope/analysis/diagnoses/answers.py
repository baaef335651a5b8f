"""From a recording's facts to the sentences of its report: all that the catalogue finds, problems first."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from gradscope.analysis.diagnoses.catalogue import diagnoses_for
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Answer
from gradscope.recording import Recording

_ONLY_RAISED = "snippet-raised"
_ORDER = ("problem", "warning", "note")


def find_answers(sources: Sources) -> tuple[tuple[Answer, ...], tuple[str, ...]]:
    """Every answer that the recording gives, each sentence once; and the tracebacks of diagnoses that failed.

    The most harmful come first; among these what ended the program, then what names a line to change. A fault of one
    diagnosis is its own: the others are given, and the report says that it may be incomplete.
    """
    found: list[Answer] = []
    faults: list[str] = []
    for known in diagnoses_for(sources.index.recording):
        try:
            findings = (one for one in known.find(sources) if not sources.is_a_librarys_business(one))
            found += [known.answer(finding) for finding in findings]
        except Exception:
            faults.append(fault_of(known.code))
    unique = {(answer.code, answer.text): answer for answer in found if not _is_explained(answer, found, sources)}
    recording = sources.index.recording
    ordered = tuple(
        sorted(
            unique.values(),
            key=lambda answer: (
                _ORDER.index(answer.severity),
                not _ended_program(answer, recording),
                not answer.causes,
            ),
        )
    )
    return ordered, tuple(faults)


def fault_of(code: str) -> str:
    """The traceback of the error that a diagnosis is being left with."""
    return f"in the diagnosis {code}:\n{traceback.format_exc()}"


def _is_explained(answer: Answer, others: Iterable[Answer], sources: Sources) -> bool:
    """Whether an answer only says that something was raised, and another rests on the op that raised it."""
    place = answer.place
    if answer.code != _ONLY_RAISED or answer.causes or place is None:
        return False
    raised = {
        row.op
        for row in sources.index.recording.errors
        if place.line <= sources.index.op_line(row.op) <= place.end_line
    }
    return any(
        evidence.table == "ops" and evidence.row in raised
        for other in others
        if other.severity == "problem" and other.code != _ONLY_RAISED
        for evidence in other.evidence
    )


def _ended_program(answer: Answer, recording: Recording) -> bool:
    """Whether an answer is about the line that raised what ended the program."""
    outcome, place = recording.info.outcome, answer.place
    if outcome.kind != "exception" or place is None or not 0 <= outcome.file < len(recording.files):
        return False
    return place.file == recording.files[outcome.file].name and place.line <= outcome.line <= place.end_line
