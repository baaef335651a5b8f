"""Results as JSON types, and JSON as text: RFC 8259 to the letter, whatever a program has in its texts.

Floats that JSON does not know are objects: ``{"$float": "nan"}``, ``{"$float": "inf"}``, ``{"$float": "-inf"}``. The
text is ASCII, so it survives any locale and no terminal obeys anything in it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

FLOAT_TAG = "$float"


def plain(value: Any) -> Any:
    """A value of a report as JSON types: named tuples as objects, other tuples as arrays.

    Raises:
        TypeError: It is of no such type.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {FLOAT_TAG: str(value)}
    if is_record(type(value)):
        return {name: plain(item) for name, item in zip(value._fields, value, strict=True)}
    if is_array(value):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    raise TypeError(f"{type(value).__name__} is no JSON type")


def is_array(value: Any) -> bool:
    """Whether a value is an array in JSON."""
    return isinstance(value, (tuple, list)) and not is_record(type(value))


def is_record(kind: Any) -> bool:
    """Whether a type is a named tuple, whose values are objects in JSON."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def to_text(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(plain(value), allow_nan=False)


def write_object(items: Mapping[str, Any], stream: TextIO) -> None:
    """Write one object over several lines: a line a value, and in arrays a line an element."""
    separator = "{\n"
    for key, value in items.items():
        stream.write(f"{separator} {to_text(key)}: ")
        separator = ",\n"
        if is_array(value) and value:
            _write_array(value, stream)
        else:
            stream.write(to_text(value))
    stream.write("\n}\n")


def _write_array(values: Iterable[Any], stream: TextIO) -> None:
    separator = "[\n"
    for value in values:
        stream.write(f"{separator}  {to_text(value)}")
        separator = ",\n"
    stream.write("\n ]")


def write_lines(records: Iterator[Mapping[str, Any]], stream: TextIO) -> None:
    """Write one object a line."""
    for record in records:
        stream.write(to_text(dict(record)) + "\n")
