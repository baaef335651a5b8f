"""JSON Schema of ``gradscope fix -f json``."""

from __future__ import annotations

from gradscope.experiments.fix.fix_model import FixReport
from gradscope.report.fix import fix_formats
from gradscope.report.json_schema import Schema, document_schema


def fix_schema() -> Schema:
    """Schema of the document."""
    head = {
        "format": {"const": fix_formats.FORMAT},
        "version": {"const": fix_formats.VERSION},
        "outcome": {"enum": ["offered", "none"]},
    }
    return document_schema(fix_formats.FORMAT, FixReport, head)
