"""The attributes of an object itself, without running any code of its class."""

from __future__ import annotations

from typing import Any


def attributes_of(value: Any) -> dict[str, Any]:
    """The instance dictionary, as object itself would give it; empty where there is none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}
