"""JSON Schema of ``gradscope whatif -f json``."""

from __future__ import annotations

from gradscope.analysis.whatif.whatif_model import WhatIf
from gradscope.report.json_schema import Schema, document_schema
from gradscope.report.whatif import whatif_formats


def whatif_schema() -> Schema:
    """Schema of the document."""
    head = {
        "format": {"const": whatif_formats.FORMAT},
        "version": {"const": whatif_formats.VERSION},
        "outcome": {"enum": ["breaks", "holds"], "description": "Whether a variant breaks something."},
    }
    return document_schema(whatif_formats.FORMAT, WhatIf, head)
