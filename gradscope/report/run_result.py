"""One run as formats get it: the recording, and the report, computed once and only if one asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from gradscope.analysis.report_model import Report
from gradscope.analysis.view import RunView
from gradscope.recording import Recording


@dataclass(frozen=True)
class RunResult:
    """What was observed of a run, and what was asked to be seen of it."""

    recording: Recording
    view: RunView

    @cached_property
    def report(self) -> Report:
        """What the analyses found."""
        from gradscope.analysis.report_builder import build

        return build(self.recording, self.view)
