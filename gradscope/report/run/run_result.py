"""One run as formats get it: the recording, and the report, computed once and only if one asks for it."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.report_model import Report
from gradscope.analysis.view import RunView
from gradscope.recording import Recording


class RunResult:
    """What was observed of a run, and what was asked to be seen of it."""

    def __init__(self, recording: Recording, view: RunView) -> None:
        self.recording = recording
        self.view = view

    @cached_property
    def report(self) -> Report:
        """What the analyses found."""
        from gradscope.analysis.report_builder import build

        return build(self.recording, self.view)
