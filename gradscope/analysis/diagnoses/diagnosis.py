"""What a diagnosis is, and what people are told about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Answer, Severity


class Explanation(NamedTuple):
    """A diagnosis for people who meet it for the first time; each part is one paragraph, however its lines break."""

    meaning: str
    """What was seen."""
    reason: str
    """Why torch behaves so."""
    remedy: str
    """How to mend it, or when there is nothing to mend."""


class Example(NamedTuple):
    """A program that shows a diagnosis, and what takes the diagnosis away."""

    shows: str
    """Source; it needs torch and nothing else, and ends by itself (an error of autograd's may end it)."""
    instead_of: str
    """One of its lines, without the blanks around it."""
    silent: str
    """What stands in place of that line in a program on which the diagnosis must stay silent."""

    @property
    def line(self) -> int:
        """The number of that line."""
        return next(n for n, line in enumerate(self.shows.split("\n"), 1) if line.strip() == self.instead_of)

    @property
    def healthy(self) -> str:
        """The program on which the diagnosis stays silent."""
        lines, position = self.shows.split("\n"), self.line - 1
        indent = lines[position][: len(lines[position]) - len(lines[position].lstrip())]
        lines[position : position + 1] = [f"{indent}{line}" for line in self.silent.split("\n")]
        return "\n".join(lines)


class Diagnosis(NamedTuple):
    """One kind of finding: a permanent code, how to find it, and what to say about it."""

    code: str
    """Permanent, kebab-case."""
    title: str
    severity: Severity
    explanation: Explanation
    example: Example
    find: Callable[[Sources], Iterable[Finding]]

    def answer(self, finding: Finding) -> Answer:
        """A finding as a report shows it."""
        return Answer(
            code=self.code,
            severity=finding.severity or self.severity,
            text=finding.sentence,
            place=finding.place,
            tensor=finding.tensor,
            subject=finding.subject,
            causes=finding.causes,
            evidence=finding.evidence,
            advice=finding.advice,
        )
