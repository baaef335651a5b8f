"""JSON below a number of characters: rows as many as fit, and what is too long by itself shortened, both said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_STEPS = ((200, 4_000), (50, 1_000), (20, 400), (8, 200), (3, 80), (1, 40))
"""Items kept of a list and characters of a text, tried one after the other."""
_MARK = 60
"""Characters of a mark that stands for what was left out, and of the comma before it."""


def as_text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def fitting(value: dict[str, Any], limit: int) -> dict[str, Any]:
    """An object of at most so many characters: as it is, else with its long lists and texts shortened."""
    if len(as_text(value)) <= limit:
        return value
    for items, characters in _STEPS:
        cut = {"shortened": f"lists to {items} items, texts to {characters} characters"}
        shorter = {**_shortened(value, items, characters), **cut}
        if len(as_text(shorter)) <= limit:
            return shorter
    return {"shortened": "to its keys: the whole is too long", "keys": [str(key)[:_MARK] for key in list(value)[:40]]}


def page(rows: Sequence[Any], first: int, limit: int) -> dict[str, Any]:
    """The rows from a position on, as many as fit, at least one; with ``next`` where there are more."""
    shown: list[Any] = []
    room = limit
    for row in rows[first:]:
        length = len(as_text(row)) + 1
        if length > room:
            if not shown:
                shown.append(fitting(row, limit) if isinstance(row, dict) else str(row)[:limit])
            break
        shown.append(row)
        room -= length
    after = first + len(shown)
    found: dict[str, Any] = {"rows": len(rows), "first": first, "shown": shown}
    return found | ({"next": after} if after < len(rows) else {})


def tail(text: str, characters: int) -> str:
    """The end of a text, which is where an error stands."""
    return (
        text if len(text) <= characters else f"… {len(text) - characters} characters left out …\n{text[-characters:]}"
    )


def _shortened(value: Any, items: int, characters: int) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(one, items, characters) for key, one in value.items()}
    if isinstance(value, list):
        kept = [_shortened(one, items, characters) for one in value[:items]]
        return [*kept, f"… {len(value) - items} more"] if len(value) > items else kept
    if isinstance(value, str) and len(value) > characters:
        return f"{value[:characters]}… {len(value) - characters} characters more"
    return value
