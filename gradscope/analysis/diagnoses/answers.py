"""From a recording's facts to the sentences of its report: all that the catalogue finds, problems first."""

from __future__ import annotations

from gradscope.analysis.diagnoses.catalogue import diagnoses_for
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Answer

_ORDER = ("problem", "warning", "note")


def find_answers(sources: Sources) -> tuple[Answer, ...]:
    """Every answer that the recording gives, each sentence once."""
    found = [
        known.answer(finding) for known in diagnoses_for(sources.index.recording) for finding in known.find(sources)
    ]
    unique = {(answer.code, answer.text): answer for answer in found}
    return tuple(sorted(unique.values(), key=lambda answer: _ORDER.index(answer.severity)))
