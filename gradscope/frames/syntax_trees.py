"""The syntax tree of a file's text, parsed once for all who look at it."""

from __future__ import annotations

import ast
from functools import lru_cache


@lru_cache(maxsize=16)
def parsed(text: str) -> ast.Module | None:
    """The tree, which nobody changes; None where the text is no Python (a notebook, a file that changed meanwhile)."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
