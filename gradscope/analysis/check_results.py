"""What ``gradscope check`` found: inert data that the formats in :mod:`gradscope.report` write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["holds", "fails", "raises", "never ran"]


@dataclass(frozen=True)
class Part:
    """A sub-expression of an expectation, and what it gave."""

    expression: str
    value: str
    """Its ``repr`` on one line, cut where it is long; of a large tensor only shape, dtype and the like."""


@dataclass(frozen=True)
class Failure:
    """One evaluation of an expectation that gave something false, or raised."""

    evaluation: int
    """Which evaluation it was, from 1."""
    error: str
    """Type and message of what it raised; empty where it gave something false."""
    parts: tuple[Part, ...]
    """In source order, the whole before its parts; only what was evaluated."""


@dataclass(frozen=True)
class Expectation:
    """One ``# expect:`` comment or one ``-e`` expression, and how it fared."""

    expression: str
    line: int
    """Line of the comment; 0 for ``-e``."""
    evaluations: int
    failures: int
    """Evaluations that gave something false or raised."""
    first_failure: Failure | None = None

    @property
    def verdict(self) -> Verdict:
        """``never ran`` is a failure too."""
        if self.first_failure is not None:
            return "raises" if self.first_failure.error else "fails"
        return "holds" if self.evaluations else "never ran"


@dataclass(frozen=True)
class FailingAnswer:
    """An answer of the report on a target for which the target fails: ``--fail-on``."""

    code: str
    severity: str
    text: str
    file: str
    line: int
    """The line to change, where it is known, else where the answer is placed; 0 for none."""


@dataclass(frozen=True)
class TargetCheck:
    """One target that was run."""

    target: str
    """As the user named it, or as it was found in a folder."""
    file: str
    """For people: the path, ``<string>``, ``<stdin>``."""
    expectations: tuple[Expectation, ...]
    failure: str = ""
    """How the target itself failed: ``ValueError: …``, ``exit status 3``, ``killed by SIGSEGV``; empty: it did not."""
    failure_line: int = 0
    """Where it was raised in ``file``; 0 where that is elsewhere or unknown."""
    traceback: str = ""
    output: str = ""
    """What it printed."""
    answers: tuple[FailingAnswer, ...] = ()
    """The most harmful first; only with ``--fail-on``."""

    @property
    def failed(self) -> tuple[Expectation, ...]:
        """The expectations that do not hold or never ran."""
        return tuple(item for item in self.expectations if item.verdict != "holds")

    @property
    def passed(self) -> bool:
        """Whether it ended well, everything holds, and no answer is a ground to fail."""
        return not (self.failure or self.failed or self.answers)


@dataclass(frozen=True)
class CheckReport:
    """All targets of one call."""

    targets: tuple[TargetCheck, ...]
    seconds: float = 0.0
    """Wall time of the whole."""

    @property
    def passed(self) -> bool:
        """Whether every target passed."""
        return all(target.passed for target in self.targets)

    def count(self, *verdicts: Verdict) -> int:
        """Expectations with one of these verdicts."""
        return sum(item.verdict in verdicts for target in self.targets for item in target.expectations)


def expectation_from(data: dict[str, Any]) -> Expectation:
    """The expectation that :func:`dataclasses.asdict` made this of."""
    failure = data["first_failure"]
    if failure is not None:
        failure = Failure(failure["evaluation"], failure["error"], tuple(Part(**part) for part in failure["parts"]))
    return Expectation(**{**data, "first_failure": failure})
