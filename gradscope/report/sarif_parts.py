"""What every log in SARIF 2.1.0 has: its frame, the catalogue as rules, and how a file is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gradscope.analysis.diagnoses.catalogue import every_diagnosis
from gradscope.analysis.diagnoses.diagnosis import Diagnosis
from gradscope.analysis.report_model import Severity

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS: dict[Severity, str] = {"problem": "error", "warning": "warning", "note": "note"}
_ROOT = "%SRCROOT%"
RULES = {known.code: number for number, known in enumerate(every_diagnosis())}

"""The position of each code among the rules."""


def log(run: dict[str, Any]) -> dict[str, Any]:
    """The document with one run."""
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def rules() -> list[dict[str, Any]]:
    """The catalogue."""
    return [_rule(known) for known in every_diagnosis()]


def artifact(file: str) -> dict[str, str]:
    """A file, below the root of the sources where its path is relative."""
    path = Path(os.path.normpath(file))
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix(), errors="replace"), "uriBaseId": _ROOT}


def _rule(known: Diagnosis) -> dict[str, Any]:
    meaning, reason, remedy = (" ".join(part.split()) for part in known.explanation)
    return {
        "id": known.code,
        "shortDescription": {"text": known.title},
        "fullDescription": {"text": meaning},
        "help": {"text": f"{meaning}\n\nWhy torch behaves so: {reason}\n\nHow to mend it: {remedy}"},
        "defaultConfiguration": {"level": LEVELS[known.severity]},
    }
