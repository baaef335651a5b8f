"""Sizes for people; exact bytes stay in the data."""

from __future__ import annotations

import re

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def size(nbytes: int) -> str:
    """``8 B``, ``1.5 KiB``, ``32.0 MiB``."""
    if abs(nbytes) < 1024:
        return f"{nbytes} B"
    import humanize  # only here: a snippet has no such sizes, and its start-up does without

    return humanize.naturalsize(nbytes, binary=True, format="%.1f")


def bytes_in(text: str) -> int | None:
    """The bytes that ``10 MB``, ``1.5 GiB`` or ``512`` stand for; None where it is no size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text, re.IGNORECASE)
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()]) if found else None
