"""JSON Schemas (2020-12) of what gradscope writes, made from the classes that it writes: they cannot go stale.

They are open: a reader must ignore keys that it does not know, since later versions add some.
"""

from __future__ import annotations

import types
from dataclasses import is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gradscope.analysis.report_model import Report
from gradscope.recording.field_docs import field_docs
from gradscope.report.json_values import FLOAT_TAG, is_record
from gradscope.report.run import json_format, jsonl_format

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_PLAIN: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    type(None): {"type": "null"},
    float: {
        "anyOf": [
            {"type": "number"},
            {
                "type": "object",
                "properties": {FLOAT_TAG: {"enum": ["nan", "inf", "-inf"]}},
                "required": [FLOAT_TAG],
                "description": "A float that JSON does not know.",
            },
        ]
    },
}


def run_schema() -> Schema:
    """Schema of ``gradscope run -f json``."""
    return document_schema(json_format.FORMAT, Report, _head())


def run_lines_schema() -> Schema:
    """Schema of each line of ``gradscope run -f jsonl``."""
    definitions: dict[str, Schema] = {}
    records = []
    for part, hint in get_type_hints(Report).items():
        item = get_args(hint)[0] if get_origin(hint) is tuple else hint
        described = _record(item, definitions)
        kind = {jsonl_format.TYPE: {"const": jsonl_format.record_type(part)}}
        added = kind | (_head() if part == "run" else {})
        records.append(
            {
                "type": "object",
                "description": field_docs(Report).get(part, "") or described["description"],
                "properties": added | described["properties"],
                "required": [*added, *described["required"]],
            }
        )
    return {
        "$schema": DIALECT,
        "title": f"{json_format.FORMAT} (one line)",
        "oneOf": records,
        "$defs": definitions,
    }


def document_schema(title: str, described: type, added: Schema) -> Schema:
    """Schema of a document that has the fields of a class, behind keys of its own."""
    definitions: dict[str, Schema] = {}
    document = object_schema(described, definitions, added)
    return {"$schema": DIALECT, "title": title, **document, "$defs": definitions}


def type_schema(hint: Any, definitions: dict[str, Schema]) -> Schema:
    """Schema of a type; named tuples and dataclasses are added to the definitions.

    Raises:
        TypeError: It is none that a report may have.
    """
    if hint in _PLAIN:
        return _PLAIN[hint]
    if is_record(hint) or is_dataclass(hint):
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}
            definitions[hint.__name__] = object_schema(hint, definitions)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple and inner[1:] == (...,):
        return {"type": "array", "items": type_schema(inner[0], definitions)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [type_schema(one, definitions) for one in inner]}
    raise TypeError(f"{hint} has no place in a report")


def _head() -> dict[str, Schema]:
    return {
        "format": {"const": json_format.FORMAT},
        "version": {"const": json_format.VERSION},
        "outcome": {"type": "string", "description": "How the run ended, as in run.outcome."},
    }


def _record(hint: Any, definitions: dict[str, Schema]) -> Schema:
    if hint is str:
        return {"description": "", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    return object_schema(hint, definitions)


def object_schema(described: type, definitions: dict[str, Schema], added: Schema | None = None) -> Schema:
    """Schema of a named tuple or a dataclass, with keys that are written before its fields."""
    docs, hints = field_docs(described), get_type_hints(described)
    properties: dict[str, Schema] = dict(added or {})
    for name, hint in hints.items():
        doc = {"description": docs[name]} if name in docs else {}
        properties[name] = type_schema(hint, definitions) | doc
    return {
        "type": "object",
        "description": " ".join((described.__doc__ or "").split()),
        "properties": properties,
        "required": list(properties),
    }
