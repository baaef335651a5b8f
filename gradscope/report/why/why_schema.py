"""JSON Schema of ``gradscope why -f json``."""

from __future__ import annotations

from gradscope.analysis.why.why_model import WhyAnswer
from gradscope.report.json_schema import Schema, document_schema
from gradscope.report.why import why_formats


def why_schema() -> Schema:
    """Schema of the document."""
    head = {
        "format": {"const": why_formats.FORMAT},
        "version": {"const": why_formats.VERSION},
        "outcome": {"enum": ["answered", "open"]},
    }
    return document_schema(why_formats.FORMAT, WhyAnswer, head)
