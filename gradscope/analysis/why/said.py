"""What is said to a question, before it is laid out."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.report_model import Answer, Cause, Place, Severity


class Said(NamedTuple):
    """An answer in words, and the lines that it leads to."""

    text: str
    found: bool = True
    code: str = ""
    severity: Severity | None = None
    causes: tuple[Cause, ...] = ()
    advice: str = ""
    place: Place | None = None
    whole: str = ""
    """The sentence of the diagnosis that it rests on, as a report has it."""

    @classmethod
    def of_finding(cls, code: str, finding: Finding, before: str) -> Said:
        """What a diagnosis finds about one tensor, though it is not reported of the run, behind what was seen."""
        text = finding.sentence.removesuffix(finding.advice).rstrip()
        severity = finding.severity or "problem"
        return cls(f"{before} {text}", True, code, severity, finding.causes, finding.advice, finding.place)

    @classmethod
    def of_answer(cls, answer: Answer, before: str = "") -> Said:
        """What a diagnosis says, behind what was seen."""
        text = answer.text.removesuffix(answer.advice).rstrip()
        return cls(
            text=f"{before}{' ' if before else ''}{text}",
            code=answer.code,
            severity=answer.severity,
            causes=answer.causes,
            advice=answer.advice,
            place=answer.place,
            whole=answer.text,
        )
