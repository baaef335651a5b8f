"""JSON Schema of ``gradscope check -f json``."""

from __future__ import annotations

from typing import get_args

from gradscope.analysis.check_results import Expectation, TargetCheck, Verdict
from gradscope.report.check import check_formats
from gradscope.report.json_schema import DIALECT, Schema, object_schema

_OUTCOME = {"enum": ["passed", "failed"]}


def check_schema() -> Schema:
    """Schema of the document."""
    definitions: dict[str, Schema] = {}
    target = object_schema(TargetCheck, definitions, {"outcome": _OUTCOME})
    definitions["Expectation"] = object_schema(Expectation, definitions, {"verdict": {"enum": list(get_args(Verdict))}})
    counts = {name: {"type": "integer"} for name in check_formats.COUNTED}
    summary = counts | {"seconds": {"type": "number", "description": "Wall time of the whole."}}
    properties = {
        "format": {"const": check_formats.FORMAT},
        "version": {"const": check_formats.VERSION},
        "outcome": _OUTCOME,
        "targets": {"type": "array", "items": target},
        "summary": {"type": "object", "properties": summary, "required": list(summary)},
    }
    return {
        "$schema": DIALECT,
        "title": check_formats.FORMAT,
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "$defs": definitions,
    }
