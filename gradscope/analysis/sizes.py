"""Sizes for people; exact bytes stay in the data."""

from __future__ import annotations


def size(nbytes: int) -> str:
    """``8 B``, ``1.5 KiB``, ``32.0 MiB``."""
    if abs(nbytes) < 1024:
        return f"{nbytes} B"
    import humanize  # only here: a snippet has no such sizes, and its start-up does without

    return humanize.naturalsize(nbytes, binary=True, format="%.1f")
