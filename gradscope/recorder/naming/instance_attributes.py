"""The attributes and the class of an object itself, without running any code of the program's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def attributes_of(value: Any) -> dict[str, Any]:
    """The instance dictionary, as object itself would give it; empty where there is none."""
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def is_one_of(kind: type, kinds: Iterable[type]) -> bool:
    """Whether a class is one of some; ``in`` would ask the class of the class what it equals."""
    return any(kind is one for one in kinds)
