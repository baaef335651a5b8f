"""JSON Schema of ``gradscope compare -f json``."""

from __future__ import annotations

from gradscope.analysis.comparison.comparison_model import Comparison
from gradscope.report.compare import compare_formats
from gradscope.report.json_schema import Schema, document_schema


def compare_schema() -> Schema:
    """Schema of the document."""
    head = {
        "format": {"const": compare_formats.FORMAT},
        "version": {"const": compare_formats.VERSION},
        "outcome": {"enum": ["different", "same"], "description": "Whether something that was measured differs."},
    }
    return document_schema(compare_formats.FORMAT, Comparison, head)
