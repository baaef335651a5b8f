"""``gradscope check`` in SARIF 2.1.0: what failed, for code scanning and for editors."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from gradscope.analysis.check_results import CheckReport, TargetCheck
from gradscope.report.check.check_words import sentence
from gradscope.report.sarif_parts import LEVELS, RULES, artifact, log, rules
from gradscope.report.screen.text import safe
from gradscope.version import VERSION

EXPECTATION, FAILED = "expectation", "program-failed"
"""Rules beside the catalogue's."""
_OWN_RULES = [
    {
        "id": EXPECTATION,
        "shortDescription": {"text": "An expectation does not hold"},
        "fullDescription": {"text": "What a comment # expect: EXPR or an option -e states did not hold, or never ran."},
        "defaultConfiguration": {"level": "error"},
    },
    {
        "id": FAILED,
        "shortDescription": {"text": "The program failed"},
        "fullDescription": {"text": "It raised, exited with a status other than 0, or was ended."},
        "defaultConfiguration": {"level": "error"},
    },
]
_POSITIONS = {**RULES, EXPECTATION: len(RULES), FAILED: len(RULES) + 1}


def as_sarif(report: CheckReport) -> str:
    """A result a failure: of a program, an expectation, or an answer of ``--fail-on``."""
    driver = {"name": "gradscope", "semanticVersion": VERSION, "rules": [*rules(), *_OWN_RULES]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [result for target in report.targets for result in _results(target)],
    }
    return json.dumps(log(run), indent=1) + "\n"


def _results(target: TargetCheck) -> list[dict[str, Any]]:
    file = target.file.partition("::")[0]
    found = []
    if target.failure:
        found.append(_result(FAILED, "error", target.failure, file, target.failure_line))
    for item in target.failed:
        found.append(_result(EXPECTATION, "error", f"{item.expression}: {sentence(item)}", file, item.line))
    for answer in target.answers:
        level = LEVELS[answer.severity]  # type: ignore[index]
        found.append(_result(answer.code, level, answer.text, answer.file, answer.line))
    return found


def _result(rule: str, level: str, text: str, file: str, line: int) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": artifact(file)}
    if line:
        place["region"] = {"startLine": line}
    known = hashlib.sha256("\0".join((rule, file, text)).encode("utf-8", "replace")).hexdigest()[:32]
    return {
        "ruleId": rule,
        "ruleIndex": _POSITIONS[rule],
        "level": level,
        "message": {"text": safe(" ".join(text.split()))},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"gradscope/v1": known},
    }
