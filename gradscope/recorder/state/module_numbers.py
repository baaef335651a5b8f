"""The numbers by which events speak of modules."""

from __future__ import annotations

import weakref
from itertools import count
from typing import Any

_known: dict[int, tuple[weakref.ref[Any], int]] = {}
"""By ``id``: a module may have no hash, or one of its own."""
_next = count()


def number_of_module(module: Any) -> int:
    """The number of a module, the same for as long as it lives."""
    held = _known.get(id(module))
    if held is None or held[0]() is not module:
        held = _known[id(module)] = (weakref.ref(module), next(_next))
    return held[1]
