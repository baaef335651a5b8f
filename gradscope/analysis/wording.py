"""Names in a sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from itertools import accumulate, takewhile

NAMES_LISTED = 4

BEFORE = " before"
"""Behind a name: the tensor that it was the name of before a line gave it to another."""

_PART = r"\[[^]]*\]|\.?[^.\[]+"
"""``net``, ``.fc`` and ``[0]`` of ``net.fc[0]``."""


def listed(texts: Collection[str], others: Collection[str] = ()) -> str:
    """``a, b and 3 more``; ``net.encoder.* (8)`` for many with one beginning.

    Args:
        texts: The names; nothing is said of none. One that comes more than once is said once, and a number that stands
            for names counts it as often (two models may both be called ``net``).
        others: Further names that exist: what one beginning stands for holds none of them.
    """
    if not texts:
        return ""
    counts = Counter(texts)
    shown = list(counts.items())
    if len(counts) >= NAMES_LISTED:
        outside = {beginning for text in set(others).difference(counts) for beginning in accumulate(_parts(text))}
        shown = _shortened([_parts(text) for text in counts], outside, counts)
    if len(shown) > NAMES_LISTED:
        left = sum(count for _, count in shown[NAMES_LISTED - 1 :])
        return f"{', '.join(text for text, _ in shown[: NAMES_LISTED - 1])} and {left} more"
    words = [text for text, _ in shown]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _parts(text: str) -> list[str]:
    return [text] if text.startswith("<") or " " in text else re.findall(_PART, text)


def _shortened(paths: list[list[str]], outside: set[str], counts: Counter[str]) -> list[tuple[str, int]]:
    """Names that share a beginning which is theirs alone as one, and for how many tensors each stands."""
    if len(paths) == 1:
        return [("".join(paths[0]), counts["".join(paths[0])])]
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))]
    beginning = "".join(shared)
    if any(len(path) <= len(shared) for path in paths):
        return [("".join(path), counts["".join(path)]) for path in paths]
    if beginning and beginning not in outside:
        are_items = all("".join(path[len(shared) :]).startswith("[") for path in paths)
        total = sum(counts["".join(path)] for path in paths)
        return [(f"{beginning}{'[*]' if are_items else '.*'} ({total})", total)]
    alike: dict[str, list[list[str]]] = {}
    for path in paths:
        alike.setdefault(path[len(shared)], []).append(path)
    return [part for group in alike.values() for part in _shortened(group, outside, counts)]
