"""What ``@pytest.mark.gradscope(...)`` says of a test: which answers it must not have, and how much it may save."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Place, Report
from gradscope.analysis.selection.codes import checked_grounds, failing
from gradscope.analysis.sizes import bytes_in
from gradscope.errors import UsageError
from gradscope.recording import Recording

MARKER = "gradscope"
_WHERE = "@pytest.mark.gradscope"
_KNOWN = ("no", "max_saved", "max_peak")


class Expected(NamedTuple):
    """What all markers of a test say together."""

    no: frozenset[str]
    """Codes, and severities that stand for all that are no better."""
    max_saved: int | None
    """Bytes that may be kept for backward over the whole test."""
    max_peak: int | None
    """Bytes of tensors that may be in use at one time."""

    def broken(self, recording: Recording) -> str:
        """What does not hold, a line each; empty where all does."""
        report = build(recording)
        return "\n".join([*self._answers(report), *self._sizes(report)])

    def _answers(self, report: Report) -> Iterable[str]:
        for answer in failing(report.answers, self.no):
            yield f"{answer.severity}: {answer.text} [{answer.code}]"

    def _sizes(self, report: Report) -> Iterable[str]:
        memory = report.memory
        if self.max_saved is not None and memory.saved_bytes > self.max_saved:
            worst = max(memory.lines, key=lambda line: line.saved_bytes)
            most = f"{worst.saved_bytes:,} of them{_at(worst.place)}"
            yield f"{memory.saved_bytes:,} bytes were saved for backward ({most}), and max_saved is {self.max_saved:,}"
        if self.max_peak is not None and memory.peak_bytes > self.max_peak:
            peak = f"{memory.peak_bytes:,} bytes of tensors were in use{_at(memory.peak_place)}"
            yield f"{peak}, and max_peak is {self.max_peak:,}"


def _at(place: Place | None) -> str:
    return f" at line {place.line}" if place is not None and place.line else ""


def expected(markers: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Expected:
    """What markers say together: all codes, and the least of the limits. One that says nothing means no problem.

    Args:
        markers: The positional and the named arguments of each.

    Raises:
        UsageError: One says something that is not known.
    """
    codes: list[str] = []
    limits: dict[str, int] = {}
    for positional, named in markers:
        unknown = [name for name in named if name not in _KNOWN]
        if positional or unknown:
            what = unknown[0] if unknown else repr(positional[0])
            raise UsageError(f"{_WHERE}: {what} is not known", f"it takes {', '.join(f'{name}=' for name in _KNOWN)}")
        given = named.get("no", () if named else "problem")
        codes += [given] if isinstance(given, str) else given
        for name in ("max_saved", "max_peak"):
            if name in named:
                limits[name] = min(_bytes(name, named[name]), limits.get(name, _bytes(name, named[name])))
    return Expected(checked_grounds(codes, f"{_WHERE} no"), limits.get("max_saved"), limits.get("max_peak"))


def _bytes(name: str, value: Any) -> int:
    found = value if isinstance(value, int) else bytes_in(str(value))
    if found is None:
        raise UsageError(f"{_WHERE}: {name}={value!r} is no size", "write a number of bytes, or '10 MB', '1.5 GiB'")
    return found
