"""What was run, as JSON in a file and back, each field checked for its type."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, TypeVar

from gradscope.recording.model import FORMAT, Outcome, RunInfo

InfoT = TypeVar("InfoT", RunInfo, Outcome)


def info_to_json(info: RunInfo) -> dict[str, Any]:
    """The fields as JSON types."""
    return {"format": FORMAT, **asdict(info)}


def info_from_json(found: dict[str, Any]) -> RunInfo:
    """The fields from JSON types; one that an older gradscope did not write has its default.

    Raises:
        ValueError: Something is of another type.
    """
    if found.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    outcome = found.get("outcome")
    if not isinstance(outcome, dict):
        raise ValueError("it says nothing of how the run ended")
    info = _filled(RunInfo(), {name: value for name, value in found.items() if name != "outcome"})
    info.outcome = _filled(Outcome(), outcome)
    if not all(isinstance(text, str) for text in (*info.argv, *info.remarks)):
        raise ValueError("its argv or its remarks are not text")
    return info


def _filled(described: InfoT, found: dict[str, Any]) -> InfoT:
    for field in fields(described):
        value = found.get(field.name, getattr(described, field.name))
        expected = (int, type(None)) if field.name == "exit_code" else type(getattr(described, field.name))
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
            raise ValueError(f"its {field.name} is not as expected")
        setattr(described, field.name, value)
    return described
