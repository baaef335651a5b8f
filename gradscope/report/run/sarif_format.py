"""SARIF 2.1.0: the answers as GitHub's code scanning, editors and other viewers of static analyses read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any, TextIO

from gradscope.analysis.report_model import Answer, Cause, Place, Report, SuppressedAnswer, SuppressedBy
from gradscope.report.run.answer_beside import text_beside
from gradscope.report.run.run_result import RunResult
from gradscope.report.sarif_parts import LEVELS, RULES, artifact, log, rules
from gradscope.report.screen.text import safe

_SUPPRESSIONS: dict[SuppressedBy, dict[str, str]] = {
    "comment": {"kind": "inSource", "justification": "# gradscope: ignore"},
    "baseline": {"kind": "external", "justification": "accepted in the baseline"},
}
"""What was not selected is no result at all."""


def write(result: RunResult, stream: TextIO) -> None:
    """Write the answers, those as well that a comment or a baseline holds back, marked as suppressed."""
    stream.write(json.dumps(_document(result.report), indent=1) + "\n")


def _document(report: Report) -> dict[str, Any]:
    driver = {
        "name": "gradscope",
        "semanticVersion": report.run.gradscope,
        "rules": rules(),
    }
    run = {
        "tool": {"driver": {name: value for name, value in driver.items() if value}},
        "invocations": [_invocation(report)],
        "columnKind": "unicodeCodePoints",
        "results": [*map(_result, report.answers), *_suppressed(report.suppressed)],
    }
    return log(run)


def _invocation(report: Report) -> dict[str, Any]:
    run = report.run
    known: dict[str, Any] = {"executionSuccessful": not report.faults}
    if run.started_at:
        known["startTimeUtc"] = run.started_at.replace("+00:00", "Z")
    if run.exit_code is not None:
        known["exitCode"] = run.exit_code
    return known


def _suppressed(rows: tuple[SuppressedAnswer, ...]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.by in _SUPPRESSIONS:
            yield _result(row.answer) | {"suppressions": [_SUPPRESSIONS[row.by]]}


def _result(answer: Answer) -> dict[str, Any]:
    """The line to change is the result's; the others, and where it shows, are related to it."""
    places: list[tuple[Cause | Place, str]] = [(cause, cause.role) for cause in answer.causes]
    if answer.place is not None and all(
        (answer.place.file, answer.place.line) != (cause.file, cause.line) for cause in answer.causes
    ):
        places.append((answer.place, "where it shows"))
    places = [place for place in places if place[0].line]
    result = {
        "ruleId": answer.code,
        "ruleIndex": RULES[answer.code],
        "level": LEVELS[answer.severity],
        "message": {"text": safe(text_beside(answer, places[0][0]) if places else answer.text)},
        "locations": [_location(*place) for place in places[:1]],
        "partialFingerprints": {"gradscope/v1": _fingerprint(answer)},
    }
    if places[1:]:
        result["relatedLocations"] = [_location(*place) | {"id": n} for n, place in enumerate(places[1:], 1)]
    return result


def _location(where: Cause | Place, role: str) -> dict[str, Any]:
    region: dict[str, Any] = {"startLine": where.line, "endLine": max(where.line, where.end_line)}
    if isinstance(where, Cause) and where.columns:
        lines = where.source.split("\n")
        region["startColumn"] = _column(lines[0], where.columns[0])
        region["endColumn"] = _column(lines[-1], where.columns[1])
    if where.source:
        region["snippet"] = {"text": where.source}
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": artifact(where.file), "region": region}}
    if where.function:
        location["logicalLocations"] = [{"fullyQualifiedName": where.function}]
    return location | {"message": {"text": role}}


def _column(line: str, offset: int) -> int:
    """A column as SARIF counts them: from 1, in characters."""
    return len(line.encode("utf-8", "surrogatepass")[:offset].decode("utf-8", "replace")) + 1


def _fingerprint(answer: Answer) -> str:
    """What stays the same when lines above the place come or go."""
    where = answer.causes[0] if answer.causes else answer.place
    parts = [answer.code, *((where.file, where.function, " ".join(where.source.split())) if where else ())]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
