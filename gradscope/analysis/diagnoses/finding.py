"""One case of a diagnosis, and how it becomes a sentence."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.report_model import Cause, Evidence, Place, Severity


class Finding(NamedTuple):
    """One case of a diagnosis in one recording."""

    subject: str
    """What it is about: a name, or several."""
    symptom: str
    """What was seen, and at which line; a clause without its full stop."""
    why: str
    """What it comes from; empty where the symptom says all."""
    causes: tuple[Cause, ...]
    """The line to change first, then those that contribute."""
    evidence: tuple[Evidence, ...]
    """The rows that the sentence rests on."""
    place: Place
    tensor: str
    """The first of the tensors that it is about."""
    advice: str = ""
    """What to do about it: a sentence; empty unless a rule knows that it helps."""
    severity: Severity | None = None
    """Where it is another than the diagnosis's own."""

    @property
    def sentence(self) -> str:
        """All of it, as people read it."""
        why = f": {self.why}" if self.why else ""
        return f"{self.symptom}{why}.{' ' if self.advice else ''}{self.advice}"
