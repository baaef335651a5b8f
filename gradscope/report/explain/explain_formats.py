"""The catalogue of diagnoses as JSON, and as the page ``gradscope/docs/diagnoses.md``."""

from __future__ import annotations

import json
from collections.abc import Sequence

from gradscope.analysis.diagnoses.diagnosis import Diagnosis
from gradscope.analysis.edits.edit_catalogue import editable_codes

_HEAD = """\
# Diagnoses

What gradscope says about a run, each under a permanent code; the codes are the same on the screen (in brackets), in
JSON (`answers[].code`) and for `gradscope explain CODE`, which runs the example and shows what was measured. This page
is made by `gradscope explain -f markdown`.

"""


def to_json(catalogue: Sequence[Diagnosis]) -> str:
    """An array of objects: code, title, severity, meaning, reason, remedy, example, healthy, has_edit."""
    rows = [
        {
            "code": known.code,
            "title": known.title,
            "severity": known.severity,
            **{name: _flowing(text) for name, text in known.explanation._asdict().items()},
            "example": known.example.shows,
            "healthy": known.example.healthy,
            "has_edit": known.code in editable_codes(),
        }
        for known in catalogue
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def to_markdown(catalogue: Sequence[Diagnosis]) -> str:
    """A page with a table of the codes and a section for each."""
    rows = [f"| [`{known.code}`](#{known.code}) | {known.severity} | {known.title} |" for known in catalogue]
    table = "\n".join(["| code | severity | |", "| --- | --- | --- |", *rows])
    return _HEAD + table + "\n\n" + "\n".join(map(_section, catalogue))


def _section(known: Diagnosis) -> str:
    meaning, reason, remedy = map(_flowing, known.explanation)
    example = known.example
    return (
        f"## {known.code}\n\n*{known.title}* ({known.severity})\n\n{meaning}\n\n**Why torch behaves so.** {reason}\n\n"
        f"**How to mend it.** {remedy}\n\n```python\n{example.shows.rstrip()}\n```\n\n"
        f"Silent with this in place of `{example.instead_of}`:\n\n```python\n{example.silent}\n```\n"
    )


def _flowing(text: str) -> str:
    """A paragraph on one line."""
    return " ".join(text.split())
