"""Names in a sentence."""

from __future__ import annotations

from itertools import takewhile

NAMES_LISTED = 4


def listed(texts: list[str]) -> str:
    """``a, b and 3 more``; ``net.encoder.* (8)`` for many with one beginning."""
    texts = list(dict.fromkeys(texts))
    if len(texts) >= NAMES_LISTED:
        paths = [text.split(".") for text in texts]
        shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
        if beginning := ".".join(parts[0] for parts in shared):
            return f"{beginning}.* ({len(texts)})"
    if len(texts) > NAMES_LISTED:
        return f"{', '.join(texts[: NAMES_LISTED - 1])} and {len(texts) - NAMES_LISTED + 1} more"
    return " and ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))
